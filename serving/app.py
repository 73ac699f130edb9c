"""The FastAPI application: its life cycle and its routes."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mage_platform import __version__
from mage_platform.contracts import PredictResponse
from mage_platform.errors import PlatformError
from mage_platform.settings import Settings
from serving import jvm
from serving.answers import Readiness, ServedModelDetails, ServedModels, details, readiness, summary
from serving.batch.service import Batches
from serving.cache import Cache, connect
from serving.documentation import add_documentation, batch_request, batch_responses, request_body
from serving.front_door import FrontDoor, Route
from serving.prediction import Predictions
from serving.problems import MEDIA_TYPE, problem_of, problem_of_status, responses
from serving.registry_source import ChampionSource, RegistrySource
from serving.reports import add_reports
from serving.repository import Repository
from serving.scorer import Scorer
from serving.vector_cache import vector_cache
from serving.vectors import StoredVectors

log = structlog.get_logger()
PREDICT = "/v1/predict"
PREDICT_BATCH = "/v1/predict/batch"
# Python lets a thread keep the interpreter for 5 ms when another wants it; a batch would wait that long to begin.
SWITCH_INTERVAL_SECONDS = 0.0005


class Sidecar(FastAPI):
    """FastAPI with a shorter way in for predictions."""

    door: FrontDoor
    predictions: Predictions
    short_ways: Mapping[str, Route]
    """By path; of the method POST."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["method"] == "POST" and (route := self.short_ways.get(scope["path"])) is not None:
            await self.door.respond(scope, receive, send, route)
        else:
            await self.door.pass_on(scope, receive, send, super().__call__)


def create_app(settings: Settings, source: ChampionSource | None = None) -> Sidecar:
    """The sidecar.

    Args:
        settings: Of this process.
        source: Where champions come from; the registry when left out.
    """
    repository = Repository(
        source=source or RegistrySource(settings, settings.state_folder / "serving"),
        refresh_seconds=settings.sidecar.refresh_seconds,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, Sidecar)
        jvm.start(heap_mib=settings.sidecar.java_heap_mib)
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        scorer = Scorer(threads=settings.sidecar.inference_threads)
        cache = Cache(connect(settings))
        vectors = StoredVectors(settings, vector_cache(settings))
        await vectors.open()
        app.predictions = Predictions(repository, scorer, vectors, cache, settings.sidecar.prediction_cache)
        batches = Batches(repository, vectors, cache, settings.sidecar)
        app.short_ways = {
            PREDICT: Route(PREDICT, app.predictions.answer),
            PREDICT_BATCH: batches.route(PREDICT_BATCH),
        }
        repository.start()
        # What the imports left behind lives as long as the process: the collector need not look at it again.
        gc.freeze()
        try:
            yield
        finally:
            await asyncio.to_thread(repository.stop)
            await asyncio.to_thread(scorer.close)
            await asyncio.to_thread(batches.close)
            await cache.close()
            await vectors.close()

    app = Sidecar(
        title="Predictions",
        version=__version__,
        description="Predictions of the regional champions, and what is served.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # an address that is wrong by a slash is a problem like any other
    )
    app.door, app.short_ways = FrontDoor(), {}
    _add_prediction(app)
    _add_models(app, repository)
    add_reports(app, settings, repository)
    _add_health(app, repository)
    add_documentation(app, repository)
    _add_problems(app)
    return app


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
    async def list_models() -> ServedModels:
        models = repository.models
        return ServedModels(models=[summary(models[key]) for key in sorted(models)])

    @app.get(
        "/v1/models/{use_case}/{region}",
        summary="A served model with its metrics and lineage",
        tags=["models"],
        responses=responses(404, 503),
    )
    async def show_model(use_case: str, region: str) -> ServedModelDetails:
        return details(repository.model(use_case, region))


def _add_health(app: FastAPI, repository: Repository) -> None:
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
        state = readiness(repository)
        response.status_code = 200 if state.status == "ready" else 503
        return state


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(PlatformError)
    async def platform_error(request: Request, error: PlatformError) -> Response:
        status, _, body = problem_of(error)
        return _problem(status, body)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        body = problem_of_status(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        return _problem(error.status_code, body, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def parameters_invalid(request: Request, error: RequestValidationError) -> Response:
        return _problem(422, problem_of_status(422, f"{request.url.path}: {error.errors()[0]['msg']}"))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        status, _, body = problem_of(error)
        return _problem(status, body)


def _problem(status: int, body: bytes, headers: dict[str, Any] | None = None) -> Response:
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)
