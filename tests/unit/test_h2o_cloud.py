"""Whether a cloud may be trained on, judged by what real clouds of three nodes said of themselves.

The numbers were read off `/3/Cloud` of H2O 3.46.0.11 while nodes of it were killed and started again.
"""

from __future__ import annotations

from typing import Any

import pytest

from mage_platform.training.h2o_cloud import Cloud, Judgement, NoAnswer, NotLeader, change_of, fault_of, judge

URLS = [f"http://10.244.9.1{number}:54321" for number in range(3)]
# address, last ping, process, objects, own measure of speed; at 28.9 s node .12 was killed
BEFORE = [(0, 1795614210359, 27, 133, 0.50), (1, 1795614211206, 68, 81, 1.68), (2, 1795614211212, 106, 59, 0.44)]
SEVEN_SECONDS_LATER = [
    (0, 1795614218387, 27, 130, 0.5),
    (1, 1795614217642, 68, 81, 1.68),
    (2, 1795614211217, 106, 59, 0.44),
]
STARTED_AGAIN = [(0, 1795614229600, 27, 130, 0.5), (1, 1795614229801, 68, 81, 1.68), (2, 1795614229769, 378, 0, "NaN")]


def cloud(nodes: list[tuple[Any, ...]], **changes: Any) -> Cloud:
    told = [
        dict(ip_port=f"10.244.9.1{number}:54321", last_ping=ping, healthy=True, pid=pid, num_keys=keys, gflops=speed)
        for number, ping, pid, keys, speed in nodes
    ]
    whole = dict(cloud_size=len(told), cloud_healthy=True, consensus=True, locked=True, cloud_uptime_millis=38829)
    return Cloud.model_validate({**whole, "nodes": told, "version": "3.46.0.11", **changes})


def with_process(nodes: list[tuple[Any, ...]], process: int) -> list[tuple[Any, ...]]:
    """As in a container, in which H2O is always the same process number."""
    return [(number, ping, process, keys, speed) for number, ping, _, keys, speed in nodes]


def test_a_whole_cloud_is_entered_by_its_leader() -> None:
    answers = {URLS[0]: cloud(BEFORE), URLS[1]: NotLeader(), URLS[2]: NotLeader()}
    assert judge(answers, 3, 20) == Judgement(URLS[0])


def test_three_clouds_of_one_are_a_split_and_not_three_leaders() -> None:
    judged = judge({url: cloud([node]) for url, node in zip(URLS, BEFORE, strict=True)}, 3, 20)
    assert judged.leader is None and not judged.final
    assert judged.fault == f"it is split into 3 clouds in place of one of 3 nodes (1 at {URLS[0]}, 1 at {URLS[1]}, " \
        f"1 at {URLS[2]})"  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "locked", "fault", "final"),
    [
        (4, False, "it has 3 of 4 nodes", False),
        (4, True, "it has 3 of 4 nodes, and is locked: no node can join any more", True),
        (2, False, "it has 3 nodes, and 2 expected", True),
    ],
)
def test_a_cloud_of_another_size_is_refused_and_waited_for_only_while_it_can_grow(
    expected: int, locked: bool, fault: str, final: bool
) -> None:
    assert judge({URLS[0]: cloud(BEFORE, locked=locked)}, expected, 20) == Judgement(None, fault, final)


def test_a_cloud_that_still_votes_is_waited_for() -> None:
    judged = judge({URLS[0]: cloud(BEFORE, consensus=False)}, 3, 20)
    assert (judged.leader, judged.final) == (None, False)
    assert "do not agree yet" in judged.fault


def test_without_any_answer_the_reason_of_each_address_is_told() -> None:
    assert "only nodes that are not the leader answered" in judge({URLS[1]: NotLeader()}, 3, 20).fault
    fault = judge({URLS[0]: NoAnswer("Connection refused"), URLS[1]: NoAnswer("no answer within 5 s")}, 3, 20).fault
    assert fault == f"it does not answer ({URLS[0]}: Connection refused; {URLS[1]}: no answer within 5 s)"


def test_a_node_is_lost_when_it_is_silent_longer_than_the_limit_though_h2o_calls_it_healthy() -> None:
    assert fault_of(cloud(SEVEN_SECONDS_LATER), 3, 10) is None
    fault = fault_of(cloud(SEVEN_SECONDS_LATER), 3, 5)
    assert fault == "it has lost 1 of its 3 nodes (10.244.9.12:54321 silent for 7 s)"


def test_a_cloud_that_only_works_is_the_same_cloud() -> None:
    later = cloud(SEVEN_SECONDS_LATER, cloud_uptime_millis=46070)
    assert change_of([cloud(BEFORE)], later) is None
    assert change_of([], later) is None


@pytest.mark.parametrize("process_of", [lambda nodes: nodes, lambda nodes: with_process(nodes, 1)])
def test_a_node_that_was_started_again_is_known_though_the_cloud_looks_whole(process_of: Any) -> None:
    earlier = [cloud(process_of(BEFORE)), cloud(process_of(SEVEN_SECONDS_LATER))]
    now = cloud(process_of(STARTED_AGAIN), cloud_uptime_millis=57575)
    assert fault_of(now, 3, 20) is None
    assert change_of(earlier, now) == "10.244.9.12:54321 was restarted and has lost its data"


def test_a_node_that_had_not_measured_itself_yet_is_known_by_its_objects_after_a_silence() -> None:
    def young(nodes: list[tuple[Any, ...]]) -> Cloud:
        return cloud([(*node[:4], "NaN") for node in with_process(nodes, 1)])

    assert change_of([young(BEFORE), young(SEVEN_SECONDS_LATER)], young(STARTED_AGAIN)) is not None
    assert change_of([young(BEFORE)], young(STARTED_AGAIN)) is None, "another branch may have removed them"


def test_a_leader_that_was_started_again_is_known_by_its_age() -> None:
    assert change_of([cloud(BEFORE)], cloud(BEFORE, cloud_uptime_millis=4000)) == "its leader was restarted"
