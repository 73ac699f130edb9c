"""Which rows go on, which go to quarantine, and when the run stops."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from mage_platform.contracts import BrokenExpectation, UseCase, ValidationReport
from mage_platform.errors import ValidationStopped
from mage_platform.validation.expectations import RuleResult, check


@dataclass(frozen=True)
class ValidatedRows:
    """The outcome of a validation: every row is in exactly one of the two frames."""

    passed: pd.DataFrame
    refused: pd.DataFrame
    """As they were read, text among numbers included."""
    reasons: dict[Any, list[BrokenExpectation]]
    """Reasons of each refused row, by its index label."""
    report: ValidationReport

    def raise_if_stopped(self, use_case: UseCase) -> None:
        """Stop the run when the report says so.

        Raises:
            ValidationStopped: Names the broken table-level rules, or the share of bad rows and its worst rules.
        """
        if not self.report.stopped:
            return
        report, limit = self.report, use_case.expectations.maximum_bad_share
        lines = [f"validation of {use_case.name} stopped the run {report.run}:"]
        lines += [f"  table-level rule broken: {rule}" for rule in report.broken_table_rules]
        if report.rows and report.quarantined / report.rows > limit:
            lines.append(
                f"  {report.quarantined:,} of {report.rows:,} rows refused "
                f"({report.quarantined / report.rows:.2%}, allowed {limit:.2%}):"
            )
            worst = sorted(report.broken_rules.items(), key=lambda item: -item[1])
            lines += [f"    {count:,} rows: {rule}" for rule, count in worst]
        lines.append(
            f"Refused rows are kept: `mage-platform quarantine list --use-case {use_case.name}`. Mend the source, "
            "or the expectations in use_case.yaml"
        )
        raise ValidationStopped("\n".join(lines))


def validate(rows: pd.DataFrame, use_case: UseCase, *, run: str) -> ValidatedRows:
    """Hold source rows against the use case's expectations. Touches no database.

    Args:
        rows: Source rows with a unique index.
        use_case: Whose expectations.
        run: Id of the pipeline run, for the report.
    """
    started_at, clock = datetime.now(UTC), time.monotonic()
    as_read = rows
    rows, reasons = _numbers_where_numbers_are_expected(rows, use_case)
    broken: dict[str, int] = {}
    broken_table_rules: list[str] = []
    for result in check(rows, use_case.expectations.rows):
        if not result.holds and not result.offenders:
            broken_table_rules.append(f"{result.rule}: cannot be evaluated: {result.problem}")
        for label, value in result.offenders.items():
            # A missing value that stands for unreadable text has its reason already.
            if any(known.column == result.column for known in reasons.get(label, [])) and _missing(value):
                continue
            reasons.setdefault(label, []).append(_reason(result, value))
    for result in check(rows, use_case.expectations.table):
        if not result.holds:
            broken_table_rules.append(f"{result.rule}: {result.problem}")
    for row_reasons in reasons.values():
        for reason in row_reasons:
            broken[reason.rule] = broken.get(reason.rule, 0) + 1
    refused = rows.index.isin(list(reasons))
    bad = int(refused.sum())
    too_many = len(rows) > 0 and bad / len(rows) > use_case.expectations.maximum_bad_share
    report = ValidationReport(
        use_case=use_case.name,
        run=run,
        rows=len(rows),
        passed=len(rows) - bad,
        quarantined=bad,
        broken_rules=broken,
        broken_table_rules=broken_table_rules,
        stopped=too_many or bool(broken_table_rules),
        started_at=started_at,
        seconds=round(time.monotonic() - clock, 3),
    )
    return ValidatedRows(rows[~refused], as_read[refused], reasons, report)


def _numbers_where_numbers_are_expected(
    rows: pd.DataFrame, use_case: UseCase
) -> tuple[pd.DataFrame, dict[Any, list[BrokenExpectation]]]:
    """Text in a column of numbers would make the range rules fail for the whole table; refuse just those rows."""
    rows = rows.copy(deep=False)
    reasons: dict[Any, list[BrokenExpectation]] = {}
    for rule in use_case.expectations.rows:
        arguments = next(iter(rule.values()))
        column, bound = arguments.get("column"), arguments.get("min_value", arguments.get("max_value"))
        if column not in rows or rows[column].dtype != object or not isinstance(bound, (int, float)):
            continue
        numbers = pd.to_numeric(rows[column], errors="coerce")
        for label in rows.index[numbers.isna() & rows[column].notna()]:
            reason = BrokenExpectation(column=column, rule="a number is expected", value=str(rows.at[label, column]))
            reasons.setdefault(label, []).append(reason)
        rows[column] = numbers
    return rows, reasons


def _reason(result: RuleResult, value: Any) -> BrokenExpectation:
    return BrokenExpectation(column=result.column, rule=result.rule, value=_plain(value))


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; NaN and NaT are null."""
    if isinstance(value, (list, tuple)):  # a rule on two columns offends with both values
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return str(value)
    if _missing(value):
        return None
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _missing(value: Any) -> bool:
    return not isinstance(value, (list, tuple, dict)) and bool(pd.isna(value))
