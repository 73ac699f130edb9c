"""`mage-platform run`: a pipeline through Mage's scheduler, with live progress."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console

from mage_platform.blocks import PipelineVariables
from mage_platform.command_line.output import json_option, print_json
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import ContractViolated, PipelineFailed, ServiceFailed
from mage_platform.local.embedded import running
from mage_platform.local.java import find_java
from mage_platform.local.lookup import find_running
from mage_platform.local.mage import mage_environment
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.surroundings import block_environment
from mage_platform.orchestration.follow import MageAddress, run_and_follow
from mage_platform.orchestration.mage_variables import production_variables
from mage_platform.orchestration.progress import RunResult
from mage_platform.orchestration.refusals import PipelineNotFound
from mage_platform.orchestration.render import LiveRunView
from mage_platform.settings import PROJECT, Settings
from mage_platform.use_cases import load_use_case


@click.command()
@click.argument("pipeline")
@click.option("--use-case", help="Use case of the run; left out, the pipeline's own default.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Pipeline variable; repeatable.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def run(pipeline: str, use_case: str | None, assignments: Sequence[str], quiet: bool, as_json: bool) -> None:
    """Run PIPELINE to its end.

    PIPELINE is `ingest_features` or `train_regional_models`, or another one below pipelines/. When the Mage
    server is up the run belongs to it and is seen in its UI; otherwise Mage's scheduler is driven here, and what
    the run needs of the local stack is started for as long as it lasts.

    \b
    Variables: window_start, window_end (times with zone), source_file, bulk (true: take the index on the vectors
    away while they are loaded), regions (comma separated). Examples:
      mage-platform run ingest_features --set window_start=2013-11-01T00:00:00Z
      mage-platform run ingest_features --set window_end=2013-07-01T00:00:00Z --set bulk=true
      mage-platform run ingest_features --set source_file=use_cases/flight_delays/samples/dirty_rows.csv
      mage-platform run train_regional_models --set regions=JFK,LGA
    """
    _require_known(pipeline)
    variables = _variables(use_case, assignments)
    settings = present_settings()
    if "use_case" in variables:
        load_use_case(settings, variables["use_case"])
    with _stack_for(settings) as reached:
        result = run_pipeline(reached, pipeline, variables, quiet=quiet)
    if as_json:
        print_json(result)
    raise_if_failed(result)
    if not as_json:
        click.echo(f"{pipeline}: run {result.run_id} completed in {result.elapsed_seconds:.0f} s")


def run_pipeline(
    settings: Settings, pipeline: str, variables: dict[str, str], *, quiet: bool = False, console: Console | None = None
) -> RunResult:
    """Run a pipeline where that is best done, drawing its progress.

    Args:
        settings: Under which the stack is reached.
        pipeline: Its name.
        variables: Of this run.
        quiet: Draw nothing.
        console: Where to draw; standard error when None.
    """
    address = mage_address(settings)
    if quiet:
        return run_and_follow(address, pipeline, variables, lambda progress: None)
    with LiveRunView(console) as view:
        return run_and_follow(address, pipeline, variables, view)


def mage_address(settings: Settings) -> MageAddress:
    """Where Mage is, for these settings, and how to get in.

    Raises:
        SettingsInvalid: In production, where a secret of Mage's is missing.
    """
    if settings.environment == "production":
        variables = production_variables(settings, os.environ)
        return MageAddress(
            base_url=settings.mage.url,
            email=settings.mage.owner_email,
            password=variables["DEFAULT_OWNER_PASSWORD"],
            project=PROJECT,
            environment={**os.environ, **variables},
            log_file=settings.state_folder / "logs" / "headless.log",
        )
    passwords = keep_passwords(settings)
    return MageAddress(
        base_url=settings.mage.url,
        email=settings.mage.owner_email,
        password=passwords.mage_owner.get_secret_value(),
        project=PROJECT,
        environment={
            **os.environ,
            **_java_home(),
            **block_environment(settings),
            **mage_environment(settings, passwords),
        },
        log_file=settings.state_folder / "logs" / "headless.log",
    )


def _java_home() -> dict[str, str]:
    """Where blocks find a Java when none is installed: the one that came with the environment."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return {}
    try:
        return {"JAVA_HOME": str(find_java().home)}
    except ServiceFailed:  # only the timing of scores wants it
        return {}


def raise_if_failed(result: RunResult) -> None:
    """Turn a run that did not complete into an error.

    Raises:
        PipelineFailed: Names the block and its reason.
    """
    if not result.completed:
        block = f" in {result.failed_block}" if result.failed_block else ""
        raise PipelineFailed(f"{result.pipeline}: run {result.run_id} {result.status.value}{block}: {result.reason}")


def _require_known(pipeline: str) -> None:
    known = sorted(each.parent.name for each in (PROJECT / "pipelines").glob("*/metadata.yaml"))
    if pipeline not in known:
        raise PipelineNotFound(f"there is no pipeline {pipeline!r}; there are {', '.join(known)}")


@contextlib.contextmanager
def _stack_for(settings: Settings) -> Iterator[Settings]:
    """The stack that runs, or the servers a pipeline needs for as long as the block lasts."""
    if settings.environment == "production" or find_running(settings) is not None:
        yield settings
        return
    click.echo("the local stack is not up: starting PostgreSQL and H2O for this run", err=True)
    with running(settings, ("postgres", "pgbouncer", "h2o"), migrate=True, free_ports=False) as started:
        yield started


def _variables(use_case: str | None, assignments: Sequence[str]) -> dict[str, str]:
    given: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign:
            raise ContractViolated(f"--set {assignment!r}: write NAME=VALUE", field="set")
        given[name.strip()] = value
    if use_case is not None:
        given["use_case"] = use_case
    # Refused here, with the right names, rather than minutes later inside a block.
    PipelineVariables.from_settings({"use_case": "unnamed", **given})
    return given
