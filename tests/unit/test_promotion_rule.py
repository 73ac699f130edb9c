"""Who becomes champion."""

from __future__ import annotations

import pytest

from mage_platform.contracts import BinaryMetrics
from mage_platform.contracts.use_case import Promotion
from mage_platform.training.promotion import decide


def _metrics(auc: float = 0.7, log_loss: float = 0.5, average_precision: float = 0.4) -> BinaryMetrics:
    return BinaryMetrics(auc=auc, log_loss=log_loss, average_precision=average_precision, rows=100, positive_share=0.2)


@pytest.mark.parametrize(
    ("candidate", "naive", "champion", "promoted", "reason"),
    [
        (0.70, 0.60, None, True, "auc 0.7000 beats the naive baseline's 0.6000; no champion before"),
        (0.60, 0.60, None, False, "does not beat the naive baseline's 0.6000"),
        (0.70, 0.60, 0.69, True, "beats the champion's 0.6900"),
        (0.70, 0.60, 0.70, False, "does not beat the champion's 0.7000"),
        (0.55, 0.60, 0.50, False, "does not beat the naive baseline's 0.6000"),
    ],
)
def test_a_candidate_must_beat_naive_and_champion(
    candidate: float, naive: float, champion: float | None, promoted: bool, reason: str
) -> None:
    decision, sentence = decide(
        Promotion(), _metrics(candidate), _metrics(naive), None if champion is None else _metrics(champion)
    )
    assert decision is promoted
    assert reason in sentence


def test_the_gain_must_exceed_the_declared_minimum() -> None:
    rule = Promotion(minimum_gain=0.01)
    assert decide(rule, _metrics(0.705), _metrics(0.6), _metrics(0.70))[0] is False
    assert decide(rule, _metrics(0.715), _metrics(0.6), _metrics(0.70))[0] is True


def test_a_lower_log_loss_is_better() -> None:
    rule = Promotion(metric="log_loss")
    assert decide(rule, _metrics(log_loss=0.4), _metrics(log_loss=0.5), _metrics(log_loss=0.45))[0] is True
    assert decide(rule, _metrics(log_loss=0.6), _metrics(log_loss=0.5), None)[0] is False
