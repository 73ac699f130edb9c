"""Run one pipeline with Mage's own scheduler, without a server.

    python -m mage_platform.orchestration.headless PROJECT PIPELINE --variables '{"use_case":
    "flight_delays"}'

`mage run` cannot run dynamic blocks: they need block runs in the metadata database, and a scheduler that
looks after them. Here that scheduler is driven for one run, in a process that ends with it.

Standard output carries one JSON object a line, and nothing else; whatever Mage and the blocks print goes to
standard error. `{"kind": "progress", ...RunProgress}` on every change, at the end `{"kind": "result",
...RunResult}`, or `{"kind": "error", "error": name, "message": sentence}` when there was no run. Exit code 0
for a completed run, else 1. Ctrl-C and SIGTERM cancel the run.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml

from mage_platform.errors import ContractViolated, PlatformError
from mage_platform.orchestration.preload import preload_blocks
from mage_platform.orchestration.process_family import die_with_parent, end_descendants, found_family
from mage_platform.orchestration.progress import RunProgress, RunResult, run_progress, run_result
from mage_platform.orchestration.project_environment import existing_project, project_environment
from mage_platform.orchestration.refusals import PipelineNotFound

LOOK_EVERY_SECONDS = 0.1
"""Between two looks at the states of the run and its blocks, which cost one small query."""
ROUND_EVERY_SECONDS = 1.0
"""Between two rounds of Mage's scheduler while no state changes: a round costs fifty times as much as a look."""
_TRIGGER = "headless"
_never = threading.Event()

Listener = Callable[[RunProgress], None]


def run_pipeline(
    project: Path,
    pipeline: str,
    variables: dict[str, Any],
    listener: Listener,
    *,
    cancelled: threading.Event = _never,
) -> RunResult:
    """Run a pipeline to its end in this process, which should do nothing else.

    Mage is imported here and keeps its project and database for the life of the process. The metadata
    database is that of `MAGE_DATABASE_CONNECTION_URL`, else a SQLite file among the project's variables.

    Args:
        project: Folder with the project's `metadata.yaml`.
        pipeline: Name of the pipeline.
        variables: Variables of this run, which the blocks get as keyword arguments.
        listener: Called with every state that differs from the one before.
        cancelled: Set it to cancel the run.

    Returns:
        How the run ended.

    Raises:
        PipelineNotFound: The project has no such pipeline.
    """
    began = time.monotonic()
    if not (project / "pipelines" / pipeline / "metadata.yaml").is_file():
        raise PipelineNotFound(_no_such_pipeline(project, pipeline))
    open_project(project)
    preload_blocks(project, _blocks_of(project, pipeline))
    jobs = _start_workers()
    run_id = _create_run(pipeline, variables)
    try:
        last = _drive(run_id, jobs, listener, cancelled)
    finally:
        jobs.stop()
    return run_result(last, time.monotonic() - began)


def _drive(run_id: int, jobs: Any, listener: Listener, cancelled: threading.Event) -> RunProgress:
    """Let Mage's scheduler look after the run until it has ended."""
    seen: RunProgress | None = None
    known: object = None
    looked_after = -math.inf
    while True:
        states = _states(run_id)
        if states != known or time.monotonic() - looked_after >= ROUND_EVERY_SECONDS or cancelled.is_set():
            known = states
            progress = _snapshot(run_id)
            if progress != seen:
                listener(progress)
                seen = progress
            if progress.status.ended:
                return progress
            if cancelled.is_set():
                _cancel(run_id)
                continue
            _schedule(run_id)  # what it changes is seen by the next look, and leads to the next round
            jobs.clean_up_jobs()  # revives a lost worker pool, see guard.py
            looked_after = time.monotonic()
        cancelled.wait(LOOK_EVERY_SECONDS)


def _blocks_of(project: Path, pipeline: str) -> list[str]:
    declared = yaml.safe_load((project / "pipelines" / pipeline / "metadata.yaml").read_text(encoding="utf-8"))
    return [str(block["uuid"]) for block in declared.get("blocks") or []]


def open_project(project: Path) -> None:
    """Let Mage know its project, and bring its metadata database up to date, which the first time takes seconds."""
    os.environ.setdefault("REQUIRE_USER_AUTHENTICATION", "0")
    os.environ["MAGE_REPO_PATH"] = str(project)
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    from mage_ai.settings.repo import set_repo_path

    set_repo_path(str(project))  # before any other import of Mage: they read the project's settings
    from mage_ai.orchestration.db import db_connection, set_db_schema
    from mage_ai.orchestration.db.database_manager import database_manager

    set_db_schema()
    db_connection.start_session()
    database_manager.run_migrations(log_level=logging.WARNING)


def _start_workers() -> Any:
    from mage_ai.orchestration.job_manager import get_job_manager

    from mage_platform.orchestration.guard import install_guards

    install_guards()
    jobs = get_job_manager()
    jobs.start()
    return jobs


def _create_run(pipeline: str, variables: dict[str, Any]) -> int:
    from mage_ai.orchestration.pipeline_scheduler import PipelineScheduler
    from mage_ai.orchestration.triggers.api import trigger_pipeline

    from mage_platform.orchestration.run_claim import claim

    run = trigger_pipeline(pipeline, variables=dict(variables), schedule_name=_TRIGGER)
    claim(run)
    PipelineScheduler(run).start(should_schedule=False)
    return int(run.id)


def _run_record(run_id: int) -> Any:
    from mage_ai.orchestration.db import db_connection
    from mage_ai.orchestration.db.models.schedules import PipelineRun

    db_connection.session.expire_all()
    return PipelineRun.query.get(run_id)


def _states(run_id: int) -> object:
    """The states of the run and of its blocks, to be compared with those of another look."""
    from mage_ai.orchestration.db import db_connection
    from mage_ai.orchestration.db.models.schedules import BlockRun, PipelineRun

    session = db_connection.session
    run = session.query(PipelineRun.status).filter(PipelineRun.id == run_id).all()
    blocks = session.query(BlockRun.id, BlockRun.status).filter(BlockRun.pipeline_run_id == run_id).all()
    return [str(each) for each in run], sorted(map(str, blocks))


def _snapshot(run_id: int) -> RunProgress:
    run = _run_record(run_id)
    return run_progress({**run.to_dict(), "block_runs": [each.to_dict() for each in run.block_runs]})


def _schedule(run_id: int) -> None:
    from mage_ai.orchestration.pipeline_scheduler import PipelineScheduler

    from mage_platform.orchestration.run_claim import renew

    run = _run_record(run_id)
    renew(run)
    PipelineScheduler(run).schedule()


def _cancel(run_id: int) -> None:
    from mage_ai.orchestration.pipeline_scheduler import PipelineScheduler

    PipelineScheduler(_run_record(run_id)).stop()


def _no_such_pipeline(project: Path, pipeline: str) -> str:
    known = sorted(each.parent.name for each in (project / "pipelines").glob("*/metadata.yaml"))
    return f"There is no pipeline {pipeline!r} in {project}. The project has: {', '.join(known) or 'none'}."


def main(arguments: Sequence[str]) -> int:
    """Run a pipeline and report on standard output.

    Args:
        arguments: The command line without the program's name.

    Returns:
        Exit code: 0 for a completed run, else 1.
    """
    asked = _parser().parse_args(arguments)
    if asked.die_with_parent:
        die_with_parent(signal.SIGTERM)
    project = asked.project.resolve()
    found_family(["-m", "mage_platform.orchestration.headless", *arguments], project_environment(project, os.environ))
    report = _take_standard_output()
    cancelled = _cancel_on_signals()
    try:
        result = run_pipeline(
            existing_project(project),
            asked.pipeline,
            _variables(asked.variables),
            _reporter(report, cancelled),
            cancelled=cancelled,
        )
    except PlatformError as error:
        _say(report, "error", {"error": type(error).__name__, "message": str(error)})
        return 1
    finally:
        end_descendants()
    _say(report, "result", result.model_dump(mode="json"))
    return 0 if result.completed else 1


def _take_standard_output() -> TextIO:
    """Keep standard output for the report; what Mage and the blocks print goes to standard error."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return report


def _reporter(report: TextIO, cancelled: threading.Event) -> Listener:
    def listener(progress: RunProgress) -> None:
        if not _say(report, "progress", progress.model_dump(mode="json")):
            cancelled.set()

    return listener


def _say(report: TextIO, kind: str, facts: dict[str, Any]) -> bool:
    """Write a line; False when nobody reads any more."""
    try:
        report.write(json.dumps({"kind": kind, **facts}) + "\n")
        report.flush()
    except BrokenPipeError:
        return False
    return True


def _cancel_on_signals() -> threading.Event:
    cancelled = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, frame: cancelled.set())
    # The workers are forks of this process. They must not take the signals for themselves: Ctrl-C reaches the
    # whole terminal group, and a block that dies of it would turn a cancelled run into a failed one.
    os.register_at_fork(after_in_child=_leave_signals_to_parent)
    return cancelled


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _variables(text: str) -> dict[str, Any]:
    try:
        variables = json.loads(text)
    except ValueError as error:
        raise ContractViolated(f"--variables is not JSON: {error}. Give an object, such as '{{\"a\": 1}}'.") from error
    if not isinstance(variables, dict):
        raise ContractViolated(f"--variables is {text!r}, not a JSON object. Give one, such as '{{\"a\": 1}}'.")
    return variables


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headless", description="Run one pipeline without a Mage server.")
    parser.add_argument("project", type=Path, help="folder with the project's metadata.yaml")
    parser.add_argument("pipeline", help="name of the pipeline")
    parser.add_argument("--variables", default="{}", help="variables of the run, a JSON object")
    parser.add_argument("--die-with-parent", action="store_true", help="cancel the run when the caller is gone")
    return parser


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Mage's worker pool and manager are gone by now; an ordinary exit would wait for them.
    os._exit(code)
