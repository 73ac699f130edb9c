"""The addresses under `/v2` and what they answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from mage_platform import __version__
from mage_platform.errors import FeaturesInvalid, ModelNotFound, NotFound, SidecarUnavailable
from serving.answers import readiness
from serving.calls import JSON, Call
from serving.encoding import Fault, VectorRefused, has_gaps
from serving.front_door import Answer, Route
from serving.jvm import Score
from serving.models import ServedModel
from serving.open_inference.messages import (
    IndexedModel,
    InferenceRequest,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from serving.open_inference.names import model_name, named
from serving.open_inference.outputs import described_outputs, outputs, wanted
from serving.open_inference.tensors import DATATYPES, Columns, read_columns, write_outputs
from serving.patience import Patience
from serving.problems import AnswerTooSlow, RequestInvalid, as_invalid_request, problem_of
from serving.repository import Repository
from serving.scorer import Scorer

MAXIMUM_BODY_BYTES = 8 << 20
MOST_FAULTS = 100
MOST_FAULTS_TOLD = 20
_REQUEST: TypeAdapter[InferenceRequest] = TypeAdapter(InferenceRequest)
_HEADER_LENGTH = b"inference-header-content-length"
_ROWS_A_TURN = 256
"""Rows encoded, and handed to the model, before others on the event loop have their turn."""


def is_open_inference(path: str) -> bool:
    """Whether an address is one of the protocol's.

    >>> [is_open_inference(path) for path in ("/v2", "/v2/models", "/v22", "/v1/predict")]
    [True, True, False, False]
    """
    return path.startswith("/v2") and path[3:4] in ("", "/")


AboutModel = Callable[[bytes, Call, str, str | None], Coroutine[Any, Any, bytes]]
"""Answers a request about a model, of which name and version stand in the address."""


class OpenInference:
    """Answers the protocol.

    Args:
        repository: The served models.
        scorer: Runs them; rows ride together with those of the native API.
        seconds: How long an answer may take to be made.
    """

    def __init__(self, repository: Repository, scorer: Scorer, seconds: float) -> None:
        self._repository = repository
        self._scorer = scorer
        self._patience = Patience(seconds)

    def route(self, method: str, path: str) -> Route | None:
        """How a request for an address under `/v2` is answered; None for an address with another method.

        Args:
            method: `GET` or `POST`.
            path: As it was asked for, decoded. Of an address that does not exist the answer is a 404.
        """
        found = self._find(method, path)
        if found is None and not any(self._find(other, path) for other in ("GET", "POST")):
            return _nowhere(method, path)
        return found

    def _find(self, method: str, path: str) -> Route | None:
        match (method, path.split("/")[2:]):
            case "GET", []:
                return _route("/v2", self._metadata)
            case "GET", ["health", "live"]:
                return _route("/v2/health/live", self._live)
            case "GET", ["health", "ready"]:
                return _route("/v2/health/ready", self._ready)
            case "POST", ["repository", "index"]:
                return _route("/v2/repository/index", self._index)
            case _, ["models", name, *rest] if name:
                return self._model_route(method, name, rest)
        return None

    def _model_route(self, method: str, name: str, rest: Sequence[str]) -> Route | None:
        version, pattern = None, "/v2/models/{name}"
        if len(rest) >= 2 and rest[0] == "versions":
            version, pattern, rest = rest[1], "/v2/models/{name}/versions/{version}", rest[2:]

        def about(answer: AboutModel, ending: str = "") -> Route:
            return _route(pattern + ending, lambda body, call: answer(body, call, name, version))

        match (method, rest):
            case "GET", []:
                return about(self._model_metadata)
            case "GET", ["ready"]:
                return about(self._model_ready, "/ready")
            case "POST", ["infer"]:
                return about(self._infer, "/infer")
        return None

    async def _metadata(self, body: bytes, call: Call) -> bytes:
        return _json(ServerMetadata(name="mage-platform", version=__version__, extensions=["binary_tensor_data"]))

    async def _live(self, body: bytes, call: Call) -> bytes:
        return _json(ServerLive(live=True))

    async def _ready(self, body: bytes, call: Call) -> bytes:
        state = readiness(self._repository)
        if state.status != "ready":
            raise SidecarUnavailable(state.reason)
        return _json(ServerReady(ready=True))

    async def _index(self, body: bytes, call: Call) -> bytes:
        try:
            ready_only = bool(body.strip()) and TypeAdapter(dict[str, Any]).validate_json(body).get("ready") is True
        except ValidationError as error:
            raise as_invalid_request(error) from None
        lines = [
            IndexedModel(name=model_name(*key), version=str(champion.model.version), state="READY")
            for key, champion in sorted(self._repository.known.items(), key=lambda item: item[0])
            if key not in self._repository.faults and call.sees(key[0])
        ]
        lines += [
            IndexedModel(name=model_name(*key), version=str(fault.version), state="UNAVAILABLE", reason=fault.reason)
            for key, fault in sorted(self._repository.faults.items())
            if not ready_only and call.sees(key[0])
        ]
        return json.dumps([line.model_dump() for line in lines]).encode()

    async def _model_metadata(self, body: bytes, call: Call, name: str, version: str | None) -> bytes:
        model = self._model(call, name, version)
        columns = model.version.input_schema.columns
        return _json(
            ModelMetadata(
                name=model_name(call.use_case, call.region),
                versions=[str(each.version.version) for each in _answering(model)],
                platform="h2o_mojo",
                inputs=[
                    TensorMetadata(name=feature, datatype=DATATYPES[column.type], shape=[-1])
                    for feature, column in columns.items()
                    if feature != model.version.region_feature
                ],
                outputs=described_outputs(model),
            )
        )

    async def _model_ready(self, body: bytes, call: Call, name: str, version: str | None) -> bytes:
        self._model(call, name, version)
        return _json(ModelReady(name=model_name(call.use_case, call.region), ready=True))

    async def _infer(self, body: bytes, call: Call, name: str, version: str | None) -> bytes:
        try:
            with self._patience:
                return await self._predict(body, call, self._model(call, name, version))
        except TimeoutError:
            text = f"no answer within {self._patience.seconds:g} seconds: try again in a moment, or with fewer rows"
            raise AnswerTooSlow(text) from None

    async def _predict(self, body: bytes, call: Call, model: ServedModel) -> bytes:
        request, after = _parse(body, call)
        requested = wanted(request, [output.name for output in described_outputs(model)])
        columns = read_columns(request, after, model.version.input_schema, model.version.region_feature)
        call.rows = columns.rows
        call.mark_parsed()
        rows, gaps = await _encode(model, columns, call.region)
        call.mark_encoded()
        scores = await self._score(model, rows)
        call.mark_scored()
        call.model, call.variant = model, model.variant
        call.fallback = model.version.region != call.region
        answer: dict[str, Any] = {
            "model_name": model_name(call.use_case, call.region),
            "model_version": str(model.version.version),
            "parameters": {"fallback": call.fallback, **gaps},
        }
        if request.id is not None:
            answer["id"] = request.id
        given = {output.name: output for output in outputs(model, scores)}
        content, length = write_outputs(answer, [(given[name], as_bytes) for name, as_bytes in requested.items()])
        if length is not None:
            call.media_type = b"application/octet-stream"
            call.answer_headers = ((_HEADER_LENGTH, b"%d" % length),)
        return content

    async def _score(self, model: ServedModel, rows: Sequence[bytes]) -> list[Score]:
        """A batch of the model's at a time, so that single requests ride along and are not crowded out."""
        scores: list[Score] = []
        for start in range(0, len(rows), _ROWS_A_TURN):
            some = rows[start : start + _ROWS_A_TURN]
            scores += await asyncio.gather(*[self._scorer.submit(model.lane, row) for row in some])
        return scores

    def _model(self, call: Call, name: str, version: str | None) -> ServedModel:
        call.use_case, call.region = named(name)
        call.allow(call.use_case)
        model = self._repository.model(call.use_case, call.region)
        if version is None:
            return model
        served = {str(each.version.version): each for each in _answering(model)}
        if version not in served:
            raise ModelNotFound(f"version {version} of model {name!r} is not served; version {' or '.join(served)} is")
        return served[version]


def as_error(error: Exception) -> tuple[int, str, bytes]:
    """Status, slug and body for an error, in the protocol's form: one sentence that names all faults."""
    status, slug, body = problem_of(error)
    problem = from_json(body)
    text = problem["detail"]
    if isinstance(error, RequestInvalid | FeaturesInvalid):
        told = [_as_text(fault) for fault in problem["errors"][:MOST_FAULTS_TOLD]]
        more = len(problem["errors"]) - len(told)
        text = "; ".join(told) + (f"; and {more} more" if more else "")
    return 400 if status == 422 else status, slug, json.dumps({"error": text}).encode()


def _as_text(fault: dict[str, Any]) -> str:
    value = "" if fault["value"] is None else f", not {json.dumps(fault['value'], ensure_ascii=False)}"
    return f"{fault['field']} {fault['message']}{value}"


def _route(pattern: str, answer: Answer) -> Route:
    # Of any kind: what is no JSON is told by its parser, and stock clients name no kind at all.
    return Route(pattern, answer, MAXIMUM_BODY_BYTES, lambda _: None, problem=as_error, problem_media_type=JSON)


def _nowhere(method: str, path: str) -> Route:
    async def answer(body: bytes, call: Call) -> bytes:
        raise NotFound(f"{method} {path} is not an address of the protocol here")

    return _route("unknown", answer)


def _json(message: BaseModel) -> bytes:
    return message.model_dump_json().encode()


def _answering(model: ServedModel) -> list[ServedModel]:
    """A champion, and the canary beside it."""
    challenge = model.challenge
    return [model] if challenge is None or not challenge.is_canary else [model, challenge.model]


def _parse(body: bytes, call: Call) -> tuple[InferenceRequest, bytes]:
    """The request, and the bytes that follow its JSON."""
    length = len(body)
    for name, value in call.headers:
        if name == _HEADER_LENGTH:
            if not value.isdigit() or int(value) > len(body):
                rule = f"must be the length of the JSON, at most the {len(body)} bytes of the body"
                raise RequestInvalid([Fault("inference-header-content-length", rule, value.decode("latin-1"))])
            length = int(value)
    try:
        return _REQUEST.validate_json(body[:length]), body[length:]
    except ValidationError as error:
        raise as_invalid_request(error) from None


async def _encode(model: ServedModel, columns: Columns, region: str) -> tuple[list[bytes], dict[str, int]]:
    """The encoded rows, and how many of them have nothing that the model knows in some feature, by the reason."""
    rows: list[bytes] = []
    faults: list[Fault] = []
    gaps: Counter[str] = Counter()
    for start in range(0, columns.rows, _ROWS_A_TURN):
        if start:
            await asyncio.sleep(0)
        for at, vector in enumerate(columns.vectors(start, start + _ROWS_A_TURN), start):
            try:
                rows.append(row := model.row(vector, region))
            except VectorRefused as error:
                faults += [
                    Fault(f"inputs.{fault.field.removeprefix('features.')}[{at}]", fault.message, fault.value)
                    for fault in error.faults
                ]
                continue
            if has_gaps(row):
                found = model.encoder.gaps(model.completed(vector, region), row)._asdict()
                gaps.update(f"rows_with_{kind}" for kind, names in found.items() if names)
        if len(faults) > MOST_FAULTS:
            break
    if faults:
        raise VectorRefused(faults)
    return rows, dict(gaps)


def example_request(model: ServedModel) -> dict[str, Any]:
    """A whole request this model answers, as JSON."""
    columns = model.version.input_schema.columns
    return {
        "id": "example",
        "inputs": [
            {"name": name, "shape": [1], "datatype": DATATYPES[columns[name].type], "data": [value]}
            for name, value in model.example().items()
        ],
    }
