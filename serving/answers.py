"""What the sidecar says about itself: the answers of the routes that only look."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from mage_platform.contracts import ModelVersion
from mage_platform.contracts.metrics import Metrics
from mage_platform.contracts.strict import Contract
from mage_platform.registry import report_path
from serving.models import ServedModel
from serving.repository import Repository


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


class ModelNotLoaded(Contract):
    """A champion that does not answer, and why."""

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
    models: int
    registry: RegistryHealth
    not_loaded: list[ModelNotLoaded]
    api_keys: str = Field("", description="Why the file of API keys is not what counts; empty when it is")


def summary(model: ServedModel) -> ServedModelSummary:
    """The line of a model in the list."""
    names = set(ServedModelSummary.model_fields) - {"since"}
    return ServedModelSummary(**{name: getattr(model.version, name) for name in names}, since=model.since)


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
    models, state = repository.models, repository.registry
    not_loaded = [
        ModelNotLoaded(
            use_case=fault.use_case,
            region=fault.region,
            version=fault.version,
            reason=fault.reason,
            since=fault.since,
            served_version=served.version.version if (served := models.get(key)) else None,
        )
        for key, fault in repository.faults.items()
    ]
    registry = RegistryHealth(reachable=state.reachable, read_at=state.read_at, reason=state.reason)
    ready = bool(models) and state.read_at is not None
    reason = "" if ready else _why_not(repository)
    status = "ready" if ready else "not ready"
    return Readiness(
        status=status,
        reason=reason,
        models=len(models),
        registry=registry,
        not_loaded=not_loaded,
        api_keys=keys_fault,
    )


def _why_not(repository: Repository) -> str:
    if repository.registry.read_at is None:
        return repository.registry.reason
    if repository.faults:
        first = next(iter(repository.faults.values()))
        return f"no champion could be loaded; {first.use_case}/{first.region}: {first.reason}"
    return "the registry has no champion yet: train and promote one"
