"""The proposal as a whole: from a table and the parts of its columns to everything a declaration says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from typing import Any

import pandas as pd

from mage_platform.contracts import TargetKind
from mage_platform.contracts.use_case import Rule
from mage_platform.proposal.columns import Profile
from mage_platform.proposal.features import choose_features
from mage_platform.proposal.roles import Roles
from mage_platform.proposal.windows import propose_window
from mage_platform.validation.expectations import RuleResult, check

EXCLUDED = ["DeepLearning", "XGBoost", "DRF"]
_MOST_LEVELS_OF_BASELINE = 50
_WORTHWHILE = {"binary": 0.52, "multiclass": 0.0, "regression": 0.01}


@dataclass(frozen=True)
class Proposal:
    """Everything that is written into the declaration."""

    name: str
    source: dict[str, str]
    """`file`, or `query` and perhaps `connection`."""
    roles: Roles
    features: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    """Why each other column is no feature."""
    row_rules: list[Rule]
    table_rules: list[Rule]
    maximum_bad_share: float
    refused: dict[str, int]
    """Rows of the table that a rule of keys refuses, by the name of the expectation."""
    window: dict[str, datetime]
    part_rows: dict[str, int]
    minimum_rows: int
    maximum_models: int
    naive_baseline: list[str]
    rows: int
    """Rows that were looked at."""
    complete: bool
    """Whether these were all."""
    warnings: list[str] = field(default_factory=list)


def propose(
    name: str,
    table: pd.DataFrame,
    profiles: dict[str, Profile],
    roles: Roles,
    source: dict[str, str],
    *,
    complete: bool,
) -> Proposal:
    """Everything a declaration says of this table.

    Args:
        name: Of the use case.
        table: As `readable` gives it, with event time and known_at in UTC.
        profiles: Of its columns.
        roles: The part each plays.
        source: As it is declared.
        complete: Whether the table is all there is.

    Raises:
        SourceInvalid: The event times cannot be split into spans, or no column is left for a feature.
    """
    truth = _truth(table[roles.target], roles.kind, roles.positive)
    features, left_out, reached = choose_features(table, profiles, roles, truth)
    labelled = truth.notna() & table[roles.event_time].notna()
    if roles.known_at is not None:
        labelled &= table[roles.known_at].notna()
    if roles.region is not None:
        labelled &= table[roles.region].notna()
    regions = table[roles.region].map(str) if roles.region else pd.Series("all", table.index)
    window, part_rows, faults = propose_window(
        table.loc[labelled, roles.event_time], truth[labelled], regions[labelled], roles.kind,
        zone=roles.time_zone, known=table.loc[labelled, roles.known_at or roles.event_time],
    )  # fmt: skip
    always, others, table_rules = _rules(table, features, roles)
    results = check(table, [*always, *others, *table_rules])
    refused, bad = _refused(results[: len(always)], len(table))
    held = [each.holds for each in results[len(always) :]]
    trained = table.loc[labelled, roles.event_time] < window["train_until"]
    fewest = int(regions[labelled][trained].value_counts().min()) if trained.any() else 0
    return Proposal(
        name=name,
        source=source,
        roles=roles,
        features=features,
        left_out=left_out,
        row_rules=[*always, *compress(others, held)],
        table_rules=[*compress(table_rules, held[len(others) :])],
        maximum_bad_share=0.01 if bad <= 0.005 else min(0.5, round(2 * bad + 0.005, 2)),
        refused=refused,
        window=window,
        part_rows=part_rows,
        minimum_rows=max(2, min(500, int(0.8 * fewest))),
        maximum_models=3 if labelled.sum() < 5_000 else 6 if labelled.sum() < 100_000 else 4,
        naive_baseline=_baseline(profiles, features, reached, truth, roles.kind),
        rows=len(table),
        complete=complete,
        warnings=faults,
    )


def _truth(target: pd.Series[Any], kind: TargetKind, positive: str | int | bool | None) -> pd.Series[Any]:
    """The target as 0 and 1, text, or numbers."""
    if kind == "regression":
        return pd.to_numeric(target).astype("float64")
    if positive is not None and kind == "binary":
        same = target.map(lambda value: str(value).removesuffix(".0")) == str(positive)
        return same.astype("Int8").where(target.notna())
    return target.astype("Int8") if kind == "binary" else target.astype(object)


def _rules(
    table: pd.DataFrame, features: dict[str, dict[str, Any]], roles: Roles
) -> tuple[list[Rule], list[Rule], list[Rule]]:
    """Rules of rows that keys and times need in any case, other rules of rows, and rules of the table."""
    keys = list(dict.fromkeys([*roles.entity, roles.event_time, *([roles.region] if roles.region else [])]))
    named = list(dict.fromkeys([*roles.entity, roles.event_time]))
    always: list[Rule] = [{"expect_column_values_to_not_be_null": {"column": column}} for column in keys]
    if len(named) > 1:
        always.append({"expect_compound_columns_to_be_unique": {"column_list": named}})
    others: list[Rule] = [
        {"expect_column_values_to_not_be_null": {"column": column}}
        for column, declared in features.items()
        if "missing" not in declared and column not in keys
    ]
    others += [
        {
            "expect_column_values_to_be_between": {
                "column": column,
                "min_value": declared["minimum"],
                "max_value": declared["maximum"],
            }
        }
        for column, declared in features.items()
        if "minimum" in declared
    ]
    if roles.kind == "binary":
        values = sorted((_native(each) for each in table[roles.target].dropna().unique()), key=str)
        others.append({"expect_column_values_to_be_in_set": {"column": roles.target, "value_set": values}})
    if roles.known_at is not None:
        arguments = {"column_A": roles.known_at, "column_B": roles.event_time, "or_equal": True}
        always.append(
            {
                "expect_column_pair_values_a_to_be_greater_than_b": {
                    **arguments, "ignore_row_if": "either_value_is_missing",
                }
            }
        )  # fmt: skip
    used = list(dict.fromkeys([*keys, roles.target, *([roles.known_at] if roles.known_at else []), *features]))
    whole: list[Rule] = [
        {"expect_table_row_count_to_be_between": {"min_value": 1}},
        {"expect_table_columns_to_match_set": {"column_set": used, "exact_match": False}},
    ]
    return always, others, whole


def _refused(results: list[RuleResult], rows: int) -> tuple[dict[str, int], float]:
    """Rows each rule refuses, and the share of rows that any of them does."""
    broken = [each for each in results if each.offenders]
    counts = {f"{each.rule.split('(')[0]}({each.column})": len(each.offenders) for each in broken}
    return counts, len({label for each in broken for label in each.offenders}) / rows


def _baseline(
    profiles: dict[str, Profile],
    features: dict[str, dict[str, Any]],
    reached: dict[str, float],
    truth: pd.Series[Any],
    kind: TargetKind,
) -> list[str]:
    """The feature of few levels that says most alone; none where all say nothing."""
    least = _WORTHWHILE[kind]
    if kind == "multiclass":
        least = float(truth.value_counts(normalize=True).max()) + 0.005
    fit = [
        name
        for name in features
        if profiles[name].kind != "number" and 2 <= profiles[name].distinct <= _MOST_LEVELS_OF_BASELINE
    ]
    best = max(fit, key=lambda name: reached[name], default=None)
    return [best] if best is not None and reached[best] > least else []


def _native(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
