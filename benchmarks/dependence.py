"""What partial dependence adds to a training, and what H2O's own `partial_plot` would: same model, rows and values.

.venv/bin/python -m benchmarks.dependence [--rows 20000] [--json]     starts an H2O server of its own
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mage_platform.contracts import FeatureColumn, InputSchema, RegionPlan, TrainingWindow
from mage_platform.contracts.training import PartialDependence
from mage_platform.contracts.use_case import Training
from mage_platform.local.embedded import running
from mage_platform.settings import load_settings
from mage_platform.training.dependence import partial_dependence
from mage_platform.training.h2o_server import Branch, h2o_server

NUMBERS, LEVELS = 14, ("north", "south", "east", "west")
PARTS = {"train_until": 2, "validate_until": 3, "blend_until": 4, "test_until": 5}
SCHEMA = InputSchema(
    columns={
        **{f"number_{place}": FeatureColumn(type="number", missing="allowed") for place in range(NUMBERS)},
        "place": FeatureColumn(type="category"),
        "kind": FeatureColumn(type="category"),
    }
)


def rows(count: int, seed: int) -> pa.Table:
    """Rows whose label depends on some of sixteen features."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, NUMBERS)).round(3)
    place, kind = random.choice(LEVELS, count), random.choice(["a", "b", "c"], count)
    push = numbers[:, 0] + numbers[:, 1] * numbers[:, 2] + (place == "north") - 0.7 * (kind == "b")
    label = np.where(random.random(count) < 1 / (1 + np.exp(-push)), "1", "0")
    keys = {
        "_entity_id": pa.array([bytes(16)] * count),
        "_event_time": pa.array(np.arange(count), pa.timestamp("us", tz="UTC")),
        "_region": pa.array(["r"] * count),
        "_label": pa.array(label),
    }
    features = {f"number_{place}": pa.array(numbers[:, place]) for place in range(NUMBERS)}
    return pa.table({**keys, **features, "place": pa.array(place), "kind": pa.array(kind)})


def measure(count: int) -> dict[str, Any]:
    """Train on an H2O server of its own, then compute the dependence both ways."""
    options = Training(
        **{name: datetime(2024, month, 1, tzinfo=UTC) for name, month in PARTS.items()},
        include_algorithms=["GBM", "GLM", "StackedEnsemble"],
    )
    window = TrainingWindow(**{name: getattr(options, name) for name in PARTS})
    plan = RegionPlan(
        use_case="bench", region="r", run="dependence", window=window, seed=1, maximum_models=3,
        maximum_runtime_seconds=900, labelled_rows=count,
    )  # fmt: skip
    with running(load_settings(h2o={"memory_limit_gib": 3}), ("h2o",)) as settings, h2o_server(settings):
        branch = Branch(plan, SCHEMA)
        tables = {
            name: rows(size, seed)
            for seed, (name, size) in enumerate(
                {"train": count, "validate": count // 5, "blend": count // 5, "test": count // 5}.items()
            )
        }
        test = tables["test"]
        keys = ["_entity_id", "_event_time", "_region"]
        frames = {name: branch.upload(name, table.drop_columns(keys)) for name, table in tables.items()}
        trained = branch.train(options, "auc", frames["train"], frames["validate"], frames["blend"])
        importance = branch.variable_importance(trained.best_tree)
        clock = time.monotonic()
        ours = partial_dependence(branch, trained.leader, trained.classes, test, importance)
        ours_seconds = time.monotonic() - clock
        few = test.take(np.unique(np.linspace(0, len(test) - 1, ours[0].rows).round().astype(int)))
        frame = branch.upload("few", few.drop_columns(keys))
        clock = time.monotonic()
        theirs = h2os(trained.leader, frame, ours)
        theirs_seconds = time.monotonic() - clock
        branch.remove()
    apart = max(abs(theirs[each.feature][point.value] - point.means[0]) for each in ours for point in each.points)
    return {
        "algorithm": trained.algorithm, "rows_trained_on": count, "features": [each.feature for each in ours],
        "rows": ours[0].rows, "training_seconds": round(trained.seconds, 2), "seconds": round(ours_seconds, 2),
        "partial_plot_seconds": round(theirs_seconds, 2),
        "partial_plot_over_ours": round(theirs_seconds / ours_seconds, 1),
        "share_of_training": round(ours_seconds / trained.seconds, 4), "greatest_difference": apart,
    }  # fmt: skip


def h2os(model: Any, frame: Any, ours: list[PartialDependence]) -> dict[str, dict[Any, float]]:
    """H2O's own, at the same values."""
    splits = {each.feature: [point.value for point in each.points] for each in ours}
    with contextlib.redirect_stdout(io.StringIO()):
        tables = model.partial_plot(frame, cols=list(splits), user_splits=splits, plot=False, nbins=30)
    return {
        name: {row[0]: row[1] for row in table.cell_values} for name, table in zip(splits, tables, strict=True)
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows trained on")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    measured = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(measured, indent=2))
    else:
        for name, value in measured.items():
            print(f"{name.replace('_', ' '):24}{value}")
