"""What the sidecar says about itself: the answers of the routes that only look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from mage_platform.contracts import Challenger, ChallengerMode, Champion, ModelVersion
from mage_platform.contracts.metrics import Metrics
from mage_platform.contracts.strict import Contract
from mage_platform.registry import report_path
from serving.load_faults import LoadFault
from serving.models import ServedModel
from serving.repository import Repository


class ChallengerSummary(Contract):
    """The version that takes part beside a champion."""

    version: int
    mode: ChallengerMode
    share: float = Field(..., description="Of the entities")
    since: AwareDatetime
    in_memory: bool


class ServedModelSummary(Contract):
    """A served model in the list."""

    use_case: str
    region: str
    version: int
    algorithm: str
    target: str
    metrics: Metrics
    naive_metrics: Metrics
    registered_at: AwareDatetime
    since: AwareDatetime = Field(..., description="Champion since")
    in_memory: bool = Field(..., description="False: it is loaded when it is asked for")
    challenger: ChallengerSummary | None


class ServedModels(Contract):
    """Everything that is served."""

    models: list[ServedModelSummary]


class ServedModelDetails(Contract):
    """A served model with its metrics, its lineage, and a request it answers."""

    model: ModelVersion
    since: AwareDatetime = Field(..., description="Champion since")
    report: str = Field(..., description="Path of the version's report, as a page or as JSON")
    classes: list[str] = Field(..., description="The target's classes, in the order of their codes; none for a number")
    example: dict[str, Any] = Field(..., description="A request this model answers")


class RegistryHealth(Contract):
    """How the registry was last seen."""

    reachable: bool
    read_at: AwareDatetime | None
    reason: str
    kept_at: AwareDatetime | None = Field(
        None, description="When the served champions were last seen, while they are known from this disk alone"
    )


class ModelNotLoaded(Contract):
    """A version that does not answer, and why."""

    alias: Literal["champion", "challenger"]
    use_case: str
    region: str
    version: int
    reason: str
    since: AwareDatetime
    served_version: int | None = Field(..., description="The version that answers meanwhile, if any")


class Readiness(Contract):
    """Whether predictions are answered, and what is not as it should be."""

    status: str
    reason: str = ""
    models: int = Field(..., description="Models in memory")
    known: int = Field(..., description="Champions that answer, in memory or loaded when they are asked for")
    registry: RegistryHealth
    not_loaded: list[ModelNotLoaded]
    api_keys: str = Field("", description="Why the file of API keys is not what counts; empty when it is")


def served_models(repository: Repository, sees: Callable[[str], bool]) -> ServedModels:
    """The list of what is served, in memory or not.

    Args:
        repository: What is served.
        sees: Whether the caller's key is for a use case.
    """
    models, challengers = repository.models, repository.challengers
    return ServedModels(
        models=[
            summary(champion, models.get(key), challengers.get(key))
            for key, champion in sorted(repository.known.items(), key=lambda item: item[0])
            if sees(key[0])
        ]
    )


def summary(champion: Champion, model: ServedModel | None, challenger: Challenger | None = None) -> ServedModelSummary:
    """The line of a model in the list.

    Args:
        champion: What the registry says of it.
        model: As it is in memory.
        challenger: Beside it.
    """
    version = champion.model
    own = {"since", "in_memory", "challenger"}
    return ServedModelSummary(
        **{name: getattr(version, name) for name in set(ServedModelSummary.model_fields) - own},
        since=champion.since,
        in_memory=model is not None and model.version == version,
        challenger=None if challenger is None else _challenger(challenger, model),
    )


def _challenger(challenger: Challenger, model: ServedModel | None) -> ChallengerSummary:
    challenge = None if model is None else model.challenge
    return ChallengerSummary(
        version=challenger.model.version,
        mode=challenger.mode,
        share=challenger.share,
        since=challenger.since,
        in_memory=challenge is not None and challenge.model.version == challenger.model,
    )


def details(model: ServedModel) -> ServedModelDetails:
    """All there is to say about a model."""
    version = model.version
    return ServedModelDetails(
        model=version,
        since=model.since,
        report=report_path(version.use_case, version.region, version.version),
        classes=model.labels,
        example=model.example_request(),
    )


def readiness(repository: Repository, keys_fault: str = "") -> Readiness:
    """Ready from the first loaded champion on; a registry that goes away later does not change that."""
    state, known = repository.registry, repository.known
    versions = {key: champion.model.version for key, champion in known.items()}
    not_loaded = _not_loaded("champion", repository.faults, versions)
    not_loaded += _not_loaded("challenger", repository.challenger_faults, versions)
    registry = RegistryHealth(
        reachable=state.reachable, read_at=state.read_at, reason=state.reason, kept_at=state.kept_at
    )
    models = len(repository.models)
    ready = bool(models) and (state.read_at is not None or state.kept_at is not None)
    return Readiness(
        status="ready" if ready else "not ready",
        reason="" if ready else _why_not(repository),
        models=models,
        known=len(known),
        registry=registry,
        not_loaded=not_loaded,
        api_keys=keys_fault,
    )


def _not_loaded(
    alias: Literal["champion", "challenger"],
    faults: Mapping[tuple[str, str], LoadFault],
    served: Mapping[tuple[str, str], int],
) -> list[ModelNotLoaded]:
    """Faults, each with the version that answers meanwhile: the champion before, or the champion of a challenger."""
    return [
        ModelNotLoaded(
            alias=alias,
            use_case=fault.use_case,
            region=fault.region,
            version=fault.version,
            reason=fault.reason,
            since=fault.since,
            served_version=version if (version := served.get(key)) != fault.version else None,
        )
        for key, fault in faults.items()
    ]


def _why_not(repository: Repository) -> str:
    state = repository.registry
    if state.read_at is None and state.kept_at is None:
        return state.reason
    if repository.faults:
        first = next(iter(repository.faults.values()))
        return f"no champion could be loaded; {first.use_case}/{first.region}: {first.reason}"
    return "the registry has no champion yet: train and promote one"
