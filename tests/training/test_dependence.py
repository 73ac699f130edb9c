"""Partial dependence as we compute it, in one prediction, against H2O's own of the same model and rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mage_platform.contracts import RegionPlan, TargetKind, TrainingWindow
from mage_platform.settings import Settings
from mage_platform.training.dependence import ROWS, partial_dependence
from mage_platform.training.h2o_server import Branch, h2o_server
from tests.training import small_tables

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FEATURES = ("hour", "carrier", "rain")


def _table(kind: TargetKind, seed: int, count: int = 400) -> pa.Table:
    rows = small_tables.rows(kind, {"Bern": count}, seed)
    outcome = rows["outcome"]
    label = (outcome == "yes").map({True: "1", False: "0"}) if kind == "binary" else outcome
    return pa.table(
        {
            "_entity_id": pa.array([bytes(16)] * len(rows)),
            "_event_time": pa.array(rows["ordered_at"].to_numpy(), pa.timestamp("us", tz="UTC")),
            "_region": pa.array(rows["city"]),
            "_label": pa.array(label),
            "hour": pa.array(rows["hour"].astype(float)),
            "carrier": pa.array(rows["carrier"]),
            "rain": pa.array(rows["rain"], from_pandas=True),
        }
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_it_equals_h2os_own_partial_dependence(training_server: Settings, kind: TargetKind) -> None:
    from h2o.estimators import H2OGradientBoostingEstimator

    held_out = _table(kind, 7, count=ROWS)  # as many as are averaged over, so that none is left out
    moments = [datetime(2024, month, 1, tzinfo=UTC) for month in (2, 3, 4, 5)]
    names = ("train_until", "validate_until", "blend_until", "test_until")
    plan = RegionPlan(
        use_case="dependence", region="Bern", run=kind, seed=1, maximum_models=1, maximum_runtime_seconds=60,
        labelled_rows=400, window=TrainingWindow(**dict(zip(names, moments, strict=True))),
    )  # fmt: skip
    keys = ["_entity_id", "_event_time", "_region"]
    with h2o_server(training_server):
        branch = Branch(plan, small_tables.SCHEMA)
        try:
            train = branch.upload("train", _table(kind, 3).drop_columns(keys), kind)
            model = H2OGradientBoostingEstimator(ntrees=20, max_depth=4, seed=1, model_id=f"{branch.prefix}_model")
            model.train(x=list(FEATURES), y="_label", training_frame=train)
            classes = tuple(model._model_json["output"]["domains"][-1] or ())
            ours = partial_dependence(branch, model, classes, held_out, dict.fromkeys(FEATURES, 0.3))
            test = branch.upload("test", held_out.drop_columns(keys), kind)
            assert [each.feature for each in ours] == list(FEATURES)
            for each in ours:
                assert each.rows == ROWS
                values = [point.value for point in each.points]
                for place, name in enumerate(each.classes or [None]):
                    theirs = _h2os(model, test, each.feature, values, name)
                    means = [point.means[place] for point in each.points]
                    assert means == pytest.approx([theirs[value] for value in values], abs=1e-6)
        finally:
            branch.remove()


def _h2os(model: Any, frame: Any, feature: str, values: list[Any], target: str | None) -> dict[Any, float]:
    more = {} if target is None else {"targets": [target]}
    (table,) = model.partial_plot(
        frame, cols=[feature], user_splits={feature: values}, plot=False, nbins=max(len(values) + 1, 20), **more
    )
    return {row[0]: row[1] for row in table.cell_values if row[0] is not None}


def test_a_feature_that_never_varies_has_none(training_server: Settings) -> None:
    rows = _table("binary", 3)
    flat = rows.set_column(rows.column_names.index("hour"), "hour", pa.array(np.full(len(rows), 7.0)))
    assert partial_dependence(None, None, (), flat, {"hour": 1.0, "unknown": 0.5}) == []  # type: ignore[arg-type]
