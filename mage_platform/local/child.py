"""How a process of the local stack is born: in a group of its own, and tied to the life of its supervisor."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534
OPEN_FILES = 4096
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)


def preparation(*, stop_signal: signal.Signals | None, as_nobody: bool) -> Callable[[], None]:
    """What a child does between fork and exec.

    Args:
        stop_signal: The kernel sends it to the child when the supervisor dies, even by SIGKILL. None leaves the child
            alone. The signal is sent when the *thread* that forked ends, so start children from the main thread.
        as_nobody: For PostgreSQL and PgBouncer, which refuse to run as root. Shows the child a private user namespace
            in which root is `nobody`: this needs no account, changes no owner and works below a closed home folder.
            Where namespaces are forbidden, as in many containers, the child becomes the real `nobody`.
    """
    change_user = None
    if as_nobody:
        change_user = _see_root_as_nobody if can_make_namespace() else _become_nobody
    return _preparation(stop_signal, change_user)


def _preparation(stop_signal: signal.Signals | None, change_user: Callable[[], None] | None) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches the supervisor only, which then stops in order
        if change_user is not None:
            change_user()
        if stop_signal is not None and _LINUX:
            # after the user namespace: a change of credentials clears it
            _libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
            if os.getppid() != parent:  # the supervisor died in between
                os._exit(1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
            most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

    return prepare


def is_root() -> bool:
    """True when this process runs as root, which PostgreSQL and PgBouncer refuse."""
    return os.geteuid() == 0


@functools.cache
def can_make_namespace() -> bool:
    """True when the kernel lets root make a private user namespace (some container set-ups forbid it)."""
    if not _LINUX:
        return False
    try:
        done = subprocess.run(
            [sys.executable, "-c", ""], preexec_fn=_preparation(None, _see_root_as_nobody), check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def server_user() -> int:
    """Whom the files of PostgreSQL and PgBouncer belong to: this user, or `nobody` where only that is left."""
    return NOBODY if is_root() and not can_make_namespace() else os.geteuid()


def give_to_server(path: Path) -> None:
    """Make a file, or a folder with all that is in it, the property of `server_user`."""
    user = server_user()
    if path.stat().st_uid == user:
        return
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)


def adopt_orphans() -> None:
    """Let processes whose parent dies become children of this one, so that none outlives the stack."""
    if _LINUX:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _see_root_as_nobody() -> None:
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        Path("/proc/self", name).write_text(text)
