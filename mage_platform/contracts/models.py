"""Registered models: immutable versions, and the aliases that move between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from mage_platform.contracts.features import InputSchema
from mage_platform.contracts.metrics import Metrics
from mage_platform.contracts.strict import Contract, Name, Region, Sha256
from mage_platform.contracts.training import LeaderboardRow, Lineage, PartialDependence, TrainingWindow

CachePolicy = Literal["always", "adaptive", "off"]
"""Whether predictions are looked up in the cache: all, while that is measured cheaper than scoring, none."""

ChallengerMode = Literal["canary", "shadow"]
"""As canary a challenger answers its share of the entities; as shadow it scores them beside the champion's answer."""

Share = Annotated[float, Field(gt=0, le=1)]


class ModelReference(Contract):
    """Which model answered."""

    use_case: Name
    region: Region
    version: Annotated[int, Field(ge=1)]
    algorithm: str


class NewVersion(Contract):
    """What a registration brings; number, digests and time are the registry's."""

    use_case: Name
    region: Region
    algorithm: str
    target: str
    """Name of the predicted column."""
    input_schema: InputSchema
    region_feature: str | None = None
    """The feature that holds the region, in the pooled model; filled in from the request's region."""
    cache_ttl_seconds: Annotated[int, Field(ge=1)]
    """How long a prediction may be answered from the cache."""
    cache_policy: CachePolicy | None = None
    """Whether predictions are looked up in the cache; None leaves it to the sidecar's setting."""
    maximum_vector_age_seconds: Annotated[int, Field(ge=1)] | None = None
    """Greatest age of a stored vector that a prediction may be made from; None takes any."""
    default_features: dict[str, Any] | None = None
    """Vector of an entity whose own is missing or too old; None refuses the prediction."""
    log_predictions: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the predictions that are kept with their vectors."""
    metrics: Metrics
    naive_metrics: Metrics
    leaderboard: list[LeaderboardRow]
    window: TrainingWindow
    rows: dict[str, int]
    """Rows of each part of the window."""
    seed: int
    h2o_version: str
    explainer_algorithm: str | None = None
    """Algorithm of the tree model kept beside a leader that cannot explain itself."""
    mojo_bytes: Annotated[int, Field(ge=1)]
    score_microseconds: float | None = None
    """Time of one score by the MOJO, as measured after the training."""
    variable_importance: dict[str, float] = {}
    partial_dependence: list[PartialDependence] = []
    """Of the most important features, on held-out rows."""
    lineage: Lineage
    run: str
    """Id of the pipeline run that registered it."""


class ModelVersion(NewVersion):
    """A registered MOJO of a (use case, region), with all that is needed to serve and to explain it."""

    version: Annotated[int, Field(ge=1)]
    mojo_sha256: Sha256
    genmodel_sha256: Sha256
    explainer_sha256: Sha256 | None = None
    registered_at: AwareDatetime
    signature: str | None = None
    """Ed25519 signature in base64, see `mage_platform.registry.signatures`; None if it was never signed."""
    signed_by: str | None = None
    """Id of the key that signed it: the first 16 digits of the SHA-256 of the public key."""
    artifacts_dropped_at: AwareDatetime | None = None
    """When retention dropped its artifacts; None as long as it can be served."""

    @property
    def reference(self) -> ModelReference:
        """The short form that goes into answers."""
        return ModelReference(
            use_case=self.use_case, region=self.region, version=self.version, algorithm=self.algorithm
        )


class Champion(Contract):
    """The version that the alias `champion` points to, and since when."""

    model: ModelVersion
    since: AwareDatetime


class Challenger(Contract):
    """The version that the alias `challenger` points to, how it takes part, and since when."""

    model: ModelVersion
    mode: ChallengerMode
    share: Share
    """Of the entities, by a hash of their id: an entity stays where it is while version and share stand."""
    since: AwareDatetime


class Deployment(Contract):
    """Who answers for a region."""

    champion: Champion
    challenger: Challenger | None = None


class AliasMove(Contract):
    """One move of an alias, kept for ever."""

    use_case: Name
    region: Region
    alias: str
    from_version: int | None
    to_version: int
    moved_at: AwareDatetime
    moved_by: str
    reason: str


class ChallengerChange(Contract):
    """One change of how a challenger takes part, kept for ever."""

    use_case: Name
    region: Region
    version: Annotated[int, Field(ge=1)]
    mode: ChallengerMode | None
    """None: it takes part no more."""
    share: Share | None
    changed_at: AwareDatetime
    changed_by: str
    reason: str
