"""The FastAPI application: its life cycle and its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mage_platform import __version__
from mage_platform.contracts import ExplainResponse, PredictResponse
from mage_platform.errors import PlatformError
from mage_platform.settings import Settings
from serving.answers import Readiness, ServedModelDetails, ServedModels, details, readiness, served_models
from serving.assembly import Parts
from serving.batch.service import batch_route
from serving.calls import Header, Observer
from serving.documentation import add_documentation, batch_request, batch_responses, request_body
from serving.exposition import add_metrics
from serving.front_door import FrontDoor, Route, headers_of
from serving.guard import door_guard
from serving.keys import Keyring, keyring
from serving.open_inference.protocol import OpenInference, is_open_inference
from serving.open_inference.routes import add_open_inference
from serving.prediction import Predictions
from serving.problems import MEDIA_TYPE, problem_of, problem_of_status, responses
from serving.registry_source import ChampionSource, RegistrySource
from serving.reports import add_reports
from serving.repository import Repository
from serving.room import Room
from serving.status_page.page import StatusPage
from serving.status_page.traffic import Traffic
from serving.time_limit import in_time
from serving.watch import Watch

log = structlog.get_logger()
PREDICT = "/v1/predict"
EXPLAIN = "/v1/explain"
PREDICT_BATCH = "/v1/predict/batch"


class Sidecar(FastAPI):
    """FastAPI with a shorter way in for predictions."""

    door: FrontDoor
    predictions: Predictions
    short_ways: Mapping[str, Route]
    """By path; of the method POST."""
    open_inference: OpenInference
    """Answers everything under `/v2`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif (route := self._short_way(scope["method"], scope["path"])) is not None:
            await self.door.respond(scope, receive, send, route)
        else:
            await self.door.pass_on(scope, receive, send, super().__call__)

    def _short_way(self, method: str, path: str) -> Route | None:
        if method == "POST" and (route := self.short_ways.get(path)) is not None:
            return route
        return self.open_inference.route(method, path) if is_open_inference(path) else None


def create_app(settings: Settings, source: ChampionSource | None = None, worker: int | None = None) -> Sidecar:
    """The sidecar.

    Args:
        settings: Of this process.
        source: Where champions come from; the registry when left out.
        worker: Number of this process where several answer on the port.

    Raises:
        SettingsInvalid: There is no key that models, or callers, could be checked with.
    """
    keys = keyring(settings)
    source = source or RegistrySource(settings, settings.state_folder / "serving")
    repository = Repository(
        source=source,
        refresh_seconds=settings.sidecar.refresh_seconds,
        most_models=settings.sidecar.models_in_memory,
        most_bytes=settings.sidecar.models_in_memory_mib << 20,
    )
    watch, traffic = Watch(settings, repository, worker), Traffic()
    page = StatusPage(repository, traffic)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, Sidecar)
        async with Parts(settings, source, repository, keys, watch).running(app.door) as answering:
            app.predictions = answering.predictions
            limit = settings.sidecar.request_timeout_seconds
            app.short_ways = {
                PREDICT: Route(PREDICT, in_time(app.predictions.answer, limit)),
                EXPLAIN: Route(EXPLAIN, in_time(answering.explanations.answer, limit)),
                PREDICT_BATCH: batch_route(PREDICT_BATCH, answering.batches, settings.sidecar.batch_mib),
                "/": page.route(in_time(app.predictions.answer, limit), in_time(answering.explanations.answer, limit)),
            }
            app.open_inference = OpenInference(repository, answering.scorer, limit)
            yield

    app = _application(settings, keys, lifespan, [traffic])
    page.add_to(app)
    _add_prediction(app)
    add_open_inference(app)
    _add_models(app, repository)
    add_reports(app, settings, repository)
    _add_health(app, repository, keys)
    add_metrics(app, watch.exposition)
    add_documentation(app, repository, keys)
    _add_problems(app)
    return app


def _application(
    settings: Settings, keys: Keyring, lifespan: Callable[[FastAPI], Any], observers: Sequence[Observer]
) -> Sidecar:
    app = Sidecar(
        title="Predictions",
        version=__version__,
        description="Predictions of the regional champions, and what is served.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None if settings.sidecar.docs == "off" else "/openapi.json",
        redirect_slashes=False,  # an address that is wrong by a slash is a problem like any other
        dependencies=[Depends(_hold_against_key)],
    )
    app.short_ways = {}
    app.door = FrontDoor(
        door_guard(settings, keys),
        observers,
        patience_seconds=settings.sidecar.patience_seconds,
        room=Room(settings.sidecar.maximum_under_way, settings.sidecar.body_memory_mib << 20),
    )
    return app


async def _hold_against_key(request: Request) -> None:
    """Whatever route names a use case in its path: the caller's key must be for it."""
    use_case = request.path_params.get("use_case")
    if use_case is not None:
        request.state.call.allow(use_case)


def _add_prediction(app: Sidecar) -> None:
    @app.post(
        PREDICT,
        summary="One prediction",
        tags=["predictions"],
        response_model=PredictResponse,
        responses=responses(400, 404, 408, 409, 413, 415, 422, 500, 503),
        openapi_extra=request_body(),
    )
    async def predict(request: Request) -> Response:
        """By `features`, or by the entity's newest stored vector when they are left out."""
        # For the document, and for requests whose path has a prefix; all others are answered in Sidecar.__call__.
        return _ShortWay(app, PREDICT)

    @app.post(
        EXPLAIN,
        summary="One prediction, taken apart into the contribution of each feature",
        tags=["predictions"],
        response_model=ExplainResponse,
        responses=responses(400, 404, 408, 409, 413, 415, 422, 500, 503),
        openapi_extra=request_body(),
    )
    async def explain(request: Request) -> Response:
        """By TreeSHAP. `bias` and the contributions sum up to `score`, the one of a tree model kept beside the one that
        answers where that cannot be taken apart itself."""
        return _ShortWay(app, EXPLAIN)

    @app.post(
        PREDICT_BATCH,
        summary="Many predictions",
        tags=["predictions"],
        responses=responses(400, 404, 408, 413, 415, 422, 500, 503) | batch_responses(),
        openapi_extra=batch_request(),
    )
    async def predict_batch(request: Request) -> Response:
        """As rows, as columns, or as an Arrow stream; the answers are those of single requests to the last bit."""
        return _ShortWay(app, PREDICT_BATCH)


class _ShortWay(Response):
    """Hands the request to the short way."""

    def __init__(self, app: Sidecar, path: str) -> None:
        super().__init__()
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app.door.respond(scope, receive, send, self._app.short_ways[self._path])


def _add_models(app: FastAPI, repository: Repository) -> None:
    @app.get("/v1/models", summary="What is served", tags=["models"])
    async def list_models(request: Request) -> ServedModels:
        return served_models(repository, request.state.call.sees)

    @app.get(
        "/v1/models/{use_case}/{region}",
        summary="A served model with its metrics and lineage",
        tags=["models"],
        responses=responses(404, 503),
    )
    async def show_model(use_case: str, region: str) -> ServedModelDetails:
        return details(await repository.in_memory(use_case, region))


def _add_health(app: FastAPI, repository: Repository, keys: Keyring) -> None:
    @app.get("/health/live", summary="The process answers", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get(
        "/health/ready",
        summary="Predictions are answered",
        tags=["health"],
        responses={503: {"model": Readiness, "description": "Not yet, with the reason"}},
    )
    async def ready(response: Response) -> Readiness:
        state = readiness(repository, keys.fault)
        response.status_code = 200 if state.status == "ready" else 503
        return state


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(PlatformError)
    async def platform_error(request: Request, error: PlatformError) -> Response:
        status, request.state.call.problem, body = problem_of(error)
        return _problem(status, body, headers_of(error, status))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        body = problem_of_status(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        return _problem(error.status_code, body, [(k.encode(), v.encode()) for k, v in (error.headers or {}).items()])

    @app.exception_handler(RequestValidationError)
    async def parameters_invalid(request: Request, error: RequestValidationError) -> Response:
        return _problem(422, problem_of_status(422, f"{request.url.path}: {error.errors()[0]['msg']}"))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        status, _, body = problem_of(error)
        return _problem(status, body)


def _problem(status: int, body: bytes, headers: Sequence[Header] = ()) -> Response:
    response = Response(body, status_code=status, media_type=MEDIA_TYPE)
    response.raw_headers += headers
    return response
