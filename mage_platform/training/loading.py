"""Branches of one run wait for each other before they train, until all that are bringing rows have brought them.

H2O does the work of a branch that trains before that of one that still uploads: parsing 8,000 rows, a tenth of a second
on an idle server, was seen to take a minute beside two AutoML runs, and the branch trained alone at the end.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger()
FILE = "loading"
TIMES_OWN, SECONDS_MORE = 2.0, 1.0
"""Nobody waits longer than twice as long as its own rows took, and a second."""
_LOOK_EVERY_SECONDS = 0.05


class Loading:
    """One branch that brings its rows to H2O; others see it by a lock, which ends with the process at the latest."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._began = time.monotonic()

    def finish(self) -> None:
        """Say that the rows are there, and wait for the branches that are still bringing theirs."""
        if self._file is None:
            return
        now = time.monotonic()
        until = now + (now - self._began) * TIMES_OWN + SECONDS_MORE
        fcntl.flock(self._file, fcntl.LOCK_UN)
        while not self._alone() and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_SECONDS)
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def _alone(self) -> bool:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def loading(folder: Path, *, wait: bool = True) -> Iterator[Loading]:
    """Bring rows to H2O beside other branches.

    Args:
        folder: Of the run, the same for all its branches.
        wait: False for a branch of few rows, whose turn is over sooner than the waiting.
    """
    try:
        file = (folder / FILE).open("ab") if wait else None
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_SH)
    except OSError as error:  # a file system without locks
        log.info("branches do not wait for each other", folder=str(folder), reason=str(error))
        file = None
    try:
        yield Loading(file)
    finally:
        if file is not None:
            file.close()
