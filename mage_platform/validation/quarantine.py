"""Reports and refused rows in the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from mage_platform.contracts import QuarantinedRow, ValidationReport
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.validation.rows import ValidatedRows

QUERIES = Queries(Path(__file__).with_name("quarantine.sql"))


def record(connection: Connection, validated: ValidatedRows) -> None:
    """Keep the report and every refused row with its reasons, in the caller's transaction."""
    report = validated.report
    connection.execute(
        QUERIES.record_report,
        {
            "run": report.run,
            "use_case": report.use_case,
            "report": Jsonb(report.model_dump(mode="json")),
            "started_at": report.started_at,
        },
    )
    if validated.refused.empty:
        return
    # pandas writes NaN as null and times with their zone; NUL characters do not fit into PostgreSQL's text.
    lines = validated.refused.to_json(orient="records", lines=True, date_format="iso").splitlines()
    entries = [
        {
            "use_case": report.use_case,
            "run": report.run,
            "source_row": Jsonb(json.loads(line.replace("\\u0000", "\\ufffd"))),
            "reasons": Jsonb([reason.model_dump(mode="json") for reason in validated.reasons[label]]),
        }
        for label, line in zip(validated.refused.index, lines, strict=True)
    ]
    connection.cursor().executemany(QUERIES.add_refused, entries)


def quarantined_rows(
    connection: Connection, *, use_case: str | None = None, run: str | None = None, limit: int = 100
) -> tuple[int, list[QuarantinedRow]]:
    """Refused rows that wait for a re-drive, newest first.

    Returns:
        How many there are in all, and the newest `limit` of them.
    """
    parameters = {"use_case": use_case, "run": run, "limit": limit}
    count = connection.execute(QUERIES.count_refused, parameters).fetchone()
    rows = [
        QuarantinedRow(use_case=row[0], run=row[1], row=row[2], reasons=row[3], refused_at=row[4])
        for row in connection.execute(QUERIES.list_refused, parameters)
    ]
    return (count[0] if count else 0), rows


def waiting_rows(connection: Connection, use_case: str) -> list[tuple[int, dict[str, Any]]]:
    """Number and source row of every row that waits for a re-drive, locked until the transaction ends."""
    return connection.execute(QUERIES.waiting_rows, {"use_case": use_case}).fetchall()


def mark_redriven(connection: Connection, numbers: list[int]) -> None:
    """Note that these rows have been stored after all."""
    connection.execute(QUERIES.mark_redriven, {"numbers": numbers})


def last_report(connection: Connection, use_case: str) -> ValidationReport | None:
    """The newest validation report of a use case."""
    row = connection.execute(QUERIES.last_report, {"use_case": use_case}).fetchone()
    return ValidationReport.model_validate(row[0]) if row else None


def report_of(connection: Connection, use_case: str, run: str) -> ValidationReport | None:
    """The validation report of one run of a use case."""
    row = connection.execute(QUERIES.report_of, {"use_case": use_case, "run": run}).fetchone()
    return ValidationReport.model_validate(row[0]) if row else None
