"""Reports of versions: the document and the page made of it."""

from __future__ import annotations

from pathlib import Path
from typing import LiteralString
from urllib.parse import quote

from psycopg.types.json import Jsonb

from mage_platform.contracts.report import ModelReport
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import ReportNotFound
from mage_platform.registry.versions import model_version

QUERIES = Queries(Path(__file__).with_name("reports.sql"))


def report_path(use_case: str, region: str, version: int | None = None) -> str:
    """Where the prediction API answers a report; without a version that of the served one.

    >>> report_path("rides", "São Paulo", 3)
    '/v1/models/rides/S%C3%A3o%20Paulo/report?version=3'
    """
    path = f"/v1/models/{use_case}/{quote(region, safe='')}/report"
    return path if version is None else f"{path}?version={version}"


def store_report(connection: Connection, report: ModelReport, page: str) -> None:
    """Keep a report in the caller's transaction, in place of an earlier one of the same version.

    Args:
        connection: Open.
        report: The document.
        page: The same as HTML.
    """
    key = report.model.model_dump(include={"use_case", "region", "version"})
    document = Jsonb(report.model_dump(mode="json"))
    connection.execute(
        QUERIES.store_report, {**key, "document": document, "page": page, "written_at": report.written_at}
    )


def has_report(connection: Connection, use_case: str, region: str, version: int) -> bool:
    """Whether a version has a report."""
    return _one(connection, QUERIES.report_page, use_case, region, version) is not None


def report_page(connection: Connection, use_case: str, region: str, version: int) -> str:
    """The page of a version, HTML that needs nothing else.

    Raises:
        ModelNotFound: There is no such version.
        ReportNotFound: It has no report.
    """
    return _found(connection, QUERIES.report_page, use_case, region, version)


def report_document(connection: Connection, use_case: str, region: str, version: int) -> str:
    """The document of a version, as JSON text of a `ModelReport`.

    Raises:
        ModelNotFound: There is no such version.
        ReportNotFound: It has no report.
    """
    return _found(connection, QUERIES.report_document, use_case, region, version)


def _found(connection: Connection, query: LiteralString, use_case: str, region: str, version: int) -> str:
    text = _one(connection, query, use_case, region, version)
    if text is None:
        model_version(connection, use_case, region, version)
        raise ReportNotFound(
            f"version {version} of use case {use_case!r}, region {region!r} has no report: it was registered before "
            "reports were kept, or its report could not be written (the log of its training run says why)",
            field="version",
        )
    return text


def _one(connection: Connection, query: LiteralString, use_case: str, region: str, version: int) -> str | None:
    row = connection.execute(query, {"use_case": use_case, "region": region, "version": version}).fetchone()
    return str(row[0]) if row else None
