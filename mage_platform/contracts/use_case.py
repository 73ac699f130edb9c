"""The declaration of one prediction problem: `use_cases/<name>/use_case.yaml`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from mage_platform.contracts.features import FeatureColumn, InputSchema
from mage_platform.contracts.metrics import METRICS, Metric, TargetKind
from mage_platform.contracts.models import CachePolicy
from mage_platform.contracts.strict import Contract, FieldError, Name
from mage_platform.contracts.training import TrainingWindow

Column = Annotated[str, Field(min_length=1, max_length=63)]
TRAVEL_BESIDE = ("_entity_id", "_event_time", "_region", "_label", "_known_at")
"""Columns that travel beside the features of a vector; no feature may be named so."""
Function = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[a-z_][a-z0-9_]*$")]
"""`module:function` of the use case's own folder."""


class Source(Contract):
    """Where the source rows come from: a function of the use case's folder, a file, or a query."""

    function: Function | None = None
    """`load_rows(start, end) -> DataFrame`; both bounds are aware datetimes or None, of event time, half open."""
    file: str | None = None
    """Parquet or CSV file, relative to the use case's folder."""
    query: Annotated[str, Field(pattern=r"^[^/\\]+\.sql$")] | None = None
    """File in the use case's folder with one PostgreSQL query. `%(start)s` and `%(end)s` in it stand for the bounds of
    event time, `-infinity` and `infinity` where there are none."""
    connection: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    """Of a query: which PostgreSQL. The secret `platform_source_<connection>` holds its connection string; None is the
    platform's own database."""
    time_zone: str | None = None
    """IANA name of the zone that times without one are meant in, such as Europe/Zurich. None refuses such times."""
    history_days: Annotated[int, Field(ge=0)] = 0
    """Days before the asked-for window that are read as well, because the feature code looks back."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in (known := available_timezones()):
            nearest = get_close_matches(zone, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"is no time zone; write an IANA name such as {nearest}")
        return zone

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in ("function", "file", "query") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"these are {', '.join(given)}" if given else "there is none"
            raise FieldError(f"declare exactly one of `function`, `file` and `query`; {found}", *given[1:2])
        if self.connection is not None and self.query is None:
            raise FieldError("`connection` says where a `query` runs; there is no `query`: leave it out", "connection")
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
            raise FieldError(f"`positive` is for binary targets, not for {self.kind}: leave it out", "positive")
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
        for place, rule in enumerate(rules):
            if len(rule) != 1 or not next(iter(rule)).startswith("expect_"):
                raise FieldError(f"each rule is one `expect_...: {{arguments}}`, not {rule!r}", place)
        return rules


Algorithm = Literal["DRF", "GLM", "XGBoost", "GBM", "DeepLearning", "StackedEnsemble"]
"""What H2O's AutoML builds."""


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
    include_algorithms: list[Algorithm] | None = None
    exclude_algorithms: list[Algorithm] | None = None
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
            raise FieldError("declare include_algorithms or exclude_algorithms, not both", "exclude_algorithms")
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
    cache: CachePolicy | None = None
    """Whether predictions are looked up in the cache: `always`, `adaptive` (while that is measured cheaper than
    scoring) or `off`; None leaves it to the sidecar's setting."""
    maximum_vector_age_seconds: Annotated[int, Field(ge=1)] | None = None
    """A prediction by entity refuses a stored vector older than this at the prediction's moment; None takes any age."""
    default_features: dict[str, Any] | None = None
    """Vector that a prediction by entity is made from where the entity's own is missing or too old; the answer says so.
    None refuses such a prediction."""
    log_predictions: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the predictions that are kept with their vectors: 1 is all, 0 none."""
    explanations: bool = False
    """Keep the best tree model beside a leader that cannot explain itself."""

    @field_validator("cache", mode="before")
    @classmethod
    def _off_is_a_word(cls, policy: Any) -> Any:
        return "off" if policy is False else policy  # YAML reads a bare `off` as false


class Retention(Contract):
    """How long predictions and the MOJOs of superseded versions are kept. What a version was stays readable."""

    keep_versions: Annotated[int, Field(ge=1)] = 10
    """The newest versions of each region that keep their MOJO."""
    keep_days: Annotated[int, Field(ge=1)] = 30
    """Days for which any version keeps it, counted from its registration and from when an alias last left it."""
    keep_predictions_days: Annotated[int, Field(ge=1)] = 90
    """Days for which predictions are kept."""


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
        features = list(self.features.columns)
        if self.target.column in features:
            name = self.target.column
            raise FieldError(
                f"the target {name!r} is also a feature: that would leak it. Take it out of features.columns",
                "features", "columns", name,
            )  # fmt: skip
        if taken := [name for name in features if name in TRAVEL_BESIDE]:
            raise FieldError(
                f"{taken[0]!r} cannot name a feature: the platform's own columns are called {', '.join(TRAVEL_BESIDE)}",
                "features", "columns", taken[0],
            )  # fmt: skip
        for field in ("naive_baseline", "slices"):
            names = getattr(self.training, field)
            if unknown := [name for name in names if name not in features]:
                nearest = get_close_matches(unknown[0], features, n=1, cutoff=0.0)[0]
                raise FieldError(
                    f"training.{field} names {unknown}, which are not features; the nearest feature is {nearest!r}",
                    "training", field, names.index(unknown[0]),
                )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _default_vector_fits(self) -> UseCase:
        default, columns = self.serving.default_features, self.features.columns
        if default is None:
            return self
        for name in default:
            if name not in columns:
                nearest = get_close_matches(name, columns, n=1, cutoff=0.0)[0]
                fault = f"{name!r} is not a feature; the nearest feature is {nearest!r}"
                raise FieldError(fault, "serving", "default_features", name)
        for name, column in columns.items():
            if (rule := column.broken_rule(default.get(name))) is None:
                continue
            if name in default:
                raise FieldError(f"{default[name]!r} {rule}", "serving", "default_features", name)
            fault = f"lacks {name!r}: give every feature a value that may not be missing"
            raise FieldError(fault, "serving", "default_features")
        return self

    @model_validator(mode="after")
    def _metric_fits(self) -> UseCase:
        known = METRICS[self.target.kind]
        if self.promotion.metric is not None and self.promotion.metric not in known:
            raise FieldError(
                f"promotion.metric is {self.promotion.metric!r}, but a {self.target.kind} target has "
                f"{', '.join(known)}", "promotion", "metric",
            )  # fmt: skip
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
