"""Clearing up after trainings: artifacts past their retention, folders of runs, copies on the local disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from mage_platform.contracts import ModelReference, ModelVersion, UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import connect
from mage_platform.predictions import drop_predictions
from mage_platform.registry import champions, digests_of_runs, drop_artifacts, forget_artifacts, sha256_of
from mage_platform.settings import Settings

log = structlog.get_logger()
RUN_SECONDS = 24 * 3600.0
"""Age, by its newest file, at which the folder of a run is taken for abandoned."""


class Pruned(Contract):
    """What was removed, or would be."""

    use_case: str
    versions: list[ModelReference]
    """Versions that cannot be served any more, because artifacts of theirs were dropped."""
    freed_bytes: int
    """Bytes freed in the database."""
    run_folders: list[str]
    cached_files: list[str]
    """Copies of artifacts on the local disk."""
    predictions: int
    """Rows of the prediction log."""


def prune(settings: Settings, use_case: UseCase, *, dry_run: bool = False, now: datetime | None = None) -> Pruned:
    """Drop what the use case's retention no longer keeps, and what trainings left behind on this machine's disk.

    A folder of `<state folder>/runs` goes when its MOJO was decided on or a day has passed; a copy in
    `<state folder>/artifacts` goes when no champion needs it and it was not used for an hour.

    Args:
        settings: Database and state folder.
        use_case: Whose versions are judged; run folders and copies are those of all.
        dry_run: Remove nothing.
        now: The present moment, for the age of versions.
    """
    runs = sorted(path.name for path in settings.runs_folder.glob("*") if path.is_dir())
    moment, days = now or datetime.now(UTC), use_case.retention.keep_predictions_days
    with connect(settings) as connection:  # of its own: registrations wait for the second one
        predictions = drop_predictions(connection, use_case.name, days, moment, dry_run=dry_run)
    with connect(settings) as connection:
        versions, freed = drop_artifacts(connection, use_case.name, use_case.retention, moment, dry_run=dry_run)
        registered = digests_of_runs(connection, runs)
        needed = {digest for each in champions(connection) for digest in _digests(each.model)}
    folders = _finished_folders(settings.runs_folder, runs, registered)
    if not dry_run:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)  # another process may be at it too; what stays is found again
            if folder.parent != settings.runs_folder:
                with suppress(OSError):  # not empty yet
                    folder.parent.rmdir()
    pruned = Pruned(
        use_case=use_case.name,
        versions=[version.reference for version in versions],
        freed_bytes=freed,
        run_folders=[str(folder.relative_to(settings.runs_folder)) for folder in folders],
        cached_files=[
            file.name for file in forget_artifacts(settings.state_folder / "artifacts", needed, dry_run=dry_run)
        ],
        predictions=predictions,
    )
    if not dry_run:
        log.info(
            "models pruned", use_case=use_case.name, versions=[f"{each.region} {each.version}" for each in versions],
            freed_bytes=freed, run_folders=len(folders), cached_files=len(pruned.cached_files),
            predictions=predictions,
        )  # fmt: skip
    return pruned


def _finished_folders(
    runs_folder: Path, runs: Collection[str], registered: Mapping[str, Collection[str]]
) -> list[Path]:
    """Whole folders of abandoned runs, and of the others the regions that were decided on."""
    finished = []
    for folder in (runs_folder / run for run in runs):
        with suppress(FileNotFoundError):  # another process is removing it
            if _newest(folder) < time.time() - RUN_SECONDS:
                finished.append(folder)
            elif digests := registered.get(folder.name):
                finished += [path for path in sorted(folder.iterdir()) if _holds_one_of(path, digests)]
    return finished


def _holds_one_of(folder: Path, digests: Collection[str]) -> bool:
    return any(sha256_of(mojo) in digests for mojo in folder.glob("*.zip"))


def _newest(folder: Path) -> float:
    """When something in a folder was last written, in seconds since the epoch."""
    return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])


def _digests(model: ModelVersion) -> tuple[str, str]:
    return model.mojo_sha256, model.genmodel_sha256
