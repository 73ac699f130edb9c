"""The counts of several workers, told as those of one."""

from __future__ import annotations

import os
from pathlib import Path

from serving.worker_metrics import STALE_SECONDS, Family, WorkerMetrics, only_counts, parent_process, summed


def families(requests: float, waiting: float, *, reachable: float = 1.0) -> list[Family]:
    return [
        ("requests", "counter", "Requests.", [("requests_total", {"status": "200"}, requests)]),
        ("seconds", "histogram", "Time.", [("seconds_bucket", {"le": "1.0"}, requests), ("seconds_sum", {}, 0.5)]),
        ("waiting", "gauge", "Waiting.", [("waiting", {}, waiting)]),
        ("sidecar_registry_reachable", "gauge", "Registry.", [("sidecar_registry_reachable", {}, reachable)]),
        ("sidecar_models", "gauge", "Models.", [("sidecar_models", {}, 3.0)]),
        ("build", "info", "Build.", [("build_info", {"version": "1"}, 1.0)]),
    ]


def value(found: list[Family], sample: str) -> float:
    (only,) = [value for _, _, _, samples in found for name, _, value in samples if name == sample]
    return only


def test_counts_are_added_and_the_state_of_the_whole_is_the_worst() -> None:
    both = summed([families(5, 2), families(7, 1, reachable=0.0)])
    assert value(both, "requests_total") == 12
    assert value(both, "seconds_bucket") == 12
    assert value(both, "seconds_sum") == 1.0
    assert value(both, "waiting") == 3
    assert value(both, "sidecar_registry_reachable") == 0
    assert value(both, "sidecar_models") == 3, "both have the same models"
    assert value(both, "build_info") == 1


def test_each_label_is_added_apart() -> None:
    one = [("r", "counter", "", [("r_total", {"status": "200"}, 1.0), ("r_total", {"status": "404"}, 2.0)])]
    (family,) = summed([one, one])
    assert family[3] == [("r_total", {"status": "200"}, 2.0), ("r_total", {"status": "404"}, 4.0)]


def test_whichever_worker_is_asked_tells_of_all(tmp_path: Path) -> None:
    first = WorkerMetrics(tmp_path, 0, lambda: families(5, 2), "parent")
    second = WorkerMetrics(tmp_path, 1, lambda: families(7, 1), "parent")
    assert value(first.families(), "requests_total") == 5, "the other has not published yet"
    assert value(second.families(), "requests_total") == 12
    assert value(first.families(), "requests_total") == 12


def test_what_was_told_once_is_never_told_less(tmp_path: Path) -> None:
    counted = [5.0]
    first = WorkerMetrics(tmp_path, 0, lambda: families(counted[0], 0), "parent")
    second = WorkerMetrics(tmp_path, 1, lambda: families(1, 0), "parent")
    first.families()
    counted[0] = 9.0
    assert value(first.families(), "requests_total") == 9
    assert value(second.families(), "requests_total") == 10


def test_a_worker_that_is_started_again_goes_on_from_what_its_predecessor_counted(tmp_path: Path) -> None:
    WorkerMetrics(tmp_path, 0, lambda: families(5, 2), "parent").families()
    again = WorkerMetrics(tmp_path, 0, lambda: families(1, 1), "parent")
    assert value(again.families(), "requests_total") == 6
    assert value(again.families(), "requests_total") == 6, "and not once more with each look"
    assert value(again.families(), "waiting") == 1, "how it was is over"


def test_of_a_dead_worker_only_its_counts_count(tmp_path: Path) -> None:
    WorkerMetrics(tmp_path, 0, lambda: families(5, 2), "parent").families()
    (file,) = tmp_path.glob("*.json")
    long_ago = file.stat().st_mtime - STALE_SECONDS - 1
    os.utime(file, (long_ago, long_ago))
    second = WorkerMetrics(tmp_path, 1, lambda: families(7, 1), "parent")
    assert value(second.families(), "requests_total") == 12
    assert value(second.families(), "waiting") == 1


def test_workers_of_another_parent_do_not_count(tmp_path: Path) -> None:
    WorkerMetrics(tmp_path, 0, lambda: families(5, 2), "earlier").families()
    WorkerMetrics(tmp_path, 0, lambda: families(50, 2), "at-the-same-time").families()
    (old,) = tmp_path.glob("earlier*")
    os.utime(old, (0, 0))
    mine = WorkerMetrics(tmp_path, 0, lambda: families(1, 1), "parent")
    assert value(mine.families(), "requests_total") == 1
    assert {path.name.split(".")[0] for path in tmp_path.glob("*.json")} == {"at-the-same-time", "parent"}


def test_it_publishes_at_its_end_and_survives_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "parent.1.json").write_text("half of a fi")
    first = WorkerMetrics(tmp_path, 0, lambda: families(5, 2), "parent")
    first.start()
    first.close()
    second = WorkerMetrics(tmp_path, 1, lambda: families(7, 1), "parent")
    assert value(second.families(), "requests_total") == 12


def test_a_parent_has_a_name_of_its_own() -> None:
    assert parent_process() == parent_process()
    assert str(os.getppid()) in parent_process().split("-")


def test_only_what_grows_is_inherited() -> None:
    assert [name for name, *_ in only_counts(families(1, 1))] == ["requests", "seconds"]
