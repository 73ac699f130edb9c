"""Trying a declaration before anything runs: its functions, its expectations, and some rows of its source."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.contracts.use_case import Rule
from mage_platform.errors import ContractViolated, SourceInvalid, UseCaseInvalid
from mage_platform.features.admission import admitted
from mage_platform.features.vectors import build_vectors, labels
from mage_platform.settings import Settings
from mage_platform.sources import read_source, with_moments
from mage_platform.use_cases import declaration_of, parse, use_case_function
from mage_platform.use_cases.declaration import Declaration, Location, Mistake
from mage_platform.validation.expectations import RuleResult, check, fault
from mage_platform.validation.rows import validate

FEW = 1_000
"""Rows that a check reads."""
_EXPECTED = {"source": "(start, end)", "features": "(rows)"}


def check_use_case(settings: Settings, name: str, *, with_source: bool = True) -> tuple[UseCase, int | None]:
    """Check everything that can be told of a declaration before a pipeline runs.

    Args:
        settings: Where use cases lie, and how databases are reached.
        name: Of the use case.
        with_source: Whether to read a few rows and build vectors of them.

    Returns:
        The declaration, and how many rows were tried; None when the source was left alone.

    Raises:
        UseCaseNotFound: There is none of that name.
        UseCaseInvalid: One line for each mistake, with its line in the file, the value and what to write.
        DatabaseUnavailable: The database of a query does not answer.
    """
    declaration = declaration_of(settings, name)
    use_case = parse(declaration)
    mistakes = list(_still_mistakes(settings, declaration, use_case))
    rows = None
    if with_source and not any(each.field.startswith("source") for each in mistakes):
        try:
            rows = _few_rows(settings, use_case)
        except ContractViolated as error:
            mistakes.append(declaration.mistake(_source_at(use_case), str(error)))
        else:
            mistakes += list(_mistakes_beside(settings, declaration, use_case, rows, bool(mistakes)))
    if mistakes:
        raise declaration.invalid(mistakes)
    return use_case, None if rows is None else len(rows)


def try_rows(settings: Settings, use_case: UseCase, rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Validate rows and build the vectors of those that pass, as the ingest would; nothing is stored.

    Args:
        settings: Where use cases lie.
        use_case: The declaration.
        rows: As `load_rows` gives them.

    Returns:
        The vectors, and how many rows were refused.

    Raises:
        ValidationStopped, FeaturesInvalid, UseCaseInvalid: As the ingest would.
    """
    validated = validate(rows, use_case, run="trial")
    validated.raise_if_stopped(use_case)
    return admitted(use_case, build_vectors(settings, use_case, validated.passed)), len(validated.refused)


def _still_mistakes(settings: Settings, declaration: Declaration, use_case: UseCase) -> Iterator[Mistake]:
    folder, source = settings.use_cases_folder / use_case.name, use_case.source
    for part, reference in (("source", source.function), ("features", use_case.features.function)):
        if reference is not None and (problem := _function_problem(settings, use_case, part, reference)):
            yield declaration.mistake((part, "function"), problem)
    for field, file in (("file", source.file), ("query", source.query)):
        if file is not None and not (folder / file).is_file():
            there = sorted(each.name for each in folder.glob("*") if each.suffix in (".parquet", ".csv", ".sql"))
            found = f"the folder has {', '.join(there)}" if there else "the folder has no such file"
            yield declaration.mistake(("source", field), f"{folder / file} does not exist; {found}")
    for way, rule in _rules(use_case):
        if problem_and_place := fault(rule):
            argument, problem = problem_and_place
            yield declaration.mistake((*way, argument) if argument else way, problem)


def _function_problem(settings: Settings, use_case: UseCase, part: str, reference: str) -> str | None:
    try:
        function = use_case_function(settings, use_case, reference)
    except UseCaseInvalid as error:
        return str(error).removeprefix(f"use case {use_case.name}: ")
    expected = _EXPECTED[part]
    try:
        inspect.signature(function).bind(*([None] * (expected.count(",") + 1)))
    except TypeError as error:
        return f"{reference} is called as {reference.split(':')[1]}{expected}, and cannot be: {error}"
    return None


def _few_rows(settings: Settings, use_case: UseCase) -> pd.DataFrame:
    """Some rows as the source gives them. A function is asked for the last day, and for more where that has none."""
    if use_case.source.function is None:
        return read_source(settings, use_case, limit=FEW)
    end = use_case.training.test_until
    for days in (1, 30):
        rows = read_source(settings, use_case, start=end - timedelta(days=days + use_case.source.history_days), end=end)
        if len(rows):
            return rows
    return read_source(settings, use_case)


def _mistakes_beside(
    settings: Settings, declaration: Declaration, use_case: UseCase, rows: pd.DataFrame, already: bool
) -> Iterator[Mistake]:
    names = list(map(str, rows.columns))
    absent = [(way, column) for way, column in _named_columns(use_case) if column not in names]
    for way, column in absent:
        near = get_close_matches(column, names, n=1, cutoff=0.5)
        hint = f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(names)}"
        yield declaration.mistake(way, f"the source has no column {column!r}{hint}")
    if absent or already:
        return
    try:
        rows = with_moments(use_case, rows)
    except SourceInvalid as error:
        field = ("target", "known_at") if error.field == use_case.target.known_at else ("event_time",)
        yield declaration.mistake(field, str(error))
        return
    yield from _target_mistakes(declaration, use_case, rows)
    faulty = False
    for (way, _), result in zip(_rules(use_case), _results(use_case, rows), strict=True):
        if not result.evaluated:
            faulty = True
            yield declaration.mistake(way, f"cannot be evaluated on the source: {result.problem}")
    if not faulty:
        yield from _vector_mistakes(settings, declaration, use_case, rows)


def _results(use_case: UseCase, rows: pd.DataFrame) -> list[RuleResult]:
    return [*check(rows, use_case.expectations.rows), *check(rows, use_case.expectations.table)]


def _target_mistakes(declaration: Declaration, use_case: UseCase, rows: pd.DataFrame) -> Iterator[Mistake]:
    target = use_case.target
    if isinstance(target.positive, bool) and not pd.api.types.is_bool_dtype(
        rows[target.column].dropna().infer_objects()
    ):
        written = declaration.text_of(("target", "positive")) or str(target.positive)
        values = ", ".join(map(repr, rows[target.column].dropna().unique()[:4]))
        yield declaration.mistake(
            ("target", "positive"),
            f"YAML reads {written} as {str(target.positive).lower()}, and the column holds {values}: write it in "
            f"quotes, '{written}'",
        )
        return
    try:
        labels(use_case, rows)
    except ContractViolated as error:
        yield declaration.mistake(("target",), str(error))


def _vector_mistakes(
    settings: Settings, declaration: Declaration, use_case: UseCase, rows: pd.DataFrame
) -> Iterator[Mistake]:
    passed = validate(rows.reset_index(drop=True), use_case, run="trial").passed
    try:
        labels(use_case, passed)
    except ContractViolated:
        return  # told already
    try:
        admitted(use_case, build_vectors(settings, use_case, passed))
    except ContractViolated as error:
        yield declaration.mistake(_feature_at(use_case, error.field), str(error))
    except Exception as error:  # the use case's own code may raise anything
        at: Location = ("features", "function")
        yield declaration.mistake(at, f"{use_case.features.function} raised {type(error).__name__}: {error}")


def _feature_at(use_case: UseCase, field: str | None) -> Location:
    name = (field or "").removeprefix("features.")
    if name in use_case.features.columns:
        return ("features", "columns", name)
    return tuple((field or "features").split(".", 1))


def _source_at(use_case: UseCase) -> Location:
    given = [name for name in ("function", "file", "query") if getattr(use_case.source, name) is not None]
    return ("source", given[0])


def _rules(use_case: UseCase) -> Iterator[tuple[Location, Rule]]:
    for part in ("rows", "table"):
        for place, rule in enumerate(getattr(use_case.expectations, part)):
            yield ("expectations", part, place, next(iter(rule))), rule


def _named_columns(use_case: UseCase) -> Iterator[tuple[Location, str]]:
    for place, column in enumerate(use_case.entity.key):
        yield ("entity", "key", place), column
    for way, named in (
        (("event_time",), use_case.event_time),
        (("region",), use_case.region),
        (("target", "column"), use_case.target.column),
        (("target", "known_at"), use_case.target.known_at),
    ):
        if named is not None:
            yield way, named
    if use_case.features.function is None:
        for column in use_case.features.columns:
            yield ("features", "columns", column), column
    for rule_way, rule in _rules(use_case):
        for argument, value in next(iter(rule.values())).items():
            if argument in ("column", "column_A", "column_B") and isinstance(value, str):
                yield (*rule_way, argument), value
            elif argument == "column_list" and isinstance(value, list):
                yield from (((*rule_way, argument, place), str(each)) for place, each in enumerate(value))
