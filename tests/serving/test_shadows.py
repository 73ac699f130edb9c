"""Shadows score beside the answers; the models here are a few lines of Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from mage_platform.contracts import ChallengerMode
from serving.calls import Call
from serving.encoding import Fault, VectorRefused
from serving.jvm import Score
from serving.scorer import Lane, Scorer
from serving.shadows import MOST_WAITING, Shadows
from serving.variants import Challenge

ENTITY = UUID("7cf06540-e6e0-54cb-8483-c525c4b50d97")


class Doubles:
    """Answers each row with twice its number; can be held up."""

    capacity = 100
    seconds_per_row = 0.0

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []

    def score(self, rows: Sequence[bytes]) -> list[Score]:
        self.go.wait(5)
        self.batches.append(len(rows))
        return [[2.0 * float(row)] for row in rows]


def a_challenge(model: Doubles, mode: ChallengerMode = "shadow") -> Challenge:
    def row(features: Mapping[str, Any], region: str) -> bytes:
        if "x" not in features:
            raise VectorRefused([Fault("features.x", "is missing")])
        return str(features["x"]).encode()

    version = SimpleNamespace(use_case="u", region="r", version=2, mojo_sha256="2" * 64)
    served: Any = SimpleNamespace(version=version, lane=Lane(model), row=row, variant=mode)
    return Challenge(served, mode, 1.0)


def run(scenario: Callable[[Scorer, Shadows, list[tuple[float, float]]], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        scorer = Scorer(threads=1)
        shadows, pairs = Shadows(scorer), []
        shadows.observers.append(lambda call, model, score: pairs.append((call.made_of[3][0], score[0])))
        await scenario(scorer, shadows, pairs)
        scorer.close()

    asyncio.run(whole())


def a_call(score: float) -> Call:
    call = Call("/v1/predict")
    call.region, call.made_of = "r", (ENTITY, None, {}, [score])
    return call


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_each_answer_is_told_with_the_shadows_score_for_the_same_vector() -> None:
    async def scenario(scorer: Scorer, shadows: Shadows, pairs: list[tuple[float, float]]) -> None:
        challenge = a_challenge(Doubles())
        for number in range(50):
            shadows.offer(challenge, a_call(float(number)), ENTITY, {"x": number})
        assert pairs == [], "nothing is scored before the answer is out"
        await until(lambda: shadows.scored == 50)
        assert sorted(pairs) == [(float(number), 2.0 * number) for number in range(50)]

    run(scenario)


def test_a_shadow_that_is_behind_is_left_out_and_counted() -> None:
    async def scenario(scorer: Scorer, shadows: Shadows, pairs: list[tuple[float, float]]) -> None:
        model = Doubles()
        model.go.clear()
        challenge = a_challenge(model)
        for number in range(MOST_WAITING + 40):
            shadows.offer(challenge, a_call(1.0), ENTITY, {"x": number})
        assert shadows.dropped == 40
        model.go.set()
        await until(lambda: shadows.scored == MOST_WAITING)
        assert max(model.batches) <= 16, "a champion's batch must not wait for a long one"
        shadows.offer(challenge, a_call(1.0), ENTITY, {"x": 1})
        await until(lambda: shadows.scored == MOST_WAITING + 1)

    run(scenario)


def test_a_vector_the_shadow_cannot_take_is_counted_and_the_next_one_is_scored() -> None:
    async def scenario(scorer: Scorer, shadows: Shadows, pairs: list[tuple[float, float]]) -> None:
        challenge = a_challenge(Doubles())
        shadows.offer(challenge, a_call(1.0), ENTITY, {"y": 1})
        shadows.offer(challenge, a_call(1.0), ENTITY, {"x": 3})
        await until(lambda: shadows.scored == 1)
        assert (shadows.failed, pairs) == (1, [(1.0, 6.0)])

    run(scenario)


def test_a_canary_is_no_shadow() -> None:
    async def scenario(scorer: Scorer, shadows: Shadows, pairs: list[tuple[float, float]]) -> None:
        shadows.offer(a_challenge(Doubles(), "canary"), a_call(1.0), ENTITY, {"x": 3})
        await asyncio.sleep(0.05)
        assert (shadows.scored, pairs) == (0, [])

    run(scenario)
