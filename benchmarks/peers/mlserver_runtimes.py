"""The MOJO as inference runtimes of MLServer; runs in the environment of the peers.

`AsDocumented` does what MLServer's guide to custom runtimes shows: decodes the request into a data frame, encodes the
predictions by a codec. `Bare` takes the values out of the request and puts them into the answer by hand. `Packed` does
so with requests of two tensors, one of all numbers and one of all text, so that there is less to parse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlserver import MLModel
from mlserver.codecs import PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from mojo import Model


class _Mojo(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        """Start the JVM and load the MOJO."""
        self._model = Model(Path(self.settings.parameters.uri))
        return True


class AsDocumented(_Mojo):
    """By codecs and data frames."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict a request."""
        frame = self.decode_request(payload, default_codec=PandasCodec)
        scores = self._model.predict({name: frame[name].to_numpy() for name in self._model.names}, len(frame))
        answer = {"predict": [self._model.labels[int(index)] for index in scores[:, 0]]}
        answer |= {f"p{label}": scores[:, at + 1] for at, label in enumerate(self._model.labels)}
        return self.encode_response(pd.DataFrame(answer), default_codec=PandasCodec)


class Bare(_Mojo):
    """By hand."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict a request."""
        scores = self._model.predict(self._columns(payload), payload.inputs[0].shape[0])
        labels = [self._model.labels[int(index)] for index in scores[:, 0]]
        outputs = [_output("predict", "BYTES", labels)]
        outputs += [
            _output(f"p{label}", "FP64", scores[:, at + 1].tolist()) for at, label in enumerate(self._model.labels)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)

    def _columns(self, payload: InferenceRequest) -> dict[str, list[Any]]:
        return {one.name: one.data.root for one in payload.inputs}


class Packed(Bare):
    """By hand, from two tensors."""

    async def load(self) -> bool:
        """Learn which features are in which tensor."""
        await super().load()
        columns = json.loads((Path(self.settings.parameters.uri) / "schema.json").read_text())["columns"]
        texts = [name for name, column in columns.items() if column["type"] == "category"]
        self._names = {"numbers": [name for name in columns if name not in texts], "texts": texts}
        return True

    def _columns(self, payload: InferenceRequest) -> dict[str, list[Any]]:
        columns = {}
        for one in payload.inputs:
            names, values = self._names[one.name], one.data.root
            columns |= {name: values[at :: len(names)] for at, name in enumerate(names)}
        return columns


def _output(name: str, kind: str, values: list[Any]) -> ResponseOutput:
    return ResponseOutput(name=name, shape=[len(values), 1], datatype=kind, data=values)
