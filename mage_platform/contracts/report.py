"""Everything there is to say about one registered version, at the moment of its decision."""

from __future__ import annotations

from pydantic import AwareDatetime

from mage_platform.contracts.evaluation import Interval, PromotionDecision
from mage_platform.contracts.metrics import Share
from mage_platform.contracts.models import ModelVersion
from mage_platform.contracts.strict import Contract
from mage_platform.contracts.validation import ValidationReport


class GainPoint(Contract):
    """Who would be found, were a share of the held-out rows looked at, those with the highest predictions first."""

    looked_at: Share
    """Share of the rows."""
    candidate: Share
    """Share of all positives that is among them; rows of equal prediction come in random order."""
    naive: Share
    """The same, in the order of the naive baseline."""


class Confusion(Contract):
    """How often which class was predicted, the most probable one, for which true class."""

    true: list[str]
    """Names of the true classes; a class that the model does not know comes last."""
    predicted: list[str]
    """Names of the predicted classes."""
    rows: list[list[int]]
    """Held-out rows: one list for each true class, in it one number for each predicted class."""


class ResidualBin(Contract):
    """Residuals (what happened, less what was predicted) of rows of about the same prediction."""

    rows: int
    predicted: float
    """Mean prediction."""
    low: float
    """A tenth of the residuals is below."""
    median: float
    high: float
    """A tenth of the residuals is above."""


class ResidualPoint(Contract):
    """One held-out row."""

    predicted: float
    residual: float


class Residuals(Contract):
    """How far predicted numbers are off, in units of the target."""

    bins: list[ResidualBin]
    """Ten bins of about as many rows each, by rising prediction."""
    points: list[ResidualPoint]
    """Some of the rows, evenly spread over time."""


class ModelReport(Contract):
    """The report of one version. What depends on the kind of the target is empty or None for other kinds."""

    written_at: AwareDatetime
    title: str
    """Of the use case."""
    description: str = ""
    region_column: str | None = None
    """Column whose values are the regions; None where the use case has one model for all."""
    positive: str = ""
    """Of a binary target: the value that counts as 1, where the column does not hold 0 and 1 itself."""
    model: ModelVersion
    decision: PromotionDecision
    """With the evaluation: metrics beside all rivals, calibration and slices."""
    validation: ValidationReport | None = None
    """Of the newest validation before the training."""
    observed_intervals: list[Interval] = []
    """95 % interval of the observed mean of each bin of `decision.evaluation.calibration`."""
    gain: list[GainPoint] = []
    """Of a binary target."""
    confusion: Confusion | None = None
    """Of several classes."""
    residuals: Residuals | None = None
    """Of a number."""
