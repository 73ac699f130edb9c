"""What a model's score means: one of its classes with the probability of each, or a number; and how that is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_core import from_json

from mage_platform.errors import ContractViolated
from serving.jvm import Mojo, Score


class Outcome(Protocol):
    """Turns scores into text and back."""

    def text(self, score: Score) -> str:
        """The members `prediction` and `probabilities` of the answer.

        Raises:
            ArithmeticError: The score is no prediction.
        """

    def parse(self, value: bytes) -> Score | None:
        """The score that a kept answer stands for; None when the model could not have given it."""

    def values(self, score: Score) -> tuple[str | float, dict[str, float] | None]:
        """Prediction and probabilities of a score that was answered."""


def outcome_of(mojo: Mojo) -> Outcome:
    """The outcome of a model by what its MOJO predicts.

    Raises:
        ContractViolated: It has other classes than probabilities.
    """
    if mojo.labels is None:
        return NumberOutcome()
    if mojo.prediction_width != len(mojo.labels) + 1:
        raise ContractViolated(f"the MOJO answers {mojo.prediction_width} numbers for the classes {mojo.labels}")
    return TwoClasses(mojo.labels) if len(mojo.labels) == 2 else Classes(mojo.labels)


class Classes:
    """One of several classes.

    Args:
        labels: Their names, in the order of their codes.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._texts = [json.dumps(label) for label in labels]

    def text(self, score: Score) -> str:
        """See `Outcome`."""
        index, *probabilities = score
        if any(p != p for p in probabilities):
            raise _no_prediction(score)
        # repr gives the shortest text that reads back as the same float64.
        each = ",".join([f"{text}:{p!r}" for text, p in zip(self._texts, probabilities, strict=True)])
        return f'"prediction":{self._texts[int(index)]},"probabilities":{{{each}}}'

    def parse(self, value: bytes) -> Score | None:
        """See `Outcome`."""
        try:
            kept = from_json(value)
            probabilities = [kept["probabilities"][label] for label in self._labels]
            index = self._labels.index(kept["prediction"])
        except (ValueError, KeyError, TypeError):
            return None
        fits = all(type(p) is float and 0.0 <= p <= 1.0 for p in probabilities)
        return [float(index), *probabilities] if fits else None

    def values(self, score: Score) -> tuple[str | float, dict[str, float] | None]:
        """See `Outcome`."""
        return self._labels[int(score[0])], dict(zip(self._labels, score[1:], strict=True))


class TwoClasses(Classes):
    """One of two classes: by far the most frequent case, written without a loop."""

    def text(self, score: Score) -> str:
        """See `Outcome`."""
        texts = self._texts
        index, first, second = score
        if first != first or second != second:
            raise _no_prediction(score)
        return f'"prediction":{texts[int(index)]},"probabilities":{{{texts[0]}:{first!r},{texts[1]}:{second!r}}}'


class NumberOutcome:
    """A number."""

    def text(self, score: Score) -> str:
        """See `Outcome`."""
        number = score[0]  # genmodel leaves room for a second one, which means nothing
        if not math.isfinite(number):
            raise _no_prediction(score)
        return f'"prediction":{number!r},"probabilities":null'

    def parse(self, value: bytes) -> Score | None:
        """See `Outcome`."""
        try:
            number: Any = from_json(value)["prediction"]
        except (ValueError, KeyError, TypeError):
            return None
        return [number] if type(number) is float and math.isfinite(number) else None

    def values(self, score: Score) -> tuple[str | float, dict[str, float] | None]:
        """See `Outcome`."""
        return score[0], None


def _no_prediction(score: Score) -> ArithmeticError:
    return ArithmeticError(f"the MOJO answers {list(score)}, which is no prediction")
