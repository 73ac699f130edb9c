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

from mage_platform.errors import H2OUnavailable, SettingsInvalid
from mage_platform.h2o_login import LOGIN, SECRET, credentials
from mage_platform.settings import H2OSettings, Settings, secret_file
from mage_platform.training.h2o_cloud import (
    Cloud,
    Judgement,
    LoginRefused,
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
        SettingsInvalid: It does not take the login.
    """
    leader = await_whole_cloud(settings)
    _warn_of_open_server(leader)
    try:
        connection = _connect(leader, settings)
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


def await_whole_cloud(settings: Settings) -> str:
    """Wait until the cloud is whole: all nodes there, heard lately, and agreed on each other.

    Returns:
        Base address of its leader.

    Raises:
        H2OUnavailable: It is not whole in time, or can never become so; says how many nodes of how many.
        SettingsInvalid: It does not take the login; names the secret file.
    """
    h2o_settings = settings.h2o
    deadline = time.monotonic() + h2o_settings.connect_timeout_seconds
    told = ""
    while True:
        judgement = _look(settings)
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


def _look(settings: Settings) -> Judgement:
    h2o_settings, login = settings.h2o, credentials(settings.h2o_password)
    answers: dict[str, Cloud | NotLeader | NoAnswer] = {}
    try:
        for url in addresses(h2o_settings.host, h2o_settings.port):
            try:
                answers[url] = ask(url, ANSWER_WITHIN_SECONDS, login)
            except (NotLeader, NoAnswer) as error:
                answers[url] = error
            except LoginRefused:
                raise _refused_login(url, settings) from None
    except NoAnswer as error:
        answers[h2o_settings.url] = error
    return judge(answers, h2o_settings.nodes, h2o_settings.silence_limit_seconds)


def _refused_login(url: str, settings: Settings) -> SettingsInvalid:
    file = secret_file(settings, SECRET)
    if settings.h2o_password is None:
        said = f"the H2O server at {url} asks for a login, and the secret file {file} is missing or empty"
    else:
        said = f"the H2O server at {url} refuses the login {LOGIN!r} with the password of the secret file {file}"
    return SettingsInvalid(
        f"{said}: write the password into it that the server's realm.properties was made from; a local server takes "
        "the one of its own state folder",
        field="h2o_password",
    )


def _warn_of_open_server(leader: str) -> None:
    with suppress(LoginRefused, NotLeader, NoAnswer):
        ask(leader, ANSWER_WITHIN_SECONDS, None)
        log.warning(
            "the H2O server asks nobody for a login: whoever reaches it can read the training rows and use it",
            address=leader,
            remedy="start it with -hash_login -login_conf, see docs/security.md",
        )


def _connect(leader: str, settings: Settings) -> Any:
    watch = Watch(leader, settings)
    # The client prints a plea to update; the version is pinned on purpose.
    with redirect_stdout(io.StringIO()):
        connection = h2o.connect(
            url=leader, auth=credentials(settings.h2o_password), verbose=False, strict_version_check=True
        )
    h2o.no_progress()
    # Everything the client does goes through this method, and waits in it without any limit of its own.
    connection.request = watched(connection.request, watch)
    return connection


class Watch:
    """Looks after a cloud that was whole, for as long as a branch works on it.

    Args:
        leader: Base address of its leader.
        settings: What a whole cloud is, and its login.
    """

    def __init__(self, leader: str, settings: Settings) -> None:
        self._leader = leader
        self._settings = settings.h2o
        self._login = credentials(settings.h2o_password)
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
            cloud = ask(self._leader, ANSWER_WITHIN_SECONDS, self._login)
        except NotLeader:
            return "the node is not its leader any more"
        except LoginRefused:
            return "it does not take the login any more"
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
