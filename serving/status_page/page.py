"""The page itself, and how it is asked for: only HTML and one style sheet, both in the same answer."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mage_platform import __version__
from mage_platform.contracts import POOLED
from mage_platform.errors import Unavailable
from serving.answers import readiness
from serving.calls import Call
from serving.front_door import Route, not_accepted
from serving.models import ServedModel
from serving.prediction import Predictions
from serving.repository import Repository
from serving.status_page import formats
from serving.status_page.listing import listing
from serving.status_page.traffic import Traffic
from serving.status_page.trial import Trial, read_form, run

FORM = b"application/x-www-form-urlencoded"
MAXIMUM_FORM_BYTES = 256 << 10
_TEMPLATES = Path(__file__).with_name("templates")
_STYLE = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
SAFE = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class StatusPage:
    """Writes the page.

    Args:
        repository: The served models.
        traffic: What became of their requests.
    """

    def __init__(self, repository: Repository, traffic: Traffic) -> None:
        self._repository = repository
        self._traffic = traffic
        self._started = datetime.now(UTC)
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters |= {"count": formats.count, "percent": formats.percent, "moment": formats.moment}
        environment.globals |= {"POOLED": POOLED, "style": Markup(_STYLE), "platform_version": __version__}
        self._template = environment.get_template("page.html")

    def add_to(self, app: FastAPI) -> None:
        """Answer `GET /`."""

        @app.get("/", include_in_schema=False)
        async def status_page(request: Request) -> HTMLResponse:
            query = request.query_params
            model = await self._chosen(query.get("use_case", ""), query.get("model", ""))
            return HTMLResponse(self.render(query, model), headers=SAFE)

    def route(self, predictions: Predictions) -> Route:
        """How `POST /` is answered: with the page, on which stands what came of the form."""

        async def answer(body: bytes, call: Call) -> bytes:
            form = read_form(body)
            call.allow(form.get("use_case", ""))
            key = (form.get("use_case", ""), form.get("model", ""))
            model = await self._repository.in_memory(*key) if key in self._repository.known else None
            trial = None if model is None else Trial(model, form)
            if trial is not None:
                await run(trial, predictions, call)
            call.media_type = b"text/html; charset=utf-8"
            call.answer_headers = [(name.lower().encode(), value.encode()) for name, value in SAFE.items()]
            return self.render(form, model, trial).encode()

        return Route("/", answer, MAXIMUM_FORM_BYTES, _require_form)

    async def _chosen(self, use_case: str, region: str) -> ServedModel | None:
        """The model to try: the one that is asked for, else one that is in memory; None where that cannot be had."""
        if (use_case, region) in self._repository.known:
            with suppress(Unavailable):  # what is wrong with it stands above the list
                return await self._repository.in_memory(use_case, region)
        return _first(self._repository.models.values())

    def render(self, query: Mapping[str, str], model: ServedModel | None, trial: Trial | None = None) -> str:
        """The page as HTML. Everything that comes from data is escaped.

        Args:
            query: What of the list is shown (`q`, `page`), and which model is asked for (`use_case`, `model`).
            model: Which may be tried.
            trial: A prediction that was tried with it.
        """
        now = datetime.now(UTC)
        page = query.get("page", "")
        number = int(page) if page.isdecimal() and len(page) < 9 else 1
        known = self._repository.known
        lines = listing(known, self._traffic, query.get("q", "")[:100].strip(), number)
        asked = (query.get("use_case", ""), query.get("model", ""))
        if trial is None and model is not None:
            trial = Trial(model)
        counts = self._traffic.counts.values()
        requests, asked_cache = sum(each.requests for each in counts), sum(each.asked for each in counts)
        return self._template.render(
            state=readiness(self._repository),
            list=lines,
            trial=trial,
            unknown=asked if any(asked) and asked not in known else None,
            total=len(known),
            started=self._started,
            requests=requests,
            milliseconds=1000 * sum(each.seconds for each in counts) / requests if requests else None,
            cached=sum(each.cached for each in counts) / asked_cache if asked_cache else None,
            age=lambda since: formats.age(since, now),
        )


def _first(models: Iterable[ServedModel]) -> ServedModel | None:
    """The first model of a region of its own, else the first."""
    first = None
    for model in models:
        if model.version.region != POOLED:
            return model
        first = first or model
    return first


def _require_form(content_type: bytes) -> None:
    if content_type.partition(b";")[0].strip().lower() != FORM:
        raise not_accepted("content-type", f"must be {FORM.decode()}", content_type)
