"""Train a registered version once more from its lineage, and hold every score against it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import structlog

from mage_platform.contracts import FailedCandidate, GoodCandidate, ModelVersion, RegionPlan, UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.errors import ContractViolated, TrainingFailed
from mage_platform.settings import Settings
from mage_platform.training.held_out import CANDIDATE, HeldOut
from mage_platform.training.regions import train_region
from mage_platform.training.registered_scores import registered_scores

log = structlog.get_logger()


class Reproduction(Contract):
    """How a second training from the lineage of a version compares to it."""

    use_case: str
    region: str
    version: int
    same_scores: bool
    """Every prediction on the held-out rows is equal, to the last bit."""
    rows: int
    """Held-out rows that were compared."""
    largest_difference: float
    """Between two predictions of one row: of a probability, or of the number."""
    differences: list[str]
    """What is not as it was: one sentence each, empty where nothing is known to differ."""
    algorithm: str
    training_seconds: float


def reproduce(settings: Settings, use_case: UseCase, version: ModelVersion) -> Reproduction:
    """Train a version again on its window, with its seed and budget; nothing is registered.

    Args:
        settings: Feature store, registry and H2O server.
        use_case: As declared now; a declaration of another state is named among the differences.
        version: A registered version that still has its MOJO.

    Raises:
        ContractViolated: Its MOJO was dropped by retention, so there is nothing to compare with.
        TrainingFailed: The second training ended without a model; says why.
    """
    if version.artifacts_dropped_at is not None:
        raise ContractViolated(
            f"version {version.version} of {version.use_case}/{version.region} lost its MOJO to retention on "
            f"{version.artifacts_dropped_at:%Y-%m-%d}: there are no scores to compare with",
            field="version",
        )
    plan = _plan(use_case, version)
    try:
        candidate = train_region(settings, _as_then(use_case, version), plan)
        if isinstance(candidate, FailedCandidate):
            raise TrainingFailed(
                f"version {version.version} of {version.use_case}/{version.region} cannot be trained again: "
                f"{candidate.reason}"
            )
        return _compare(settings, version, candidate)
    finally:
        shutil.rmtree(settings.runs_folder / plan.run, ignore_errors=True)


def _plan(use_case: UseCase, version: ModelVersion) -> RegionPlan:
    return RegionPlan(
        use_case=version.use_case,
        region=version.region,
        run=f"again_{secrets.token_hex(4)}",
        window=version.window,
        seed=version.seed,
        maximum_models=version.lineage.maximum_models,
        maximum_runtime_seconds=use_case.training.maximum_runtime_seconds,
        labelled_rows=sum(version.rows.values()),
    )


def _as_then(use_case: UseCase, version: ModelVersion) -> UseCase:
    """The declaration with window and seed of the version: these may move from training to training."""
    moved = {name: getattr(version.window, name) for name in type(version.window).model_fields}
    training = use_case.training.model_copy(update={**moved, "seed": version.seed})
    return use_case.model_copy(update={"training": training})


def _compare(settings: Settings, version: ModelVersion, candidate: GoodCandidate) -> Reproduction:
    rows = HeldOut.read(Path(candidate.test_path))
    again = rows.scored(CANDIDATE).predicted
    before = registered_scores(settings, version, rows, run=candidate.plan.run)
    if before.shape != again.shape:
        differences = [f"it gave {before.shape[-1]} numbers a row, and now gives {again.shape[-1]}"]
        same, largest = False, float("inf")
    else:
        differences, same = [], bool(np.array_equal(before, again))
        largest = float(np.abs(before - again).max(initial=0.0))
    return Reproduction(
        use_case=version.use_case,
        region=version.region,
        version=version.version,
        same_scores=same,
        rows=len(rows),
        largest_difference=largest,
        differences=[*differences, *_differences(version, candidate)],
        algorithm=candidate.algorithm,
        training_seconds=candidate.training_seconds,
    )


def _differences(version: ModelVersion, candidate: GoodCandidate) -> Iterator[str]:
    before, now = version.lineage, candidate.lineage
    if before.rows_fingerprint != now.rows_fingerprint:
        counts = ", ".join(
            f"{name} {version.rows.get(name, 0):,} to {count:,}" for name, count in candidate.rows.items()
        )
        yield f"the stored rows changed since (rows: {counts})"
    if version.h2o_version != candidate.h2o_version:
        yield f"H2O {version.h2o_version} trained it, now it is {candidate.h2o_version}"
    if before.declaration_sha256 != now.declaration_sha256:
        commit = f": check out commit {before.code_commit[:12]} to have it as it was" if before.code_commit else ""
        yield f"the declaration or the code beside it changed since{commit}"
    elif before.training_fingerprint != now.training_fingerprint and before.rows_fingerprint == now.rows_fingerprint:
        yield "an option of the training changed since"
    if version.algorithm != candidate.algorithm:
        yield f"{version.algorithm} led then, now {candidate.algorithm} does"
