"""What goes through the fan-out: plans in, candidates out, decisions at the end."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from mage_platform.contracts.features import InputSchema
from mage_platform.contracts.metrics import Metrics
from mage_platform.contracts.strict import POOLED, Contract, FieldError, Name, Region, Sha256


class TrainingWindow(Contract):
    """Half-open spans of event time, one after the other: train, validate, blend, test.

    A vector belongs to the span that holds its event time. Labels not yet known at `test_until` are never used.
    """

    train_from: AwareDatetime | None = None
    """Start of the training rows; None takes all there are."""
    train_until: AwareDatetime
    """End of the training rows, start of the validation rows (early stopping, leaderboard)."""
    validate_until: AwareDatetime
    """End of the validation rows, start of the blending rows (the stacked ensemble's second level)."""
    blend_until: AwareDatetime
    """End of the blending rows, start of the test rows (never trained or selected on)."""
    test_until: AwareDatetime
    """End of the test rows."""

    @model_validator(mode="after")
    def _in_order(self) -> TrainingWindow:
        order = ("train_from", "train_until", "validate_until", "blend_until", "test_until")
        for earlier, later in pairwise(name for name in order if getattr(self, name) is not None):
            before, after = getattr(self, earlier), getattr(self, later)
            if after < before or (after == before and later != "blend_until"):
                raise FieldError(
                    f"{later} is {after.isoformat()}, but the spans must be in order and {earlier} is "
                    f"{before.isoformat()}: train_from < train_until < validate_until <= blend_until < test_until",
                    later,
                )
        return self


class RegionPlan(Contract):
    """One item of the fan-out: what to train, on which window, within which budget."""

    use_case: Name
    region: Region
    run: str
    """Id of the pipeline run; part of every project, frame and folder name."""
    window: TrainingWindow
    seed: int
    maximum_models: Annotated[int, Field(ge=1)]
    maximum_runtime_seconds: Annotated[int, Field(ge=1)]
    labelled_rows: Annotated[int, Field(ge=0)]
    """Labelled vectors of the region in the whole window, as counted when the plan was made."""

    @property
    def is_pooled(self) -> bool:
        """Whether this is the plan of the model of all regions together."""
        return self.region == POOLED


class RegionBatch(Contract):
    """What one child of the fan-out trains: a large region, or several small ones."""

    plans: list[RegionPlan] = Field(..., min_length=1)


class LeaderboardRow(Contract):
    """One model of the AutoML run, as ranked on the validation rows."""

    model: str
    algorithm: str
    values: dict[str, float]
    """H2O's own metrics by its own names: `auc`, `logloss`, `rmse` and so on."""


class Lineage(Contract):
    """Where a model comes from: enough to train it again, and to tell whether anything changed since."""

    rows_fingerprint: Sha256
    """Of every label and feature that was read, by part of the window."""
    training_fingerprint: Sha256
    """Of all that decides the outcome: rows, schema, options, seed, H2O version. Equal means the same model."""
    maximum_models: int
    declaration_sha256: Sha256
    """Of use_case.yaml and of the code beside it."""
    code_commit: str | None = None
    """Commit of the project; None where it is no git checkout."""
    code_changed: bool | None = None
    """Whether files differed from that commit."""
    validation_run: str | None = None
    """The newest validation of the use case before the training; `validation_runs` holds its report."""


class DependencePoint(Contract):
    """The mean prediction over some rows, had every one of them this value of a feature."""

    value: float | str
    means: list[float]
    """Probability of the positive class, or the number; of several classes one for each, in the order of `classes`."""


class PartialDependence(Contract):
    """How the mean prediction moves with one feature, everything else of each row left as it is.

    Source:
        Friedman, Greedy function approximation, Annals of Statistics 29(5), 2001, sec. 8.2.
    """

    feature: str
    rows: int
    """Held-out rows averaged over."""
    classes: list[str] = []
    """Of several classes their names; empty otherwise."""
    points: list[DependencePoint]
    """Of a number in its order, of a category by falling frequency."""


class Explainer(Contract):
    """The best tree model, kept beside a leader that cannot explain itself."""

    algorithm: str
    mojo_path: str
    mojo_sha256: Sha256


class GoodCandidate(Contract):
    """A fan-out branch that ended with a model."""

    status: Literal["trained"] = "trained"
    plan: RegionPlan
    mojo_path: str
    """MOJO zip on the local disk of the run."""
    mojo_sha256: Sha256
    genmodel_path: str
    """h2o-genmodel.jar of the same H2O version, beside the MOJO."""
    genmodel_sha256: Sha256
    mojo_bytes: Annotated[int, Field(ge=1)]
    algorithm: str
    h2o_version: str
    input_schema: InputSchema
    region_feature: str | None = None
    """The feature that holds the region, in the pooled model: whoever asks need not send it."""
    rows: dict[str, int]
    """Rows of each part: train, validate, blend, test."""
    metrics: Metrics
    """On the test rows, scored by H2O."""
    naive_metrics: Metrics
    """The naive baseline on the same test rows."""
    test_path: str
    """Parquet file of the test rows with what the model and the naive baseline predict for each."""
    score_microseconds: float | None = None
    """Time of one score by the MOJO, mean of many; None where it was not measured."""
    leaderboard: list[LeaderboardRow]
    explainer: Explainer | None = None
    variable_importance: dict[str, float] = {}
    """Share of each feature, as the model tells it, or the best tree model where it tells none."""
    partial_dependence: list[PartialDependence] = []
    """Of the most important features."""
    lineage: Lineage
    training_seconds: Annotated[float, Field(ge=0)]


class FailedCandidate(Contract):
    """A fan-out branch that ended with a reason."""

    status: Literal["failed"] = "failed"
    plan: RegionPlan
    reason: str
    """One sentence; the traceback is in the block's log."""


Candidate = Annotated[GoodCandidate | FailedCandidate, Field(discriminator="status")]
"""What one branch of the fan-out ends with."""


class BatchOutcome(Contract):
    """What one child of the fan-out hands back: an outcome of each of its plans, in their order."""

    candidates: list[Candidate]
