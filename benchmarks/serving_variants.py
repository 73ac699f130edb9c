"""The server process of `benchmarks/serving.py`: the sidecar, and beside it the variants it is measured against."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Request, Response

from mage_platform.contracts import (
    BinaryMetrics,
    Champion,
    InputSchema,
    Lineage,
    ModelVersion,
    PredictRequest,
    PredictResponse,
    TrainingWindow,
)
from mage_platform.logs import configure_logging
from mage_platform.registry import sha256_of
from mage_platform.settings import load_settings
from serving import front_door
from serving.app import Sidecar, create_app
from serving.calls import Call
from serving.jvm import Mojo
from serving.log_forwarding import forward

USE_CASE, REGION = "bench", "here"
ENTITY = "7cf06540-e6e0-54cb-8483-c525c4b50d97"
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

    def files(self, champion: Champion) -> tuple[Path, Path]:
        """The two files."""
        return self.mojo, self.genmodel

    def forget_others(self, models: Sequence[ModelVersion]) -> None:
        """Keeps no others."""

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


def serve(folder: Path, cache: str, file_descriptor: int) -> None:
    """Serve all variants on an inherited socket until SIGTERM."""
    settings = load_settings(log_level="ERROR")
    configure_logging(settings)
    forward()
    settings = settings.model_copy(update={"sidecar": settings.sidecar.model_copy(update={"prediction_cache": cache})})
    source = FolderSource(folder)
    sidecar = create_app(settings, source)
    _add_constants(sidecar)
    _add_plain_executor(sidecar, source, settings.sidecar.inference_threads)

    door, route = front_door.FrontDoor(), front_door.Route("/bench/door", _prepared)

    async def below_fastapi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/bench/door":
            await door.respond(scope, receive, send, route)
        else:
            await sidecar(scope, receive, send)

    config = uvicorn.Config(
        below_fastapi,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=file_descriptor)])


async def _prepared(body: bytes, call: Call) -> bytes:
    return PREPARED


def _add_constants(app: Sidecar) -> None:
    @app.post("/bench/constant")
    async def constant() -> dict[str, Any]:
        return ANSWER

    @app.post("/bench/constant-bytes")
    async def constant_bytes(request: Request) -> Response:
        return Response(PREPARED, media_type="application/json")


def _add_plain_executor(app: Sidecar, source: FolderSource, threads: int) -> None:
    executor = ThreadPoolExecutor(max_workers=threads)
    local = threading.local()

    def predict_sync(request: PredictRequest) -> PredictResponse:
        model = app.predictions.repository.model(request.use_case, request.region)
        if not hasattr(local, "slot"):
            local.slot = Mojo(source.mojo, source.genmodel).slot(1)
        index, no, yes = local.slot.score([model.encoder.encode(request.features or {})])[0]
        return PredictResponse(
            entity_id=request.entity_id,
            prediction=model.labels[int(index)],
            probabilities={model.labels[0]: no, model.labels[1]: yes},
            model=model.version.reference,
            cached=False,
        )

    @app.post("/bench/executor")
    async def plain(request: PredictRequest) -> PredictResponse:
        return await asyncio.get_running_loop().run_in_executor(executor, predict_sync, request)
