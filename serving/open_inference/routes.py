"""The addresses of the protocol in the OpenAPI document, and for requests whose path has a prefix."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from serving.open_inference.messages import (
    IndexedModel,
    InferenceError,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)

INFER = "/v2/models/{name}/infer"
_TITLES = {
    400: "The request does not keep the protocol or the model's schema",
    404: "No model answers for this name",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is compressed",
    500: "The sidecar failed",
    503: "Not available at the moment",
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class _Anew(Response):
    """Hands a request back to the application, without the prefix of its path."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        await self._app({**scope, "path": path, "root_path": ""}, receive, send)


def add_open_inference(app: FastAPI) -> None:
    """Register the addresses."""

    async def at() -> Response:
        return _Anew(app)

    async def at_model(name: str) -> Response:
        return _Anew(app)

    async def at_version(name: str, version: str) -> Response:
        return _Anew(app)

    def add(path: str, answer: Any, summary: str, model: Any, *statuses: int, **more: Any) -> None:
        app.add_api_route(
            path,
            answer,
            summary=summary,
            response_model=model,
            tags=["open inference protocol"],
            responses={status: {"model": InferenceError, "description": _TITLES[status]} for status in statuses}
            | more.pop("responses", {}),
            **{"methods": ["GET"], **more},
        )

    add("/v2", at, "What serves here", ServerMetadata)
    add("/v2/health/live", at, "The process answers", ServerLive)
    add("/v2/health/ready", at, "Predictions are answered", ServerReady, 503)
    add("/v2/repository/index", at, "All models", list[IndexedModel], 400, 408, 413, 415, methods=["POST"])
    for place, answer, which in (("", at_model, "A model"), ("/versions/{version}", at_version, "A version")):
        path = f"/v2/models/{{name}}{place}"
        add(path, answer, f"{which} with its inputs and outputs", ModelMetadata, 404, 503)
        add(f"{path}/ready", answer, f"{which} answers", ModelReady, 404, 503)
        add(
            f"{path}/infer",
            answer,
            f"Predictions of {which.lower()}",
            InferenceResponse,
            *_TITLES,
            methods=["POST"],
            openapi_extra=_BODY,
            responses={200: _BYTES},
        )
