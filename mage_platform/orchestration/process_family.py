"""All processes of a Mage server (or of a run without one) end with the process that started them.

Mage's scheduler, its worker pool, the block processes and the notebook kernel are separate processes, the
kernel even in a session of its own. When the first of them is killed, the others would live on, keep the
database busy and go on scheduling. Two things see to it that they do not:

* each process forked by Python asks the kernel to be killed with its parent;
* a small watcher, in a session of its own, waits for the death of the first process and kills whatever still
  carries the family's mark in its environment: programs started by blocks, and the notebook kernel.

Linux only, like the rest of the platform.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "MAGE_FAMILY"
_PR_SET_PDEATHSIG = 1
_SWEEP_SECONDS = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


def found_family(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Make this process the head of a family of its own.

    The process replaces itself by the same program once, because the mark has to be in the environment from
    the program's first moment to be seen from outside. Within a family a new one becomes part of it.

    Args:
        command: Arguments with which the interpreter starts this very program again.
        environment: Environment of the family, without the mark.
    """
    outer = os.environ.get(MARK, "")
    if outer.rpartition("/")[2].partition(".")[0] != str(os.getpid()):
        mark = f"{outer}/{os.getpid()}.{secrets.token_hex(4)}"
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *command], {**environment, MARK: mark})
    _start_watcher(outer)
    os.register_at_fork(before=_remember_forking_thread, after_in_child=_die_with_forking_parent)


def family_members(mark: str) -> list[int]:
    """Processes that carry the mark, or one of a family within it.

    Args:
        mark: Value of the mark.

    Returns:
        Their process ids, this process left out.
    """
    wanted = f"{MARK}={mark}".encode()
    members = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile, or belongs to another user
            continue
        if any(each == wanted or each.startswith(wanted + b"/") for each in variables):
            members.append(int(folder.name))
    return members


def die_with_parent(death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to signal this process when the thread that started it is gone.

    Args:
        death_signal: The signal to get.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def end_descendants() -> None:
    """Kill whatever this process and its children have started and left running."""
    for member in family_members(os.environ[MARK]):
        if member != _watcher:
            _kill(member)


_watcher = 0
_forked_by_main_thread = True
_forked_by = os.getpid()


def _remember_forking_thread() -> None:
    global _forked_by_main_thread, _forked_by
    _forked_by_main_thread = threading.current_thread() is threading.main_thread()
    _forked_by = os.getpid()


def _die_with_forking_parent() -> None:
    # The kernel counts the end of the forking thread as the parent's death, so a child of any thread but the
    # main one would die too early; such a child is left to the watcher.
    if not _forked_by_main_thread:
        return
    die_with_parent()
    if os.getppid() != _forked_by:  # the parent died before the request
        os.kill(os.getpid(), signal.SIGKILL)


def _start_watcher(mark: str) -> None:
    global _watcher
    head = os.getpid()
    _watcher = os.fork()
    if _watcher != 0:
        return
    os.setsid()  # signals to the head's process group do not reach the watcher
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    die_with_parent(signal.SIGUSR1)
    if os.getppid() == head:
        _let_go_of_files()
        signal.sigwait({signal.SIGUSR1})
    _sweep(mark)
    os._exit(0)


def _let_go_of_files() -> None:
    """Whoever reads the head's output waits for its end, not for the watcher's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, 256)


def _sweep(mark: str) -> None:
    """Kill the members until two looks in a row find none: a process being forked escapes the first."""
    deadline = time.monotonic() + _SWEEP_SECONDS
    empty_looks = 0
    while empty_looks < 2 and time.monotonic() < deadline:
        members = family_members(mark)
        empty_looks = 0 if members else empty_looks + 1
        for member in members:
            _kill(member)
        time.sleep(0.1)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
