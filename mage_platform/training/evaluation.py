"""A candidate beside everything else that could answer, on the same held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mage_platform.contracts import Evaluation
from mage_platform.contracts.evaluation import CalibrationBin, Slice
from mage_platform.contracts.metrics import Metric
from mage_platform.training.bootstrap import Resampled, Resamples
from mage_platform.training.held_out import CANDIDATE, NAIVE, HeldOut
from mage_platform.training.metrics import Floats, Scored

CALIBRATION_BINS = 10
LEVELS_A_FEATURE = 12
FEWEST_ROWS_A_SLICE = 30


def evaluate(
    rows: HeldOut,
    metric: Metric,
    *,
    seed: int,
    slices: Sequence[str],
    champion: Floats | None = None,
    champion_version: int | None = None,
    pooled: Floats | None = None,
) -> Evaluation:
    """Compare a candidate with the naive baseline, the present champion and the pooled model.

    Args:
        rows: The held-out rows, with what candidate and naive baseline say of them.
        metric: The one that decides.
        seed: Of the bootstrap.
        slices: Features whose levels are told apart.
        champion: What the present champion says of the same rows, in their order; None where there is none.
        champion_version: Its version.
        pooled: What the pooled model says of them; None where there is none.
    """
    resamples = Resamples.of(rows.moments, seed)
    candidate, naive = (Resampled.of(rows.scored(name), resamples) for name in (CANDIDATE, NAIVE))
    others = {
        name: None if predicted is None else Resampled.of(rows.with_predictions(predicted), resamples)
        for name, predicted in (("champion", champion), ("pooled", pooled))
    }
    bins = calibration(candidate.scored)
    total = sum(each.rows for each in bins)
    error = sum(each.rows * abs(each.predicted - each.observed) for each in bins) / total if total else None
    return Evaluation(
        metric=metric,
        rows=len(rows),
        resampled=resamples.unit,
        resamples=resamples.count,
        candidate=candidate.evaluated(),
        naive=naive.evaluated(),
        against_naive=candidate.against(naive, metric),
        champion_version=champion_version if champion is not None else None,
        **{name: other.evaluated() for name, other in others.items() if other},
        **{f"against_{name}": candidate.against(other, metric) for name, other in others.items() if other},
        calibration=bins,
        calibration_error=error,
        slices=slices_of(rows, metric, slices),
    )


def calibration(scored: Scored) -> list[CalibrationBin]:
    """Mean prediction beside mean outcome in ten bins of about as many rows; empty for several classes.

    Source:
        Reliability diagram with bins of equal mass; Naeini et al., AAAI 2015.
    """
    if scored.kind == "multiclass":
        return []
    return [
        CalibrationBin(
            rows=len(part), predicted=float(scored.predicted[part].mean()), observed=float(scored.truth[part].mean())
        )
        for part in equal_bins(scored.predicted)
    ]


def equal_bins(predicted: Floats) -> list[npt.NDArray[np.intp]]:
    """Places of the rows of ten bins of about as many rows each, by rising prediction; none is empty."""
    order = np.argsort(predicted, kind="stable")
    return [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]


def slices_of(rows: HeldOut, metric: Metric, features: Sequence[str]) -> list[Slice]:
    """The deciding metric on the rows of each frequent level of some features, numbers in four quantile bins."""
    candidate, naive = rows.scored(CANDIDATE), rows.scored(NAIVE)
    slices = []
    for feature in features:
        column = rows.table[feature]
        names = _levels(column)
        counts = {level: int((names == level).sum()) for level in np.unique(names)}
        frequent = sorted(
            (each for each in counts if counts[each] >= FEWEST_ROWS_A_SLICE), key=lambda each: -counts[each]
        )
        for level in frequent[:LEVELS_A_FEATURE]:
            mine = names == level
            values = [_finite(each.take(mine).values()[metric]) for each in (candidate, naive)]
            slices.append(
                Slice(feature=feature, level=str(level), rows=counts[level], value=values[0], naive_value=values[1])
            )
    return slices


def _levels(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    if not pa.types.is_floating(column.type):
        return np.array(pc.fill_null(column, "missing").to_pylist(), dtype=np.str_)
    values = column.to_numpy()
    present = values[np.isfinite(values)]
    edges = np.unique(np.quantile(present, [0, 0.25, 0.5, 0.75, 1])) if len(present) else np.array([0.0, 0.0])
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)] or [f"{edges[0]:g}"]
    return np.where(np.isfinite(values), np.array(names)[place], "missing")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
