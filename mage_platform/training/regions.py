"""The work of one branch of the fan-out: from a plan to a candidate. A branch never raises."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from mage_platform.contracts import FailedCandidate, GoodCandidate, RegionPlan, UseCase
from mage_platform.errors import PlatformError
from mage_platform.features.training_set import PARTS, training_files
from mage_platform.features.vectors import LABEL
from mage_platform.registry import sha256_of
from mage_platform.settings import Settings
from mage_platform.training.evaluation import binary_metrics, labels_of, naive_probabilities
from mage_platform.training.h2o_server import H2O_VERSION, Branch, branch_prefix, h2o_server

log = structlog.get_logger()


class RegionUnfit(Exception):
    """The region's rows do not allow a training; the sentence is the reason in the report."""


def train_region(settings: Settings, use_case: UseCase, plan: RegionPlan) -> GoodCandidate | FailedCandidate:
    """Train one region on the shared H2O server.

    Returns:
        A candidate, or the reason why there is none: Mage kills the siblings of a child that raises, so this one
        never does.
    """
    clock = time.monotonic()
    try:
        candidate = _train(settings, use_case, plan)
    except (RegionUnfit, PlatformError) as error:
        return _failed(plan, str(error))
    except Exception as error:  # the edge of the branch: whatever happened is this region's reason
        log.exception("region failed", use_case=plan.use_case, region=plan.region)
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return _failed(plan, f"{type(error).__name__}: {first}")
    log.info(
        "region trained",
        use_case=plan.use_case,
        region=plan.region,
        algorithm=candidate.algorithm,
        auc=round(candidate.metrics.auc, 4),
        naive_auc=round(candidate.naive_metrics.auc, 4),
        seconds=round(time.monotonic() - clock, 1),
    )
    return candidate


def check_fit(parts: dict[str, pa.Table], minimum_rows: int) -> None:
    """Refuse parts that cannot be trained or judged on.

    Raises:
        RegionUnfit: Too few training rows, an empty part, or only one class; names the part and the numbers.
    """
    train = parts["train"]
    if len(train) < minimum_rows:
        raise RegionUnfit(
            f"only {len(train):,} labelled rows to train on, training.minimum_rows asks for {minimum_rows:,}"
        )
    for name in PARTS:
        if name == "blend" and not len(parts[name]):
            continue
        if not len(parts[name]):
            raise RegionUnfit(f"no labelled rows in the {name} part of the window")
        classes = np.unique(labels_of(parts[name]))
        if len(classes) < 2:
            raise RegionUnfit(f"all {len(parts[name]):,} rows of the {name} part have the label {classes[0]}")


def _train(settings: Settings, use_case: UseCase, plan: RegionPlan) -> GoodCandidate:
    folder = settings.runs_folder / plan.run / branch_prefix(plan)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rows_", dir=folder) as rows:
        files = training_files(settings, plan.use_case, plan.region, use_case.input_schema, plan.window, Path(rows))
        return _train_on(settings, use_case, plan, files, folder)


def _train_on(
    settings: Settings, use_case: UseCase, plan: RegionPlan, files: dict[str, Path], folder: Path
) -> GoodCandidate:
    # only what evaluation needs is read; the rest goes from the database through the files to H2O
    columns = [LABEL, *use_case.training.naive_baseline]
    parts = {name: pq.read_table(file, columns=columns) for name, file in files.items()}
    check_fit(parts, use_case.training.minimum_rows)
    with h2o_server(settings):
        branch = Branch(plan, use_case.input_schema)
        try:
            frames = {name: branch.upload(name, files[name]) for name, table in parts.items() if len(table)}
            trained = branch.train(use_case.training, frames["train"], frames["validate"], frames.get("blend"))
            probabilities = branch.probabilities(trained.leader, frames["test"])
            mojo, genmodel = branch.export_mojo(trained.leader, folder)
        finally:
            branch.remove()
    labels = labels_of(parts["test"])
    naive = naive_probabilities(parts["train"], parts["test"], use_case.training.naive_baseline)
    return GoodCandidate(
        plan=plan,
        mojo_path=str(mojo),
        mojo_sha256=sha256_of(mojo),
        genmodel_path=str(genmodel),
        genmodel_sha256=sha256_of(genmodel),
        algorithm=trained.algorithm,
        h2o_version=H2O_VERSION,
        rows={name: len(table) for name, table in parts.items()},
        metrics=binary_metrics(labels, probabilities),
        naive_metrics=binary_metrics(labels, naive),
        leaderboard=trained.leaderboard,
        training_seconds=round(trained.seconds, 1),
    )


def _failed(plan: RegionPlan, reason: str) -> FailedCandidate:
    log.warning("region failed", use_case=plan.use_case, region=plan.region, reason=reason)
    return FailedCandidate(plan=plan, reason=reason)
