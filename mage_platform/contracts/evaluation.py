"""A version held against everything else that could answer, on the same held-out rows."""

from __future__ import annotations

from pydantic import AwareDatetime

from mage_platform.contracts.metrics import Metric, Metrics, Share
from mage_platform.contracts.strict import Contract, Name, Region


class Interval(Contract):
    """A bootstrap interval by percentiles."""

    low: float
    high: float


class Evaluated(Contract):
    """One way to predict, on the held-out rows."""

    metrics: Metrics
    intervals: dict[Metric, Interval]
    """Of each metric that is defined in some resample; 95 %."""


class Compared(Contract):
    """The candidate against another way to predict, on the same rows and the same resamples."""

    gain: float
    """By how much the candidate is better in the deciding metric; negative when it is worse."""
    interval: Interval | None
    """Of the gain; 95 %. None where it is defined in no resample."""
    confidence: Share
    """Share of the resamples in which the candidate is better."""


class CalibrationBin(Contract):
    """Rows of about the same predicted probability (of the positive class) or the same predicted number."""

    rows: int
    predicted: float
    """Mean prediction."""
    observed: float
    """Mean of what happened."""


class Slice(Contract):
    """The held-out rows of one level of one feature."""

    feature: str
    level: str
    rows: int
    value: float | None
    """The deciding metric; None where it is not defined, as the AUC of one class."""
    naive_value: float | None


class Evaluation(Contract):
    """Everything that is known of a candidate at the moment of the decision."""

    metric: Metric
    """The one that decides."""
    rows: int
    resampled: str
    """What the bootstrap draws: `days` (UTC, of event time) or, where there are few of them, `rows`."""
    resamples: int
    candidate: Evaluated
    naive: Evaluated
    champion: Evaluated | None = None
    """The present champion; None where there is none."""
    champion_version: int | None = None
    pooled: Evaluated | None = None
    """The pooled model on these rows; None where there is none, and for the pooled model itself."""
    against_naive: Compared
    against_champion: Compared | None = None
    against_pooled: Compared | None = None
    calibration: list[CalibrationBin] = []
    calibration_error: float | None = None
    """Mean distance of predicted and observed over the bins, weighted by their rows."""
    slices: list[Slice] = []


class Clause(Contract):
    """One clause of the promotion rule, and what came of it."""

    clause: str
    """`beats_naive`, `beats_champion`, `schema_compatible`, `size`, `latency`."""
    kept: bool
    sentence: str
    """What was compared with what."""


class PromotionDecision(Contract):
    """Whether a version became champion, and why."""

    use_case: Name
    region: Region
    version: int
    promoted: bool
    reason: str
    """One sentence; of a refusal, the clauses that failed."""
    clauses: list[Clause] = []
    champion_version: int | None = None
    """The champion before the decision."""
    decided_at: AwareDatetime | None = None
    evaluation: Evaluation | None = None
    """None where nothing was compared: the version is the champion already, or does not fit."""
    report: str | None = None
    """Address of the version's report in the prediction API; None before it is written, or where it could not be."""
