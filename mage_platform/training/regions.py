"""The work of one branch of the fan-out: from a plan to a candidate. A branch never raises."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from mage_platform.contracts import FailedCandidate, GoodCandidate, InputSchema, Lineage, RegionPlan, UseCase
from mage_platform.contracts.training import Explainer
from mage_platform.database import connect
from mage_platform.errors import PlatformError
from mage_platform.features.training_set import KEYS, PARTS, training_files
from mage_platform.features.vectors import LABEL
from mage_platform.registry import sha256_of
from mage_platform.settings import Settings
from mage_platform.training.dependence import partial_dependence
from mage_platform.training.h2o_server import (
    H2O_VERSION,
    TREES,
    Branch,
    RegionOverran,
    Trained,
    branch_prefix,
    h2o_server,
)
from mage_platform.training.held_out import CANDIDATE, NAIVE, HeldOut, held_out, truth_of
from mage_platform.training.lineage import RowsFingerprint, lineage_of
from mage_platform.training.loading import Loading, loading
from mage_platform.training.metrics import metrics_of
from mage_platform.training.naive import naive_predictions
from mage_platform.training.score_time import score_microseconds
from mage_platform.validation.quarantine import last_report

log = structlog.get_logger()
HELD_OUT = "held_out.parquet"


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
    except (RegionUnfit, RegionOverran, PlatformError) as error:
        return _failed(plan, str(error))
    except Exception as error:  # the edge of the branch: whatever happened is this region's reason
        log.exception("region failed", use_case=plan.use_case, region=plan.region)
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return _failed(plan, f"{type(error).__name__}: {first}")
    metric = use_case.deciding_metric
    log.info(
        "region trained",
        use_case=plan.use_case,
        region=plan.region,
        algorithm=candidate.algorithm,
        metric=metric,
        value=round(getattr(candidate.metrics, metric), 4),
        naive_value=round(getattr(candidate.naive_metrics, metric), 4),
        seconds=round(time.monotonic() - clock, 1),
    )
    return candidate


def check_fit(parts: dict[str, pa.Table], use_case: UseCase) -> None:
    """Refuse parts that cannot be trained or judged on.

    Raises:
        RegionUnfit: Too few training rows, an empty part, or only one value of the target; names part and numbers.
    """
    train, minimum_rows = parts["train"], use_case.training.minimum_rows
    if len(train) < minimum_rows:
        raise RegionUnfit(
            f"only {len(train):,} labelled rows to train on, training.minimum_rows asks for {minimum_rows:,}"
        )
    for name in PARTS:
        if name == "blend" and not len(parts[name]):
            continue
        if not len(parts[name]):
            raise RegionUnfit(f"no labelled rows in the {name} part of the window")
        values = pc.unique(parts[name][LABEL])
        # a test part of several classes may hold one of them only: that can still be told right from wrong
        if len(values) < 2 and (name == "train" or use_case.target.kind == "binary"):
            raise RegionUnfit(f"all {len(parts[name]):,} rows of the {name} part have the label {values[0].as_py()}")


def _train(settings: Settings, use_case: UseCase, plan: RegionPlan) -> GoodCandidate:
    schema = use_case.pooled_schema if plan.is_pooled else use_case.input_schema
    folder = settings.runs_folder / plan.run / branch_prefix(plan)
    folder.mkdir(parents=True, exist_ok=True)
    limit = use_case.training.pooled.maximum_rows
    share = min(1.0, limit / max(plan.labelled_rows, 1)) if plan.is_pooled else 1.0
    wait = plan.labelled_rows >= settings.training.small_region_rows
    # The rows go from the database through files to H2O; only what is judged on is held here. What does not need H2O
    # is done beside it: the lineage while rows go up, the timing while it predicts.
    with (
        loading(folder.parent, wait=wait) as rows_loading,
        tempfile.TemporaryDirectory(prefix="rows_", dir=folder) as rows,
        ThreadPoolExecutor(1, "beside-h2o") as beside,
    ):
        fingerprint = RowsFingerprint()
        files = training_files(
            settings, use_case, plan.region, schema, plan.window, Path(rows),
            train_share=share, witness=fingerprint.add,
        )  # fmt: skip
        lineage = beside.submit(_lineage, settings, use_case, plan, schema, fingerprint.hexdigest())
        return _train_on(settings, use_case, plan, schema, files, folder, beside, lineage, rows_loading)


def _train_on(
    settings: Settings, use_case: UseCase, plan: RegionPlan, schema: InputSchema, files: dict[str, Path], folder: Path,
    beside: Executor, lineage: Future[Lineage], rows_loading: Loading,
) -> GoodCandidate:  # fmt: skip
    kind = use_case.target.kind
    judged = [LABEL, *use_case.training.naive_baseline]
    parts = {name: pq.read_table(file, columns=None if name == "test" else judged) for name, file in files.items()}
    check_fit(parts, use_case)
    test = parts["test"]
    with h2o_server(settings):
        branch = Branch(plan, schema)
        try:
            frames = {
                name: branch.upload(name, test.drop_columns(list(KEYS)) if name == "test" else files[name], kind)
                for name, table in parts.items()
                if len(table)
            }
            rows_loading.finish()
            trained = branch.train(
                use_case.training, use_case.deciding_metric, frames["train"], frames["validate"], frames.get("blend")
            )
            mojo, genmodel = branch.export_mojo(trained.leader, folder)
            timed = beside.submit(score_microseconds, mojo, genmodel, test.select(schema.names))
            # What is judged is what will be served: a level that training never saw can mean another score to the MOJO.
            predicted = branch.predictions(branch.upload_mojo(mojo), frames["test"])
            explainer = _explainer(use_case, branch, trained, folder)
            importance = _importance(branch, trained, explainer)
            dependence = partial_dependence(branch, trained.leader, trained.classes, test, importance)
        finally:
            branch.remove()
    judgement = _held_out(use_case, parts, trained, predicted)
    judgement.write(folder / HELD_OUT)
    return GoodCandidate(
        plan=plan,
        mojo_path=str(mojo),
        mojo_sha256=sha256_of(mojo),
        genmodel_path=str(genmodel),
        genmodel_sha256=sha256_of(genmodel),
        mojo_bytes=mojo.stat().st_size,
        algorithm=trained.algorithm,
        h2o_version=H2O_VERSION,
        input_schema=schema,
        region_feature=_region_feature(use_case, schema),
        rows={name: len(table) for name, table in parts.items()},
        metrics=metrics_of(judgement.scored(CANDIDATE)),
        naive_metrics=metrics_of(judgement.scored(NAIVE)),
        test_path=str(folder / HELD_OUT),
        score_microseconds=timed.result(),
        leaderboard=trained.leaderboard,
        explainer=explainer,
        variable_importance=importance,
        partial_dependence=dependence,
        lineage=lineage.result(),
        training_seconds=round(trained.seconds, 1),
    )


def _region_feature(use_case: UseCase, schema: InputSchema) -> str | None:
    added = [name for name in schema.names if name not in use_case.features.columns]
    return added[0] if added else None


def _lineage(settings: Settings, use_case: UseCase, plan: RegionPlan, schema: InputSchema, rows: str) -> Lineage:
    with connect(settings) as connection:
        report = last_report(connection, use_case.name)
    return lineage_of(settings, use_case, plan, schema, rows, H2O_VERSION, report.run if report else None)


def _explainer(use_case: UseCase, branch: Branch, trained: Trained, folder: Path) -> Explainer | None:
    if not use_case.serving.explanations or trained.algorithm.lower() in TREES or trained.best_tree is None:
        return None
    mojo, _ = branch.export_mojo(trained.best_tree, folder / "explainer")
    return Explainer(algorithm=trained.best_tree.algo, mojo_path=str(mojo), mojo_sha256=sha256_of(mojo))


def _importance(branch: Branch, trained: Trained, explainer: Explainer | None) -> dict[str, float]:
    importance = branch.variable_importance(trained.best_tree if explainer else trained.leader)
    return importance or (branch.variable_importance(trained.best_tree) if trained.best_tree else {})


def _held_out(use_case: UseCase, parts: dict[str, pa.Table], trained: Trained, predicted: Any) -> HeldOut:
    kind, training, test = use_case.target.kind, use_case.training, parts["test"]
    labels = truth_of(parts["train"][LABEL], kind, trained.classes)
    naive = naive_predictions(kind, labels, len(trained.classes), parts["train"], test, training.naive_baseline)
    return held_out(test, kind, trained.classes, {CANDIDATE: predicted, NAIVE: naive})


def _failed(plan: RegionPlan, reason: str) -> FailedCandidate:
    log.warning("region failed", use_case=plan.use_case, region=plan.region, reason=reason)
    return FailedCandidate(plan=plan, reason=reason)
