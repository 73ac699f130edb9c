"""The connection to the H2O cloud that trains: a gate before it, and a watch over every request on it.

The gate lets a training in only when the cloud is whole. The watch ends the training when a node is lost: H2O
cannot recover one, its jobs would wait for ever, and its client would wait with them.
"""

from __future__ import annotations

import io
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import h2o
import structlog
from h2o.exceptions import H2OConnectionError, H2OServerError

from mage_platform.errors import H2OUnavailable
from mage_platform.settings import H2OSettings, Settings
from mage_platform.training.h2o_cloud import (
    Cloud,
    Judgement,
    NoAnswer,
    NotLeader,
    addresses,
    ask,
    change_of,
    fault_of,
    judge,
)

LOOK_EVERY_SECONDS = 1.0
LOOKS_REMEMBERED = 30
ANSWER_WITHIN_SECONDS = 5.0
REFUSED_FOR_SECONDS = 5.0  # a Service refuses for a moment when the readiness of its pod flickers

log = structlog.get_logger()


@contextmanager
def h2o_server(settings: Settings) -> Iterator[None]:
    """Use the training server, or the cluster, of the settings.

    Raises:
        H2OUnavailable: It does not answer, is of another version, is not whole, or lost a node in between.
    """
    leader = await_whole_cloud(settings.h2o)
    try:
        connection = _connect(leader, settings.h2o)
        try:
            yield
        finally:
            with redirect_stdout(io.StringIO()), suppress(H2OConnectionError, ConnectionError):
                connection.close()
    except (H2OConnectionError, H2OServerError, ConnectionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise H2OUnavailable(
            f"the H2O server at {leader} was lost or does not answer ({first}). {_remedy(settings.h2o)}"
        ) from error


def await_whole_cloud(h2o_settings: H2OSettings) -> str:
    """Wait until the cloud is whole: all nodes there, heard lately, and agreed on each other.

    Returns:
        Base address of its leader.

    Raises:
        H2OUnavailable: It is not whole in time, or can never become so; says how many nodes of how many.
    """
    deadline = time.monotonic() + h2o_settings.connect_timeout_seconds
    told = ""
    while True:
        judgement = _look(h2o_settings)
        if judgement.leader is not None:
            return judgement.leader
        if judgement.final or time.monotonic() > deadline:
            raise H2OUnavailable(
                f"the H2O cloud at {h2o_settings.url} cannot train: {judgement.fault}. {_remedy(h2o_settings)}",
                field="h2o.nodes",
            )
        if judgement.fault != told:
            told = judgement.fault
            log.info("waiting for the H2O cloud", address=h2o_settings.url, because=told)
        time.sleep(0.5)


def _look(h2o_settings: H2OSettings) -> Judgement:
    answers: dict[str, Cloud | NotLeader | NoAnswer] = {}
    try:
        for url in addresses(h2o_settings.host, h2o_settings.port):
            try:
                answers[url] = ask(url, ANSWER_WITHIN_SECONDS)
            except (NotLeader, NoAnswer) as error:
                answers[url] = error
    except NoAnswer as error:
        answers[h2o_settings.url] = error
    return judge(answers, h2o_settings.nodes, h2o_settings.silence_limit_seconds)


def _connect(leader: str, h2o_settings: H2OSettings) -> Any:
    watch = Watch(leader, h2o_settings)
    # The client prints a plea to update; the version is pinned on purpose.
    with redirect_stdout(io.StringIO()):
        connection = h2o.connect(url=leader, verbose=False, strict_version_check=True)
    h2o.no_progress()
    # Everything the client does goes through this method, and waits in it without any limit of its own.
    connection.request = watched(connection.request, watch)
    return connection


class Watch:
    """Looks after a cloud that was whole, for as long as a branch works on it.

    Args:
        leader: Base address of its leader.
        h2o_settings: What a whole cloud is.
    """

    def __init__(self, leader: str, h2o_settings: H2OSettings) -> None:
        self._leader = leader
        self._settings = h2o_settings
        self._earlier: deque[Cloud] = deque(maxlen=LOOKS_REMEMBERED)
        self._looked = -math.inf
        self._silent_since: float | None = None
        self._loss: str | None = None

    def look(self) -> None:
        """Make sure that the cloud is still the whole one it was; asks it at most once a second.

        Raises:
            H2OUnavailable: It is not; from then on always.
        """
        if self._loss is None and time.monotonic() - self._looked >= LOOK_EVERY_SECONDS:
            self._loss = self._fault()
            self._looked = time.monotonic()
        if self._loss is not None:
            raise H2OUnavailable(
                f"the H2O cloud at {self._leader} broke while it trained: {self._loss}. {_remedy(self._settings)}",
                field="h2o.nodes",
            )

    def _fault(self) -> str | None:
        try:
            cloud = ask(self._leader, ANSWER_WITHIN_SECONDS)
        except NotLeader:
            return "the node is not its leader any more"
        except NoAnswer as error:
            return self._fault_of_silence(error)
        self._silent_since = None
        fault = change_of(self._earlier, cloud) or fault_of(
            cloud, self._settings.nodes, self._settings.silence_limit_seconds
        )
        self._earlier.append(cloud)
        return fault

    def _fault_of_silence(self, error: NoAnswer) -> str | None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        limit = REFUSED_FOR_SECONDS if error.refused else self._settings.silence_limit_seconds
        return f"its leader is gone ({error})" if now - self._silent_since >= limit else None


def watched(request: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """The same request, ended by `H2OUnavailable` when the cloud breaks meanwhile.

    It waits in a thread of its own, which a broken cloud may keep for ever, and which ends with the process.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        watch.look()
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                outcome.put((request(*arguments, **named), None))
            except BaseException as error:  # handed to the thread that waits
                outcome.put((None, error))

        threading.Thread(target=work, name="h2o request", daemon=True).start()
        while True:
            try:
                answer, error = outcome.get(timeout=LOOK_EVERY_SECONDS)
            except queue.Empty:
                watch.look()
                continue
            if error is not None:
                raise error
            return answer

    return call


def _remedy(h2o_settings: H2OSettings) -> str:
    if h2o_settings.nodes == 1:
        return (
            "Start the local stack with `make run`, or check PLATFORM_H2O__HOST, PLATFORM_H2O__PORT and "
            "PLATFORM_H2O__NODES; then run the pipeline again"
        )
    return (
        "H2O cannot take a node back: restart all its nodes together "
        "(`kubectl delete pod -l app.kubernetes.io/name=h2o`), "
        f"check that PLATFORM_H2O__NODES={h2o_settings.nodes} is their number, then run the pipeline again"
    )
