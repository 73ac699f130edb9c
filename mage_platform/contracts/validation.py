"""What validation reports and what it refuses."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from mage_platform.contracts.strict import Contract, Name


class BrokenExpectation(Contract):
    """One reason why a row was refused."""

    column: str
    rule: str
    """Expectation and its arguments, as declared."""
    value: Any
    """The offending value, as text where JSON has no type for it."""


class QuarantinedRow(Contract):
    """A refused row with all its reasons, kept for a re-drive."""

    use_case: Name
    run: str
    row: dict[str, Any]
    reasons: list[BrokenExpectation]
    refused_at: AwareDatetime


class ValidationReport(Contract):
    """What one validation did. `rows == passed + quarantined`, always."""

    use_case: Name
    run: str
    rows: int
    passed: int
    quarantined: int
    broken_rules: dict[str, int]
    """Rows that broke each row-level rule; a row may break several."""
    broken_table_rules: list[str]
    """Table-level rules that do not hold, each with what was observed."""
    stopped: bool
    """True when the run must not go on."""
    started_at: AwareDatetime
    seconds: float
