"""Which entities a challenger gets: the same everywhere, and only more of them when its share grows."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

from mage_platform.settings import PROJECT
from serving.variants import Challenge

NAMESPACE = UUID("6f9d9c5a-0000-4000-8000-000000000001")
ENTITIES = [uuid5(NAMESPACE, str(number)) for number in range(20_000)]


def a_challenge(share: float, version: int = 2, region: str = "r") -> Challenge:
    model: Any = SimpleNamespace(version=SimpleNamespace(use_case="u", region=region, version=version))
    return Challenge(model, "canary", share)


def taken(challenge: Challenge) -> set[UUID]:
    return {entity for entity in ENTITIES if challenge.takes(entity)}


def test_its_share_of_the_entities_is_what_was_set() -> None:
    for share in (0.01, 0.1, 0.5):
        expected = share * len(ENTITIES)
        spread = (len(ENTITIES) * share * (1 - share)) ** 0.5
        assert abs(len(taken(a_challenge(share))) - expected) < 4 * spread  # of a fair draw: binomial
    assert len(taken(a_challenge(1.0))) == len(ENTITIES)


def test_a_greater_share_takes_entities_from_the_champion_and_gives_none_back() -> None:
    few, more, most = (taken(a_challenge(share)) for share in (0.05, 0.2, 0.9))
    assert few < more < most


def test_another_version_or_region_draws_its_entities_anew() -> None:
    first = taken(a_challenge(0.1))
    for other in (a_challenge(0.1, version=3), a_challenge(0.1, region="s")):
        both = len(first & taken(other))
        assert 120 < both < 280  # independent draws share a hundredth of 20,000


def test_every_process_decides_alike() -> None:
    program = (
        "from tests.serving.test_variants import *; import hashlib; "
        "print(hashlib.sha256(''.join(sorted(map(str, taken(a_challenge(0.3))))).encode()).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1
