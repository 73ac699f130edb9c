"""What the protocol's JSON holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
Size = Annotated[int, Field(ge=0, strict=True)]


class Message(BaseModel):
    """Clients may send further members; they mean nothing here."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class RequestInput(Message):
    """One feature of all rows."""

    name: str = Field(..., description="Name of the feature", examples=["month"])
    shape: list[Size] = Field(..., description="[rows] or [rows, 1]", examples=[[1]])
    datatype: Datatype
    data: list[Any] | None = Field(
        None, description="The values, row by row; null where one is missing. Left out when they follow as bytes"
    )
    parameters: dict[str, Any] = Field({}, description="`binary_data_size`: their length as bytes after the JSON")


class RequestOutput(Message):
    """A wanted output."""

    name: str
    parameters: dict[str, Any] = Field({}, description="`binary_data`: whether it is wanted as bytes after the JSON")


class InferenceRequest(Message):
    """Rows to predict, feature by feature."""

    id: str | None = Field(None, description="Stands in the answer again")
    inputs: list[RequestInput]
    outputs: list[RequestOutput] = Field([], description="Left out, all")
    parameters: dict[str, Any] = Field(
        {},
        description="`binary_data_output`: all outputs are wanted as bytes. `nan_is_missing`: NaN among floats means "
        "that the value is missing. `empty_is_missing`: so does an empty element of BYTES",
    )


class ResponseOutput(Message):
    """One output of all rows."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | None = Field(None, description="Row by row; left out when they follow as bytes")
    parameters: dict[str, Any] | None = None


class InferenceResponse(Message):
    """The predictions of all rows."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = Field(..., description="`fallback`: the model of all regions together answered")
    outputs: list[ResponseOutput]


class ServerMetadata(Message):
    """What serves here."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Message):
    """One input or output; -1 stands for the number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(Message):
    """A served model."""

    name: str
    versions: list[str] = Field(..., description="Those that are served")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerLive(Message):
    """The process answers."""

    live: bool


class ServerReady(Message):
    """Predictions are answered."""

    ready: bool


class ModelReady(Message):
    """A model answers."""

    name: str
    ready: bool


class IndexedModel(Message):
    """A line of the index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class InferenceError(Message):
    """Why there is no answer."""

    error: str
