"""What a model's scores are as tensors, and which of them a request wants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.encoding import Fault
from serving.jvm import Score
from serving.models import ServedModel
from serving.open_inference.messages import InferenceRequest, TensorMetadata
from serving.open_inference.tensors import Output
from serving.problems import RequestInvalid


def wanted(request: InferenceRequest, offered: Sequence[str]) -> dict[str, bool]:
    """Which outputs are wanted, each with whether as bytes.

    Raises:
        RequestInvalid: Names those that the model does not have.
    """
    as_bytes = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return dict.fromkeys(offered, as_bytes)
    faults = [
        Fault(f"outputs.{output.name}", f"is not an output of this model, which has {', '.join(offered)}")
        for output in request.outputs
        if output.name not in offered
    ]
    faults += [
        Fault(f"outputs.{output.name}", f"must be without {name}, which is not done here")
        for output in request.outputs
        for name in ("classification", "shared_memory_region")
        if name in output.parameters
    ]
    if faults:
        raise RequestInvalid(faults)
    return {output.name: output.parameters.get("binary_data", as_bytes) is True for output in request.outputs}


def described_outputs(model: ServedModel) -> list[TensorMetadata]:
    """The outputs a model has: the prediction, and of classes their probabilities and their names."""
    if not model.labels:
        return [TensorMetadata(name="prediction", datatype="FP64", shape=[-1])]
    count = len(model.labels)
    return [
        TensorMetadata(name="prediction", datatype="BYTES", shape=[-1]),
        TensorMetadata(name="probabilities", datatype="FP64", shape=[-1, count]),
        TensorMetadata(name="classes", datatype="BYTES", shape=[count]),
    ]


def outputs(model: ServedModel, scores: Sequence[Score]) -> list[Output]:
    """The outputs of some rows.

    Raises:
        ArithmeticError: A score is no prediction.
    """
    labels, rows = model.labels, len(scores)
    if not labels:
        numbers = [score[0] for score in scores]
        _require_predictions(numbers)
        return [Output("prediction", "FP64", (rows,), numbers)]
    probabilities = [probability for score in scores for probability in score[1:]]
    _require_predictions(probabilities)
    return [
        Output("prediction", "BYTES", (rows,), [labels[int(score[0])] for score in scores]),
        Output("probabilities", "FP64", (rows, len(labels)), probabilities),
        Output("classes", "BYTES", (len(labels),), labels),
    ]


def _require_predictions(numbers: Sequence[float]) -> None:
    for number in numbers:
        if not math.isfinite(number):
            raise ArithmeticError(f"the MOJO answers {number}, which is no prediction")
