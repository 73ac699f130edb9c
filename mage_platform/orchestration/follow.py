"""Run a pipeline and watch it to its end, wherever that is best done.

Where the Mage server is up the run belongs to it: it is seen in the UI, and it goes on when the watcher is
gone. Where it is not, Mage's scheduler is driven for this one run in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from mage_platform import errors
from mage_platform.errors import MageUnavailable, PlatformError, ServiceFailed
from mage_platform.orchestration import refusals
from mage_platform.orchestration.client import MageClient
from mage_platform.orchestration.progress import RunProgress, RunResult, run_result
from mage_platform.orchestration.project_environment import project_environment

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
_TIME_TO_CANCEL_SECONDS = 20.0

Listener = Callable[[RunProgress], None]
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MageAddress:
    """Where Mage is, and how to get in.

    Args:
        base_url: Address of the server, such as `http://127.0.0.1:6789`.
        email: Login of the owner.
        password: Their password.
        project: Folder with the project's `metadata.yaml`, for a run without the server.
        environment: Environment of a run without the server; this process's own when None. It names the
            metadata database (`MAGE_DATABASE_CONNECTION_URL`).
        log_file: Where Mage's own output goes in a run without the server; `.mage_data/headless.log` when
            None.
    """

    base_url: str
    email: str
    password: str = field(repr=False)
    project: Path
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    log_file: Path | None = None


def run_and_follow(
    mage: MageAddress,
    pipeline: str,
    variables: Mapping[str, Any],
    listener: Listener,
    *,
    cancel_on_interrupt: bool = True,
) -> RunResult:
    """Run a pipeline and report each change until it has ended.

    Args:
        mage: Where Mage is.
        pipeline: Name of the pipeline.
        variables: Variables of this run, which the blocks get as keyword arguments.
        listener: Called with every state that differs from the one before.
        cancel_on_interrupt: Whether Ctrl-C stops a run on the server too, or only the watching. A run without
            the server is always cancelled.

    Returns:
        How the run ended. A failed run is a result, not an error.

    Raises:
        PipelineNotFound: The project has no such pipeline.
        LoginRefused: The server did not accept the login.
        MageUnavailable: The server was lost during the run, for longer than a short while.
        ServiceFailed: The process of a run without the server ended without a result.
        KeyboardInterrupt: Ctrl-C, after the run was cancelled.
    """
    with MageClient(mage.base_url, mage.email, mage.password) as client:
        if client.is_up():
            return _follow_on_server(client, pipeline, variables, listener, cancel_on_interrupt)
    return _follow_headless(mage, pipeline, variables, listener)


def unfinished_run(mage: MageAddress, pipeline: str) -> int | None:
    """A run of the pipeline that was begun earlier and goes on, because an earlier server left it unfinished.

    Args:
        mage: Where Mage is.
        pipeline: Name of the pipeline.

    Returns:
        Mage's number of the run; None when there is no such run, or no server.
    """
    with MageClient(mage.base_url, mage.email, mage.password) as client:
        return client.unfinished_run(pipeline) if client.is_up() else None


def follow(mage: MageAddress, run_id: int, listener: Listener) -> RunResult:
    """Watch a run on the server to its end. Ctrl-C ends the watching only.

    Args:
        mage: Where Mage is.
        run_id: Mage's number of the run.
        listener: Called with every state that differs from the one before.

    Returns:
        How it ended; the elapsed time is that of the watching.

    Raises:
        RunNotFound: Mage knows no such run.
        MageUnavailable: The server was lost for longer than a short while.
    """
    began = time.monotonic()
    with MageClient(mage.base_url, mage.email, mage.password) as client:
        return run_result(_poll_to_the_end(client, run_id, listener), time.monotonic() - began)


def _follow_on_server(
    client: MageClient,
    pipeline: str,
    variables: Mapping[str, Any],
    listener: Listener,
    cancel_on_interrupt: bool,
) -> RunResult:
    began = time.monotonic()
    run_id = client.trigger(pipeline, variables)
    log.debug("pipeline triggered", pipeline=pipeline, run_id=run_id)
    try:
        last = _poll_to_the_end(client, run_id, listener)
    except KeyboardInterrupt:
        if cancel_on_interrupt:
            with contextlib.suppress(MageUnavailable):  # gone, and the run with it; the interrupt must not be lost
                client.cancel(run_id)
        raise
    return run_result(last, time.monotonic() - began)


def _poll_to_the_end(client: MageClient, run_id: int, listener: Listener) -> RunProgress:
    seen: RunProgress | None = None
    answered = time.monotonic()
    while True:
        try:
            progress = client.run(run_id)
            answered = time.monotonic()
        except MageUnavailable:
            # A server that is being restarted takes the run up again; only a long silence is a loss.
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if progress != seen:
            listener(progress)
            seen = progress
        if progress.status.ended:
            return progress
        time.sleep(POLL_SECONDS)


def _follow_headless(mage: MageAddress, pipeline: str, variables: Mapping[str, Any], listener: Listener) -> RunResult:
    log_file = mage.log_file or mage.project / ".mage_data" / "headless.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as mage_output:
        process = _start_headless(mage, pipeline, variables, mage_output)
        try:
            return _listen(process, listener, log_file)
        finally:
            _end(process)


def _start_headless(
    mage: MageAddress, pipeline: str, variables: Mapping[str, Any], mage_output: IO[bytes]
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mage_platform.orchestration.headless", str(mage.project), pipeline]
    return subprocess.Popen(
        [*command, "--variables", json.dumps(dict(variables)), "--die-with-parent"],
        stdout=subprocess.PIPE,
        stderr=mage_output,
        stdin=subprocess.DEVNULL,
        text=True,
        env=project_environment(mage.project, os.environ if mage.environment is None else mage.environment),
        start_new_session=True,  # Ctrl-C is handed on once, by us, and not to every block by the terminal
    )


def _listen(process: subprocess.Popen[str], listener: Listener, log_file: Path) -> RunResult:
    assert process.stdout is not None
    for line in process.stdout:
        message = json.loads(line)
        kind = message.pop("kind")
        if kind == "progress":
            listener(RunProgress.model_validate_json(json.dumps(message)))
        elif kind == "result":
            return RunResult.model_validate_json(json.dumps(message))
        else:
            raise _error_named(message["error"], message["message"])
    raise ServiceFailed(
        f"The process that ran the pipeline ended (exit code {process.wait()}) without a result. Its last words "
        f"are in {log_file}."
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Take leave of the process: it has reported its end, or it is to cancel its run now."""
    process.terminate()  # once the run has ended this changes nothing
    try:
        process.communicate(timeout=_TIME_TO_CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _error_named(name: str, message: str) -> PlatformError:
    kind = getattr(errors, name, None) or getattr(refusals, name, None) or ServiceFailed
    error: PlatformError = kind(message)
    return error
