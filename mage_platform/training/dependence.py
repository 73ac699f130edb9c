"""Partial dependence of a freshly trained model, computed while it is still on the H2O server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mage_platform.contracts.training import DependencePoint, PartialDependence
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, LABEL, REGION
from mage_platform.training.h2o_server import Branch

FEATURES = 5
ROWS = 200
POINTS = 20
LEVELS = 12


def partial_dependence(
    branch: Branch, model: Any, classes: Sequence[str], rows: pa.Table, importance: Mapping[str, float]
) -> list[PartialDependence]:
    """How the mean prediction moves with each of the most important features; none where no importance is known.

    Args:
        branch: The H2O side of the training.
        model: On the server.
        classes: Names of several classes in the order of the probabilities; two or none for other targets.
        rows: Held-out rows with the features, by event time; at most 200 of them, evenly spread, are averaged over.
        importance: Share of each feature, most important first.
    """
    few = rows.take(_evenly(len(rows), ROWS)).drop_columns([ENTITY_ID, EVENT_TIME, REGION, LABEL])
    names = [name for name in importance if name in few.column_names][:FEATURES]
    values = {name: values for name in names if len(values := values_of(few[name])) > 1}
    if not values:
        return []
    # One frame for all features: each prediction of a frame is a job of its own on the server, and costs its start.
    expanded = pa.concat_tables([_expanded(few, name, each) for name, each in values.items()])
    predicted = branch.predictions(model, branch.upload("dependence", expanded)).reshape(len(expanded), -1)
    dependence, start = [], 0
    for name, each in values.items():
        count = len(each) * len(few)
        means = predicted[start : start + count].reshape(len(each), len(few), -1).mean(axis=1)
        start += count
        dependence.append(
            PartialDependence(
                feature=name,
                rows=len(few),
                classes=list(classes) if means.shape[1] > 1 else [],
                points=[
                    DependencePoint(value=value, means=mean)
                    for value, mean in zip(each.to_pylist(), means.tolist(), strict=True)
                ],
            )
        )
    return dependence


def values_of(column: pa.ChunkedArray) -> pa.Array:
    """Where a feature is looked at: quantiles of a number that occur, or the most frequent levels.

    >>> values_of(pa.chunked_array([[3.0, 1.0, None, 2.0, 1.0]])).to_pylist()
    [1.0, 2.0, 3.0]
    >>> values_of(pa.chunked_array([["b", "a", None, "b"]])).to_pylist()
    ['b', 'a']
    """
    present = column.drop_null()
    if pa.types.is_floating(column.type):
        occurring = np.unique(present.to_numpy())
        if len(occurring) > POINTS:
            shares = (np.arange(POINTS) + 0.5) / POINTS
            occurring = np.unique(np.quantile(present.to_numpy(), shares, method="nearest"))
        return pa.array(occurring, column.type)
    counts = sorted(pc.value_counts(present).to_pylist(), key=lambda each: (-each["counts"], each["values"]))
    return pa.array([each["values"] for each in counts[:LEVELS]], column.type)


def _evenly(rows: int, most: int) -> pa.Array:
    return pa.array(np.unique(np.linspace(0, max(rows - 1, 0), min(rows, most)).round().astype(np.int64)))


def _expanded(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Every row once with each of the values."""
    places = np.tile(np.arange(len(rows)), len(values))
    swept = values.take(pa.array(np.repeat(np.arange(len(values)), len(rows))))
    return rows.take(places).set_column(rows.column_names.index(name), name, swept)
