"""`/docs` without a network, and an OpenAPI document whose examples are real requests."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from mage_platform.contracts import (
    POOLED,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictColumnsResponse,
    PredictRequest,
)
from serving.guard import HEALTH
from serving.keys import Keyring
from serving.open_inference.messages import InferenceRequest
from serving.open_inference.protocol import example_request
from serving.open_inference.routes import INFER
from serving.problems import Problem, responses
from serving.repository import Repository

ASSETS = "/docs/assets"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`mage-platform keys create` makes one"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def add_documentation(app: FastAPI, repository: Repository, keys: Keyring) -> None:
    """Serve `/docs` with assets of our own, and keep the examples in step with the served models.

    Args:
        app: Created with `docs_url=None`; without an `openapi_url` there is no documentation.
        repository: The served models; the first one's example request stands in the document.
        keys: Whether requests need a key.
    """
    app.openapi = lambda: _document(app, repository, keys)  # type: ignore[method-assign]
    if app.openapi_url is None:
        return
    package = find_spec("fastapi_offline")
    assert package is not None and package.origin is not None
    app.mount(ASSETS, StaticFiles(directory=Path(package.origin).parent / "static"))
    page = get_swagger_ui_html(
        openapi_url=app.openapi_url,
        title=app.title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    page.headers["content-security-policy"] = _policy(bytes(page.body))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page


def _policy(page: bytes) -> str:
    """What the page may load: its own assets, and of scripts within it only those it has now."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    known = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src 'self' {known}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def request_body() -> dict[str, Any]:
    """The request body of an operation that parses its body itself."""
    schema = {"$ref": "#/components/schemas/PredictRequest"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def batch_request() -> dict[str, Any]:
    """Request body and query of the batch operation."""
    schema = {"$ref": "#/components/schemas/PredictBatchRequest"}
    text = "In the query for an Arrow stream; in JSON it stands in the body"
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                ARROW_STREAM: {
                    "schema": {"type": "string", "format": "binary"},
                    "description": "A column for each feature, and `entity_id`; uncompressed",
                },
            },
        },
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
            for name in ("use_case", "region", "on_error")
        ],
    }


def batch_responses() -> dict[int | str, dict[str, Any]]:
    """Answers of the batch operation."""
    both = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in (PredictBatchResponse, PredictColumnsResponse)]
    return {
        200: {
            "description": "Rows for rows, columns for columns, a stream where `accept` names it",
            "content": {
                "application/json": {"schema": {"anyOf": both}},
                ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


def _document(app: FastAPI, repository: Repository, keys: Keyring) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _drop_faults_of_the_framework(document)
    _add_keys(document, needed=keys.holders is not None)
    template = "#/components/schemas/{model}"
    batches = (PredictBatchRequest, PredictBatchResponse, PredictColumnsResponse)
    for contract in (PredictRequest, *batches, InferenceRequest, Problem):
        schema = contract.model_json_schema(ref_template=template)
        schemas.update(schema.pop("$defs", {}))
        schemas[contract.__name__] = schema
    if models := repository.models:
        model = models[min(models, key=lambda key: (key[1] == POOLED, key))]
        example = model.example_request()
        by_entity = {name: value for name, value in example.items() if name != "features"}
        for path in ("/v1/predict", "/v1/explain"):
            body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            body["examples"] = {
                "features": {"summary": "By features", "value": example},
                "entity": {"summary": "By the newest stored vector of an entity", "value": by_entity},
            }
        _add_batch_examples(document, example)
        for name in ("use_case", "region"):
            schemas["PredictRequest"]["properties"][name]["examples"] = [example[name]]
            for parameter in document["paths"]["/v1/models/{use_case}/{region}"]["get"]["parameters"]:
                if parameter["name"] == name:
                    parameter["example"] = example[name]
        body = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]
        body["example"] = example_request(model)
    return document


def _add_batch_examples(document: dict[str, Any], example: dict[str, Any]) -> None:
    head = {name: example[name] for name in ("use_case", "region")}
    row = {name: example[name] for name in ("entity_id", "features")}
    columns = {name: [value, value] for name, value in example["features"].items()}
    body = document["paths"]["/v1/predict/batch"]["post"]["requestBody"]["content"]["application/json"]
    body["examples"] = {
        "rows": {"summary": "As rows", "value": head | {"rows": [row, row]}},
        "columns": {"summary": "As columns", "value": head | {"columns": columns}},
        "entities": {
            "summary": "By the newest stored vectors of entities",
            "value": head | {"entity_ids": [example["entity_id"]]},
        },
    }


def _add_keys(document: dict[str, Any], *, needed: bool) -> None:
    """How a key is sent, and what is answered when it is not good for a request, for every operation but health."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values() if path not in HEALTH else ():
            operation["security"] = [*([] if needed else [{}]), *({scheme: []} for scheme in _SCHEMES)]
            for status, answer in responses(401, 403, 429).items():
                operation["responses"].setdefault(str(status), answer)


def _drop_faults_of_the_framework(document: dict[str, Any]) -> None:
    """FastAPI documents an answer of its own for wrong parameters; here every fault is a `Problem`."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
