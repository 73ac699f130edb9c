"""From candidates to registered versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from mage_platform.contracts import FailedCandidate, GoodCandidate, ModelVersion, NewVersion, UseCase
from mage_platform.contracts.strict import Contract, Region
from mage_platform.database import connect
from mage_platform.errors import ArtifactCorrupt, TrainingFailed
from mage_platform.registry import register, sha256_of, signing_key, version_of_run
from mage_platform.settings import Settings

log = structlog.get_logger()


class Registration(Contract):
    """What the exporter hands on: what was registered, and which regions have nothing to register."""

    versions: list[ModelVersion]
    unchanged: list[Region] = []
    """Regions whose training came to a version that was registered before, since nothing it depends on has changed."""
    held_out: dict[Region, str] = {}
    """Of each region with a version, the file of its held-out rows."""
    failed: list[FailedCandidate]

    def raise_if_failed(self) -> None:
        """Fail the run when a region failed.

        Raises:
            TrainingFailed: Names each failed region with its reason, and what became of the others.
        """
        if not self.failed:
            return
        lines = [f"{len(self.failed)} of {len(self.failed) + len(self.versions)} regions failed:"]
        lines += [f"  {failed.plan.region}: {failed.reason}" for failed in self.failed]
        fresh = [version for version in self.versions if version.region not in self.unchanged]
        lines.append(f"Registered all the same: {_names(fresh) or 'none'}")
        if self.unchanged:
            lines.append(f"Nothing changed for: {_names([each for each in self.versions if each not in fresh])}")
        raise TrainingFailed("\n".join(lines), regions=[failed.plan.region for failed in self.failed])


def _names(versions: Sequence[ModelVersion]) -> str:
    return ", ".join(f"{version.region} (version {version.version})" for version in versions)


def register_candidates(
    settings: Settings, use_case: UseCase, candidates: Sequence[GoodCandidate | FailedCandidate]
) -> Registration:
    """Register every good candidate, signed, each with its artifacts in one transaction; the same training only once.

    Raises:
        SettingsInvalid: There is no key to sign with.
        ArtifactCorrupt: A MOJO on disk is not the one that was evaluated.
        DatabaseUnavailable: PostgreSQL did not answer; a repeated call goes on where this one stopped.
    """
    versions: list[ModelVersion] = []
    unchanged: list[Region] = []
    held_out: dict[Region, str] = {}
    key = signing_key(settings)
    for candidate in candidates:
        if isinstance(candidate, FailedCandidate):
            continue
        plan = candidate.plan
        with connect(settings) as connection:
            present = version_of_run(connection, plan.use_case, plan.region, plan.run)
        if present is not None:  # the block was run again, and the folder of the run may be gone
            versions.append(present)
            if Path(candidate.test_path).is_file():
                held_out[present.region] = candidate.test_path
            continue
        mojo, genmodel = Path(candidate.mojo_path), Path(candidate.genmodel_path)
        if not mojo.is_file() or sha256_of(mojo) != candidate.mojo_sha256:
            raise ArtifactCorrupt(f"{mojo} is missing or not the MOJO that was evaluated: train the region again")
        explainer = Path(candidate.explainer.mojo_path) if candidate.explainer else None
        with connect(settings) as connection:
            version = register(
                connection,
                _new_version(use_case, candidate),
                mojo=mojo,
                genmodel=genmodel,
                signing_key=key,
                explainer=explainer,
            )
        versions.append(version)
        held_out[version.region] = candidate.test_path
        if version.run != candidate.plan.run:
            unchanged.append(version.region)
            log.info("model unchanged", use_case=version.use_case, region=version.region, version=version.version)
            continue
        log.info(
            "model registered", use_case=version.use_case, region=version.region, version=version.version,
            mojo_bytes=mojo.stat().st_size,
        )  # fmt: skip
    failed = [candidate for candidate in candidates if isinstance(candidate, FailedCandidate)]
    return Registration(versions=versions, unchanged=unchanged, held_out=held_out, failed=failed)


def _new_version(use_case: UseCase, candidate: GoodCandidate) -> NewVersion:
    plan = candidate.plan
    return NewVersion(
        use_case=plan.use_case,
        region=plan.region,
        algorithm=candidate.algorithm,
        target=use_case.target.column,
        input_schema=candidate.input_schema,
        region_feature=candidate.region_feature,
        cache_ttl_seconds=use_case.serving.cache_ttl_seconds,
        cache_policy=use_case.serving.cache,
        maximum_vector_age_seconds=use_case.serving.maximum_vector_age_seconds,
        default_features=use_case.serving.default_features,
        log_predictions=use_case.serving.log_predictions,
        metrics=candidate.metrics,
        naive_metrics=candidate.naive_metrics,
        leaderboard=candidate.leaderboard,
        window=plan.window,
        rows=candidate.rows,
        seed=plan.seed,
        h2o_version=candidate.h2o_version,
        explainer_algorithm=candidate.explainer.algorithm if candidate.explainer else None,
        mojo_bytes=candidate.mojo_bytes,
        score_microseconds=candidate.score_microseconds,
        variable_importance=candidate.variable_importance,
        partial_dependence=candidate.partial_dependence,
        lineage=candidate.lineage,
        run=plan.run,
    )
