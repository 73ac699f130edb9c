"""Who becomes champion: every clause of the rule, kept and broken."""

from __future__ import annotations

from typing import Any

import pytest

from mage_platform.contracts import BinaryMetrics, Evaluation, FeatureColumn, InputSchema
from mage_platform.contracts.evaluation import Clause, Compared, Evaluated, Interval
from mage_platform.contracts.metrics import Metric, gain
from mage_platform.contracts.use_case import Promotion
from mage_platform.training.promotion_rule import incompatibilities, judge

HOUR = FeatureColumn(type="integer", minimum=0, maximum=23)
SCHEMA = InputSchema(columns={"hour": HOUR})


def _evaluated(value: float) -> Evaluated:
    metrics = BinaryMetrics(auc=value, log_loss=value, average_precision=0.4, rows=100, positive_share=0.2)
    return Evaluated(metrics=metrics, intervals={})


def _compared(metric: Metric, ours: float, theirs: float, confidence: float) -> Compared:
    return Compared(gain=gain(metric, ours, theirs), interval=Interval(low=-0.1, high=0.1), confidence=confidence)


def _judged(
    ours: float, naive: float, champion: float | None = None, *, metric: Metric = "auc", confidence: float = 1.0,
    mojo_bytes: int = 1000, microseconds: float | None = 5.0, schema: InputSchema = SCHEMA, **rule: Any,
) -> dict[str, Clause]:  # fmt: skip
    rivals: dict[str, Any] = {}
    if champion is not None:
        rivals = {
            "champion": _evaluated(champion), "champion_version": 7,
            "against_champion": _compared(metric, ours, champion, confidence),
        }  # fmt: skip
    evaluation = Evaluation(
        metric=metric, rows=100, resampled="rows", resamples=500, candidate=_evaluated(ours), naive=_evaluated(naive),
        against_naive=_compared(metric, ours, naive, 1.0), **rivals,
    )  # fmt: skip
    clauses = judge(
        Promotion(metric=metric, **rule), evaluation, schema=schema,
        champion_schema=SCHEMA if champion is not None else None, mojo_bytes=mojo_bytes,
        score_microseconds=microseconds,
    )  # fmt: skip
    return {each.clause: each for each in clauses}


def _failed(clauses: dict[str, Clause]) -> list[str]:
    return [name for name, each in clauses.items() if not each.kept]


@pytest.mark.parametrize(
    ("ours", "naive", "champion", "failed"),
    [
        (0.70, 0.60, None, []),
        (0.60, 0.60, None, ["beats_naive"]),
        (0.70, 0.60, 0.69, []),
        (0.70, 0.60, 0.70, ["beats_champion"]),
        (0.55, 0.60, 0.50, ["beats_naive"]),
        (0.55, 0.60, 0.58, ["beats_naive", "beats_champion"]),
    ],
)
def test_a_candidate_must_beat_naive_and_champion(
    ours: float, naive: float, champion: float | None, failed: list[str]
) -> None:
    assert _failed(_judged(ours, naive, champion)) == failed


def test_the_gain_must_exceed_the_declared_minimum() -> None:
    assert _failed(_judged(0.705, 0.6, 0.70, minimum_gain=0.01)) == ["beats_champion"]
    assert _failed(_judged(0.715, 0.6, 0.70, minimum_gain=0.01)) == []


def test_a_gain_that_may_be_chance_is_not_enough() -> None:
    clauses = _judged(0.71, 0.6, 0.70, confidence=0.79)
    assert _failed(clauses) == ["beats_champion"]
    assert "better in 79% of 500 resamples only, 80% are asked for" in clauses["beats_champion"].sentence
    assert _failed(_judged(0.71, 0.6, 0.70, confidence=0.79, **{})) == ["beats_champion"]
    assert _failed(_judged(0.71, 0.6, 0.70, confidence=0.80)) == []


def test_a_lower_log_loss_is_better() -> None:
    assert _failed(_judged(0.4, 0.5, 0.45, metric="log_loss")) == []
    assert _failed(_judged(0.6, 0.5, metric="log_loss")) == ["beats_naive"]


def test_limits_of_size_and_latency_are_named_with_their_values() -> None:
    clauses = _judged(0.7, 0.6, mojo_bytes=2_000_000, maximum_mojo_bytes=1_000_000, maximum_score_microseconds=4.0)
    assert _failed(clauses) == ["size", "latency"]
    assert clauses["size"].sentence == "the MOJO: 2,000,000 bytes, above 1,000,000"
    assert clauses["latency"].sentence == "one score: 5 microseconds, above 4"
    assert _failed(_judged(0.7, 0.6, microseconds=None, maximum_score_microseconds=4.0)) == ["latency"]
    assert _failed(_judged(0.7, 0.6, maximum_mojo_bytes=1000, maximum_score_microseconds=5.0)) == []


def test_a_schema_that_would_refuse_todays_vectors_is_refused_unless_declared() -> None:
    wider = InputSchema(columns={"hour": HOUR, "rain": FeatureColumn(type="number")})
    assert _failed(_judged(0.7, 0.6, 0.65, schema=wider)) == ["schema_compatible"]
    assert _failed(_judged(0.7, 0.6, 0.65, schema=wider, schema_change="allowed")) == []
    assert _failed(_judged(0.7, 0.6, None, schema=wider)) == []


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ({"a": HOUR}, {"a": HOUR}, []),
        ({"a": HOUR, "b": HOUR}, {"a": HOUR}, ["feature 'b' is no longer known"]),
        ({"a": HOUR}, {"a": HOUR, "b": FeatureColumn(type="number", missing="allowed")}, []),
        ({"a": HOUR}, {"a": FeatureColumn(type="number")}, []),
        ({"a": FeatureColumn(type="number")}, {"a": FeatureColumn(type="integer")}, ["is integer, no longer number"]),
        ({"a": HOUR}, {"a": FeatureColumn(type="integer", minimum=1, maximum=23)}, ["at least 1, before 0"]),
        ({"a": HOUR}, {"a": FeatureColumn(type="integer", minimum=0, maximum=22)}, ["at most 22, before 23"]),
        (
            {"a": FeatureColumn(type="category", missing="allowed")},
            {"a": FeatureColumn(type="category")},
            ["must no longer be missing"],
        ),
        ({"a": FeatureColumn(type="number")}, {"a": FeatureColumn(type="number", maximum=1)}, ["before without bound"]),
        (
            {"a": FeatureColumn(type="category")},
            {"a": FeatureColumn(type="category", unknown="refused")},
            ["must no longer have a level that training did not see"],
        ),
        ({"a": FeatureColumn(type="category", unknown="refused")}, {"a": FeatureColumn(type="category")}, []),
    ],
)
def test_what_breaks_vectors_of_the_old_schema(
    old: dict[str, FeatureColumn], new: dict[str, FeatureColumn], broken: list[str]
) -> None:
    found = incompatibilities(InputSchema(columns=old), InputSchema(columns=new))
    assert len(found) == len(broken)
    for sentence, part in zip(found, broken, strict=True):
        assert part in sentence
