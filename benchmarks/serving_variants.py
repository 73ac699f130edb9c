"""The server process of `benchmarks/serving.py`: the sidecar, and beside it the variants it is measured against."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from benchmarks.serving_requests import ENTITY, REGION, USE_CASE
from mage_platform.contracts import (
    BinaryMetrics,
    Champion,
    Deployment,
    InputSchema,
    Lineage,
    ModelVersion,
    PredictRequest,
    PredictResponse,
    TrainingWindow,
)
from mage_platform.errors import NotFound
from mage_platform.logs import configure_logging
from mage_platform.registry import sha256_of
from mage_platform.settings import load_settings
from serving import front_door
from serving.app import Sidecar, create_app
from serving.calls import Call
from serving.connections import Connection, Limits, connection_kind
from serving.jvm import Mojo, Score
from serving.log_forwarding import forward
from serving.models import ServedModel

ANSWER = {
    "entity_id": ENTITY,
    "prediction": "1",
    "probabilities": {"0": 0.4755418648790928, "1": 0.5244581351209072},
    "model": {"use_case": USE_CASE, "region": REGION, "version": 1, "algorithm": "gbm"},
    "cached": False,
}
PREPARED = json.dumps(ANSWER).encode()


class FolderSource:
    """One champion out of a folder with `model.zip`, `h2o-genmodel.jar` and `schema.json`."""

    def __init__(self, folder: Path) -> None:
        self.mojo, self.genmodel = folder / "model.zip", folder / "h2o-genmodel.jar"
        self.schema = InputSchema.model_validate_json((folder / "schema.json").read_text())

    @contextmanager
    def session(self) -> Iterator[FolderSource]:
        """Itself."""
        yield self

    def marker(self) -> int:
        """Never changes."""
        return 1

    def forget_others(self, wanted: Iterable[ModelVersion]) -> None:
        """Keeps its own."""

    def files(self, model: ModelVersion) -> tuple[Path, Path]:
        """The two files."""
        return self.mojo, self.genmodel

    def kept_files(self, model: ModelVersion) -> tuple[Path, Path]:
        """The same."""
        return self.mojo, self.genmodel

    def explainer(self, model: ModelVersion) -> tuple[Path, Path]:
        """There is none."""
        raise NotFound("nothing is kept beside this model")

    def keep(self, seen_at: datetime, deployments: Sequence[Deployment]) -> None:
        """Nothing needs to be kept."""

    def last_seen(self) -> None:
        """Nothing was."""

    def deployments(self, known: object = ()) -> list[Deployment]:
        """The one, without a challenger."""
        return [Deployment(champion=each) for each in self.champions()]

    def champions(self) -> list[Champion]:
        """The one."""
        start, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
        metrics = BinaryMetrics(auc=0.5, log_loss=1.0, average_precision=0.5, rows=1, positive_share=0.5)
        version = ModelVersion(
            use_case=USE_CASE,
            region=REGION,
            version=1,
            algorithm="gbm",
            mojo_sha256=sha256_of(self.mojo),
            genmodel_sha256=sha256_of(self.genmodel),
            target="late",
            input_schema=self.schema,
            cache_ttl_seconds=300,
            metrics=metrics,
            naive_metrics=metrics,
            leaderboard=[],
            window=TrainingWindow(
                train_until=start,
                validate_until=start + day,
                blend_until=start + 2 * day,
                test_until=start + 3 * day,
            ),
            rows={},
            seed=1,
            h2o_version="",
            mojo_bytes=self.mojo.stat().st_size,
            lineage=Lineage(
                rows_fingerprint="0" * 64, training_fingerprint="0" * 64, maximum_models=1, declaration_sha256="0" * 64
            ),
            run="bench",
            registered_at=start,
        )
        return [Champion(model=version, since=start)]


def serve(folder: Path, cache: str, file_descriptor: int, *, alone: bool) -> None:
    """Serve all variants, or the sidecar alone, on an inherited socket until SIGTERM."""
    settings = load_settings(log_level="ERROR")
    configure_logging(settings)
    forward()
    # Everything as it ships, but that there is no database to keep the predictions in.
    changed = settings.sidecar.model_copy(update={"prediction_cache": cache, "prediction_log": False})
    settings = settings.model_copy(update={"sidecar": changed})
    source = FolderSource(folder)
    sidecar = create_app(settings, source)
    # As the sidecar is served. The constant answers get the same.
    kind = connection_kind(Limits(), sidecar.door.room)
    if alone:
        run(sidecar, kind, file_descriptor)
        return
    # In front of the sidecar's door, so that the constant answer is all that the framework can do.
    others = FastAPI()
    _add_constants(others)
    _add_plain_executor(others, sidecar, source, settings.sidecar.inference_threads)
    door, route = front_door.FrontDoor(), front_door.Route("/bench/door", _prepared)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path == "/bench/door":
            await door.respond(scope, receive, send, route)
        elif path.startswith("/bench/"):
            await others(scope, receive, send)
        else:
            await sidecar(scope, receive, send)

    run(application, kind, file_descriptor)


def run(application: Any, kind: type[Connection], file_descriptor: int) -> None:
    """Serve an application on an inherited socket."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=kind,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=file_descriptor)])


async def _prepared(body: bytes, call: Call) -> bytes:
    return PREPARED


def _add_constants(app: FastAPI) -> None:
    @app.post("/bench/constant")
    async def constant() -> dict[str, Any]:
        return ANSWER

    @app.post("/bench/constant-bytes")
    async def constant_bytes(request: Request) -> Response:
        return Response(PREPARED, media_type="application/json")


class BatchRow(BaseModel):
    """One vector of a batch for the plain executor."""

    entity_id: UUID
    features: dict[str, Any]


class Batch(BaseModel):
    """A batch for the plain executor."""

    use_case: str
    region: str
    rows: list[BatchRow]


class BatchAnswer(BaseModel):
    """As many predictions."""

    predictions: list[PredictResponse]


def _add_plain_executor(app: FastAPI, sidecar: Sidecar, source: FolderSource, threads: int) -> None:
    executor = ThreadPoolExecutor(max_workers=threads)
    local = threading.local()

    def score(rows: list[bytes]) -> list[Score]:
        if not hasattr(local, "slot"):
            local.slot = Mojo(source.mojo, source.genmodel).slot()
        capacity = local.slot.capacity
        return [one for at in range(0, len(rows), capacity) for one in local.slot.score(rows[at : at + capacity])]

    def response(model: ServedModel, entity_id: UUID, score: Score) -> PredictResponse:
        index, no, yes = score
        return PredictResponse(
            entity_id=entity_id,
            prediction=model.labels[int(index)],
            probabilities={model.labels[0]: no, model.labels[1]: yes},
            model=model.version.reference,
            cached=False,
        )

    def predict_sync(request: PredictRequest) -> PredictResponse:
        model = sidecar.predictions.repository.model(request.use_case, request.region)
        return response(model, request.entity_id, score([model.encoder.encode(request.features or {})])[0])

    def batch_sync(request: Batch) -> BatchAnswer:
        model = sidecar.predictions.repository.model(request.use_case, request.region)
        scores = score([model.encoder.encode(row.features) for row in request.rows])
        pairs = zip(request.rows, scores, strict=True)
        return BatchAnswer(predictions=[response(model, row.entity_id, one) for row, one in pairs])

    @app.post("/bench/executor")
    async def plain(request: PredictRequest) -> PredictResponse:
        return await asyncio.get_running_loop().run_in_executor(executor, predict_sync, request)

    @app.post("/bench/executor-batch")
    async def plain_batch(request: Batch) -> BatchAnswer:
        return await asyncio.get_running_loop().run_in_executor(executor, batch_sync, request)
