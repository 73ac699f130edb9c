"""What lets several workers run the tests side by side: the order of the files, and what is made once for all of them.

`make test` gives each worker whole files (pytest-xdist). Each has servers of its own, on free ports and in folders of
its own, and most of a test's time is waiting for one of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

LONGEST = (
    "tests/images/",
    "tests/manifests/",
    "tests/cluster/",
    "tests/pipelines/",
    "tests/local/test_stack_life.py",
    "tests/orchestration/",
    "tests/training/",
    "tests/serving/",
    "tests/stores/",
)
"""Begun first, so that no worker is left alone with a long file at the end; what is not named comes after them."""


def is_a_worker() -> bool:
    """Whether this process is one of several that share the tests."""
    return "PYTEST_XDIST_WORKER" in os.environ


TOGETHER = ("tests/images/",)
"""Folders that one worker does alone: what their files share takes minutes to make."""


class WholeFiles(LoadScopeScheduling):
    """Gives each worker whole files, and some folders whole."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


def longest_first(items: list[pytest.Item]) -> None:
    """Put the longest files in front; within a file the order stays."""

    def place(item: pytest.Item) -> int:
        return next((number for number, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=place)


def made_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """A folder that the first worker fills, and the others wait for; nobody changes it afterwards.

    Args:
        factory: Of the temporary folders.
        name: Of the folder.
        fill: Gets an empty folder.
    """
    place = factory.getbasetemp()
    if is_a_worker():
        place = place.parent  # of all workers of this run
    folder, unfinished = place / name, place / f"{name}.unfinished"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            fill(unfinished)
            unfinished.rename(folder)
    return folder
