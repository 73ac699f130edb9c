"""Branches wait for each other before they train; other processes stand for other branches."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mage_platform.training import loading as module
from mage_platform.training.loading import loading

HOLD = """
import sys, time
from pathlib import Path
from mage_platform.training.loading import loading
with loading(Path(sys.argv[1])):
    print("loading", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def _another(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        yield process
        process.kill()


def _waited(folder: Path, *, wait: bool = True) -> float:
    with loading(folder, wait=wait) as mine:
        clock = time.monotonic()
        mine.finish()
        return time.monotonic() - clock


def test_a_branch_waits_for_another_that_brings_its_rows_but_not_for_ever(tmp_path: Path) -> None:
    with _another(tmp_path, 60):
        waited = _waited(tmp_path)
    assert module.SECONDS_MORE <= waited < module.SECONDS_MORE + 2


def test_it_goes_on_when_the_other_is_done_or_was_killed(tmp_path: Path) -> None:
    with _another(tmp_path, 0.3):
        assert _waited(tmp_path) < module.SECONDS_MORE
    with _another(tmp_path, 60) as process:
        process.kill()
        process.wait()
        assert _waited(tmp_path) < 0.5


def test_nobody_waits_who_is_alone_or_has_few_rows(tmp_path: Path) -> None:
    assert _waited(tmp_path) < 0.5
    with _another(tmp_path, 60):
        assert _waited(tmp_path, wait=False) < 0.5


def test_those_who_wait_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """The second of two has finished and waits; the first one comes to its end meanwhile."""
    with loading(tmp_path) as first, loading(tmp_path) as second:
        first.finish()
        clock = time.monotonic()
        second.finish()
        assert time.monotonic() - clock < 0.5
