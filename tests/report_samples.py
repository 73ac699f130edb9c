"""Reports of made-up held-out rows, one for each kind of target."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mage_platform.contracts import (
    FeatureColumn,
    InputSchema,
    ModelVersion,
    PromotionDecision,
    TargetKind,
    UseCase,
    ValidationReport,
)
from mage_platform.contracts.evaluation import Clause
from mage_platform.contracts.report import ModelReport
from mage_platform.contracts.training import DependencePoint, PartialDependence
from mage_platform.training.evaluation import evaluate
from mage_platform.training.held_out import CANDIDATE, NAIVE, HeldOut, held_out
from mage_platform.training.metrics import metrics_of
from mage_platform.training.report.document import report_of
from tests.stores.registry_samples import a_version

ROWS = 300
CLASSES = ("early", "late", "on time")


def rows_of(kind: TargetKind, level: str = "slow") -> HeldOut:
    """Held-out rows over sixty days; the candidate knows something, the naive baseline nothing."""
    random = np.random.default_rng(5)
    signal = random.normal(size=ROWS)
    labels: pa.Array
    if kind == "regression":
        labels, candidate, naive = pa.array(30 + 5 * signal), 30 + 4 * signal, np.full(ROWS, 30.0)
    elif kind == "binary":
        probability = 1 / (1 + np.exp(-2 * signal))
        labels = pa.array(np.where(random.random(ROWS) < probability, "1", "0"))
        candidate, naive = probability, np.full(ROWS, 0.5)
    else:
        truth = np.digitize(signal, [-0.5, 0.5])
        labels, candidate = pa.array(np.array(CLASSES)[truth]), np.full((ROWS, 3), 0.2)
        candidate[np.arange(ROWS), np.where(random.random(ROWS) < 0.8, truth, 0)] = 0.6
        naive = np.full((ROWS, 3), 1 / 3)
    table = pa.table(
        {
            "_entity_id": pa.array([bytes([number // 256, number % 256] * 8) for number in range(ROWS)]),
            "_event_time": pa.array(
                np.arange(ROWS) * 86_400_000_000 // 5 + 1_714_521_600_000_000, pa.timestamp("us", tz="UTC")
            ),
            "_region": pa.array(["Bern"] * ROWS),
            "_label": labels,
            "carrier": pa.array([("fast", level)[number % 2] for number in range(ROWS)]),
        }
    )
    return held_out(table, kind, CLASSES if kind == "multiclass" else (), {CANDIDATE: candidate, NAIVE: naive})


def a_report(kind: TargetKind = "binary", *, level: str = "slow", title: str = "Rides", region: str = "Bern",
             **decided: Any) -> ModelReport:  # fmt: skip
    """A report as a run would write it; text that comes from data can be given."""
    rows = rows_of(kind, level)
    metrics, naive = metrics_of(rows.scored(CANDIDATE)), metrics_of(rows.scored(NAIVE))
    new = a_version(region=region)
    several = list(CLASSES) if kind == "multiclass" else []
    means = [0.2, 0.3, 0.5] if several else [0.4]
    dependence = [
        PartialDependence(
            feature="hour", rows=ROWS, classes=several,
            points=[DependencePoint(value=value, means=means) for value in (0.0, 12.0, 23.0)],
        ),
        PartialDependence(
            feature="carrier", rows=ROWS, classes=several,
            points=[DependencePoint(value=value, means=means) for value in ("fast", level)],
        ),
    ]  # fmt: skip
    version = ModelVersion(
        **{
            **dict(new),
            "metrics": metrics,
            "naive_metrics": naive,
            "input_schema": InputSchema(
                columns={"hour": FeatureColumn(type="integer"), "carrier": FeatureColumn(type="category")}
            ),
            "variable_importance": {"hour": 0.7, "carrier": 0.3},
            "partial_dependence": dependence,
        },
        version=3,
        mojo_sha256="a" * 64,
        genmodel_sha256="b" * 64,
        registered_at=datetime(2024, 7, 1, 4, 30, tzinfo=UTC),
    )
    evaluation = evaluate(
        rows, {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}[kind], seed=1, slices=["carrier"],
        champion=rows.scored(NAIVE).predicted, champion_version=2,
    )  # fmt: skip
    decision = PromotionDecision(
        **{
            "use_case": "rides", "region": region, "version": 3, "promoted": True, "reason": "beats them all",
            "clauses": [Clause(clause="beats_naive", kept=True, sentence="better in 100% of 500 resamples")],
            "decided_at": datetime(2024, 7, 1, 4, 31, tzinfo=UTC), "evaluation": evaluation, **decided,
        }
    )  # fmt: skip
    validation = ValidationReport(
        use_case="rides", run="7", rows=1010, passed=1000, quarantined=10,
        broken_rules={f"known carrier ({level})": 10}, broken_table_rules=[],
        stopped=False, started_at=datetime(2024, 6, 30, tzinfo=UTC), seconds=1.0,
    )  # fmt: skip
    use_case = UseCase.model_validate(
        {
            "name": "rides", "title": title, "source": {"file": "rows.parquet"}, "entity": {"key": ["ride"]},
            "event_time": "at", "region": "city", "target": {"column": "late", "kind": kind},
            "features": {"columns": {"hour": {"type": "integer"}, "carrier": {"type": "category"}}},
            "training": {name: str(value) for name, value in dict(new.window).items() if value},
        }
    )  # fmt: skip
    return report_of(use_case, version, decision, rows, validation)
