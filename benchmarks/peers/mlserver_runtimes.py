"""The MOJO as inference runtimes of MLServer; runs in the environment of the peers.

`AsDocumented` does what MLServer's guide to custom runtimes shows: decodes the request into a data frame, encodes the
predictions by a codec. `Bare` takes the values out of the request and puts them into the answer by hand.
"""

from __future__ import annotations

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
        columns = {one.name: one.data.root for one in payload.inputs}
        rows = payload.inputs[0].shape[0]
        scores = self._model.predict(columns, rows)
        labels = [self._model.labels[int(index)] for index in scores[:, 0]]
        outputs = [_output("predict", "BYTES", labels)]
        outputs += [
            _output(f"p{label}", "FP64", scores[:, at + 1].tolist()) for at, label in enumerate(self._model.labels)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _output(name: str, kind: str, values: list[Any]) -> ResponseOutput:
    return ResponseOutput(name=name, shape=[len(values), 1], datatype=kind, data=values)
