"""The declaration of one prediction problem: `use_cases/<name>/use_case.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mage_platform.contracts.features import FeatureColumn, InputSchema
from mage_platform.contracts.metrics import METRICS, Metric, TargetKind
from mage_platform.contracts.strict import Contract, Name
from mage_platform.contracts.training import TrainingWindow

Column = Annotated[str, Field(min_length=1, max_length=63)]
Function = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[a-z_][a-z0-9_]*$")]
"""`module:function` of the use case's own folder."""


class Source(Contract):
    """Where the source rows come from: a function of the use case's folder, or a file in it."""

    function: Function | None = None
    """`load_rows(start, end) -> DataFrame`; both bounds are aware datetimes or None, of event time, half open."""
    file: str | None = None
    """Parquet or CSV file, relative to the use case's folder."""
    history_days: Annotated[int, Field(ge=0)] = 0
    """Days before the asked-for window that are read as well, because the feature code looks back."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if (self.function is None) == (self.file is None):
            raise ValueError("declare exactly one of `function` and `file`")
        return self


class Entity(Contract):
    """What a feature vector describes."""

    key: list[Column] = Field(..., min_length=1)
    """Columns of the natural key; the entity id is the UUIDv5 of their values."""


class Target(Contract):
    """What is predicted."""

    column: Column
    kind: TargetKind = "binary"
    """`binary`: two classes, kept as 0 and 1. `multiclass`: a class by its name. `regression`: a number."""
    positive: str | bool | int | None = None
    """Of a binary column that holds neither 0 and 1 nor true and false: the value that counts as 1."""
    known_at: Column | None = None
    """Column with the moment (with time zone) at which the label became known; None: at the event time itself."""

    @model_validator(mode="after")
    def _positive_only_of_two(self) -> Target:
        if self.positive is not None and self.kind != "binary":
            raise ValueError(f"`positive` is for binary targets, not for {self.kind}")
        return self


class Features(Contract):
    """How vectors are made, and what each feature is."""

    function: Function | None = None
    """Pure `build_features(rows) -> DataFrame` with the same index; left out, the columns are taken as they are."""
    columns: dict[Column, FeatureColumn] = Field(..., min_length=1)


Rule = dict[str, dict[str, Any]]
"""One great-expectations expectation: its name and its arguments."""


class Expectations(Contract):
    """What must hold of the source rows."""

    maximum_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """A greater share of rows refused stops the run."""
    rows: list[Rule] = []
    """A row that breaks one goes to quarantine, the rest go on."""
    table: list[Rule] = []
    """One that does not hold stops the run."""

    @field_validator("rows", "table")
    @classmethod
    def _one_name_each(cls, rules: list[Rule]) -> list[Rule]:
        for rule in rules:
            if len(rule) != 1 or not next(iter(rule)).startswith("expect_"):
                raise ValueError(f"each rule is one `expect_...: {{arguments}}`, not {rule!r}")
        return rules


class Pooled(Contract):
    """The model of all regions together, with the region as a feature: it answers for regions without a champion."""

    enabled: bool = True
    """Trained only where there are at least two regions."""
    maximum_models: Annotated[int, Field(ge=1, le=200)] = 2
    maximum_rows: Annotated[int, Field(ge=100)] = 500_000
    """More training rows than this are thinned evenly over time."""


class Training(TrainingWindow):
    """Window, budget and options of the AutoML run of each region."""

    seed: int = 1
    maximum_models: Annotated[int, Field(ge=1, le=200)] = 6
    """Models AutoML builds, stacked ensembles not counted. With the seed this makes a run reproducible."""
    maximum_runtime_seconds: Annotated[int, Field(ge=1)] = 1800
    """Safety net for each region; a run it cuts off is not reproducible."""
    include_algorithms: list[str] | None = None
    exclude_algorithms: list[str] | None = None
    stopping_rounds: Annotated[int, Field(ge=0)] = 3
    stopping_tolerance: Annotated[float, Field(gt=0)] | None = None
    minimum_rows: Annotated[int, Field(ge=2)] = 500
    """A region with fewer labelled rows in any part of the window's training span ends with a reason."""
    naive_baseline: list[Column] = []
    """Features whose target rate (or mean) on the training rows is the naive baseline; empty takes the overall one."""
    pooled: Pooled = Pooled()
    slices: list[Column] = []
    """Features by whose levels the evaluation is told apart as well; empty takes those of the naive baseline."""

    @model_validator(mode="after")
    def _one_list_of_algorithms(self) -> Training:
        if self.include_algorithms is not None and self.exclude_algorithms is not None:
            raise ValueError("declare include_algorithms or exclude_algorithms, not both")
        return self

    @property
    def window(self) -> TrainingWindow:
        """The four spans alone."""
        return TrainingWindow(**{name: getattr(self, name) for name in TrainingWindow.model_fields})


class Promotion(Contract):
    """When a candidate becomes champion. Every clause must hold, on the held-out rows of the candidate's window."""

    metric: Metric | None = None
    """What decides: auc, log_loss or average_precision (binary), log_loss, accuracy or balanced_accuracy
    (multiclass), rmse, mae or r2 (regression). Left out, the first of its kind."""
    minimum_gain: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the present champion, in units of the metric."""
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """In what share of bootstrap resamples it must be better than the naive baseline and than the champion."""
    maximum_mojo_bytes: Annotated[int, Field(ge=1)] | None = None
    maximum_score_microseconds: Annotated[float, Field(gt=0)] | None = None
    """Longest mean time of one score by the MOJO."""
    schema_change: Literal["refused", "allowed"] = "refused"
    """Whether a candidate may replace a champion although it would refuse vectors that the champion takes."""


class Serving(Contract):
    """How predictions are answered."""

    cache_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    maximum_vector_age_seconds: Annotated[int, Field(ge=1)] | None = None
    """A prediction by entity refuses a stored vector older than this at the prediction's moment; None takes any age."""
    explanations: bool = False
    """Keep the best tree model beside a leader that cannot explain itself."""


class Retention(Contract):
    """How long the MOJOs of superseded versions are kept. What a version was stays readable for ever."""

    keep_versions: Annotated[int, Field(ge=1)] = 10
    """The newest versions of each region that keep their MOJO."""
    keep_days: Annotated[int, Field(ge=1)] = 30
    """Days for which any version keeps it, counted from its registration and from when an alias last left it."""


class UseCase(Contract):
    """One prediction problem: a table with an entity, an event time, a region and a target."""

    name: Name
    title: str
    description: str = ""
    source: Source
    entity: Entity
    event_time: Column
    """Column with the moment at which the vector is true, with time zone."""
    region: Column | None = None
    """Column whose values are the regions; one model each. None: one model, of the region `all`."""
    target: Target
    features: Features
    expectations: Expectations = Expectations()
    training: Training
    promotion: Promotion = Promotion()
    serving: Serving = Serving()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _columns_fit(self) -> UseCase:
        if self.target.column in self.features.columns:
            raise ValueError(f"the target {self.target.column!r} is also a feature: that would leak it")
        unknown = [name for name in self.training.naive_baseline if name not in self.features.columns]
        if unknown:
            raise ValueError(f"training.naive_baseline names {unknown}, which are not features")
        if unknown := [name for name in self.training.slices if name not in self.features.columns]:
            raise ValueError(f"training.slices names {unknown}, which are not features")
        return self

    @model_validator(mode="after")
    def _metric_fits(self) -> UseCase:
        known = METRICS[self.target.kind]
        if self.promotion.metric is not None and self.promotion.metric not in known:
            raise ValueError(
                f"promotion.metric is {self.promotion.metric!r}, but a {self.target.kind} target has {', '.join(known)}"
            )
        return self

    @property
    def deciding_metric(self) -> Metric:
        """By which candidates are compared."""
        return self.promotion.metric or METRICS[self.target.kind][0]

    @property
    def input_schema(self) -> InputSchema:
        """Schema of the feature vectors."""
        return InputSchema(columns=self.features.columns)

    @property
    def pooled_schema(self) -> InputSchema:
        """Schema of the pooled model: the features and the region, where that is not one of them already."""
        if self.region is None or self.region in self.features.columns:
            return self.input_schema
        return InputSchema(columns={**self.features.columns, self.region: FeatureColumn(type="category")})
