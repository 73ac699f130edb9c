"""Reports of versions, as they are kept in the registry: a page that runs nothing, or JSON."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import FastAPI, Header, Query
from fastapi.responses import HTMLResponse, Response

from mage_platform.contracts.report import ModelReport
from mage_platform.database import connect
from mage_platform.registry import report_document, report_page
from mage_platform.settings import Settings
from serving.problems import responses
from serving.repository import Repository

SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}
Format = Literal["html", "json"]


def add_reports(app: FastAPI, settings: Settings, repository: Repository) -> None:
    """Serve the reports.

    Args:
        app: Gets the route.
        settings: Where the registry is.
        repository: Which versions are served.
    """

    @app.get(
        "/v1/models/{use_case}/{region}/report",
        summary="The report of a version",
        tags=["models"],
        response_class=HTMLResponse,
        responses={
            200: {"model": ModelReport, "description": "A page of its own, or JSON"},
            **responses(404, 422, 503),
        },
    )
    async def show_report(
        use_case: str,
        region: str,
        version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Left out, the served one")] = None,
        format: Annotated[Format | None, Query(description="Left out, what `Accept` asks for")] = None,  # noqa: A002
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Decision, metrics beside all rivals, plots, data and lineage: `?format=json` or `Accept: application/json`
        gives the document, everything else the page."""
        if version is None:
            served = repository.champion(use_case, region).model
            region, version = served.region, served.version
        kind = format or wanted(accept)
        text = await asyncio.to_thread(_read, settings, kind, use_case, region, version)
        if kind == "json":
            return Response(text, media_type="application/json", headers=SAFE)
        return HTMLResponse(text, headers=SAFE)


def wanted(accept: str) -> Format:
    """The format an `Accept` header asks for: JSON where it names that and no page.

    >>> wanted("application/json"), wanted("text/html,application/xhtml+xml,*/*;q=0.8"), wanted("")
    ('json', 'html', 'html')
    """
    return "json" if "application/json" in accept and "text/html" not in accept else "html"


def _read(settings: Settings, kind: Format, use_case: str, region: str, version: int) -> str:
    read = report_document if kind == "json" else report_page
    with connect(settings, application_name="mage_platform sidecar reports") as connection:
        return read(connection, use_case, region, version)
