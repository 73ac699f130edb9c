"""Work beside the services, and the wish to stop: what ends a running stack from outside."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable

from mage_platform.local import proc
from mage_platform.settings import Settings

_MAKE = {"make", "gmake"}
_PATIENCE_SECONDS = 3.0


class WorkerThread:
    """Runs a function once in a thread, and can interrupt it.

    Args:
        function: What to run.
        settings: What to call it with.
    """

    def __init__(self, function: Callable[[Settings], None], settings: Settings) -> None:
        self._function = function
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = self._loop.create_future()
        # a daemon: work that does not listen must not keep the stopped stack from ending
        self._thread = threading.Thread(target=self._run, name="on_ready", daemon=True)
        self._thread.start()

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the function and give it a moment to clean up."""
        if self.finished.done():
            return
        identity = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(KeyboardInterrupt))
        await asyncio.wait({self.finished}, timeout=_PATIENCE_SECONDS)

    def _run(self) -> None:
        problem: BaseException | None = None
        try:
            self._function(self._settings)
        except BaseException as error:  # handed on to the loop, which decides
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._finish, problem)

    def _finish(self, problem: BaseException | None) -> None:
        if self.finished.done():
            return
        if problem is None or isinstance(problem, KeyboardInterrupt):
            self.finished.set_result(None)
        else:
            self.finished.set_exception(problem)


async def stop_wished(*, with_parent: bool) -> None:
    """Wait for SIGINT, SIGTERM, a closed terminal, or the end of a parent this process must not outlive.

    Args:
        with_parent: Whether the end of the parent process, whatever it is, is such a wish.
    """
    loop = asyncio.get_running_loop()
    wished = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # started by nohup
        loop.add_signal_handler(number, wished.set)
    parent = os.getppid()
    under_make = proc.command_of(parent) in _MAKE
    make_listens = under_make and not proc.ignores_interrupts(parent)
    while not wished.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wished.wait(), 0.5)
        if (with_parent or under_make) and os.getppid() != parent:
            return
        # `kill -INT` of make alone: make puts its handler away and waits for its recipe without telling it
        if make_listens and proc.ignores_interrupts(parent):
            return
