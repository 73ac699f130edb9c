"""What `up` does once everything answers: the first ingest and training, and showing what is there."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from mage_platform.api_keys import own_headers, own_key_file
from mage_platform.command_line.models import MODEL_COLUMNS, model_row
from mage_platform.command_line.output import print_table
from mage_platform.command_line.pipelines import mage_address, raise_if_failed, run_pipeline
from mage_platform.command_line.predictions import ask
from mage_platform.contracts import POOLED, Champion, UseCase
from mage_platform.database import connect
from mage_platform.errors import PlatformError, SidecarUnavailable
from mage_platform.features.history import an_entity, count_vectors
from mage_platform.features.training_set import labelled_rows_by_region
from mage_platform.orchestration.follow import follow, unfinished_run
from mage_platform.orchestration.render import LiveRunView
from mage_platform.registry import champions, model_versions
from mage_platform.settings import Settings
from mage_platform.use_cases import load_use_case

SIDECAR_PATIENCE_SECONDS = 60.0
INGEST, TRAIN = "ingest_features", "train_regional_models"


def first_run(settings: Settings, use_cases: Sequence[str], console: Console) -> None:
    """Bring each use case to served champions, then show addresses, champions and one real answer.

    What fails is said and does not stop the rest: the stack stays up, so that its logs and the Mage UI can be read.
    """
    for pipeline in (INGEST, TRAIN) if use_cases else ():
        with _said(pipeline, console):
            _await_unfinished(settings, pipeline, console)
    for name in use_cases:
        with _said(name, console):
            _bring_up(settings, load_use_case(settings, name), console)
    with _said("overview", console):
        _show(settings, console)
    console.print("\nCtrl-C stops everything.")


@contextlib.contextmanager
def _said(what: str, console: Console) -> Iterator[None]:
    try:
        yield
    except PlatformError as error:
        console.print(f"[bold red]{escape(what)}:[/] ", end="")
        console.print(str(error), markup=False, highlight=False)


def _await_unfinished(settings: Settings, pipeline: str, console: Console) -> None:
    """Mage takes up a run that an earlier stop interrupted; a second one beside it would do its work twice."""
    run_id = unfinished_run(mage_address(settings), pipeline)
    if run_id is None:
        return
    console.print(f"[bold]{pipeline}[/]: run {run_id} was begun earlier and is not finished, following it")
    with LiveRunView(console) as view:
        result = follow(mage_address(settings), run_id, view)
    raise_if_failed(result)
    console.print(f"{pipeline}: run {run_id} completed")


def _bring_up(settings: Settings, use_case: UseCase, console: Console) -> None:
    with connect(settings) as connection:
        vectors = count_vectors(connection, use_case.name)
    if vectors:
        console.print(f"{use_case.name}: {vectors:,} feature vectors stored; the nightly trigger keeps them fresh")
    else:
        console.print(f"[bold]{use_case.name}[/]: no feature vectors yet, running ingest_features")
        _run(settings, INGEST, use_case, console)
    with connect(settings) as connection:
        regions = labelled_rows_by_region(connection, use_case.name, use_case.training.window)
        # A version that was registered but not promoted lost by the rule; the same training would lose again.
        known = {version.region for version in model_versions(connection, use_case=use_case.name)}
    wanted = set(regions) | ({POOLED} if use_case.training.pooled.enabled and len(regions) > 1 else set())
    missing = sorted(wanted - known)
    if missing:
        names = ", ".join("all regions together" if region == POOLED else region for region in missing)
        console.print(
            f"[bold]{use_case.name}[/]: no model yet for {names}, running train_regional_models "
            "(most of it is H2O's own training; a few minutes on two cores)"
        )
        _run(settings, TRAIN, use_case, console, regions=",".join(missing))


def _run(settings: Settings, pipeline: str, use_case: UseCase, console: Console, **variables: str) -> None:
    result = run_pipeline(settings, pipeline, {"use_case": use_case.name, **variables}, console=console)
    raise_if_failed(result)
    console.print(f"{pipeline}: run {result.run_id} completed in {result.elapsed_seconds:.0f} s")


def _show(settings: Settings, console: Console) -> None:
    with connect(settings) as connection:
        serving = champions(connection)
        entities = {(each.model.use_case, each.model.region): _entity(connection, each) for each in serving}
    console.print()
    console.print("[bold]Champions[/] (*), measured on the held-out rows")
    rows = [model_row(each.model, is_champion=True) for each in serving]
    print_table(MODEL_COLUMNS, rows, empty="none yet: `mage-platform run train_regional_models`")
    console.print()
    _show_addresses(settings, console)
    example = next(((each, entity) for each in serving if (entity := entities[_key(each)])), None)
    if example is not None:
        _show_request(settings, console, *example)


def _show_addresses(settings: Settings, console: Console) -> None:
    sidecar, mage = settings.sidecar.url, settings.mage
    secret = settings.state_folder / "secrets" / "platform_mage_owner_password"
    console.print("[bold]Addresses[/]")
    for name, address in (
        ("prediction API", sidecar),
        ("its documentation", f"{sidecar}/docs"),
        ("Mage UI", f"{mage.url}  login {mage.owner_email}, password in {secret}"),
    ):
        console.print(f"  {name:<18} {address}", highlight=False, soft_wrap=True)


def _show_request(settings: Settings, console: Console, champion: Champion, entity_id: str) -> None:
    model = champion.model
    request = {"use_case": model.use_case, "region": model.region, "entity_id": entity_id}
    console.print("\n[bold]One real request and its answer[/]")
    key = f' -H "authorization: Bearer $(cat {own_key_file(settings)})"' if own_headers(settings) else ""
    console.print(
        f"  curl -s {settings.sidecar.url}/v1/predict{key} -H 'content-type: application/json' "
        f"-d '{json.dumps(request)}'",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    answer = ask_when_served(settings, request, version=model.version)
    console.print(f"  {json.dumps(answer, ensure_ascii=False)}", highlight=False, markup=False, soft_wrap=True)


def ask_when_served(settings: Settings, request: dict[str, Any], *, version: int) -> dict[str, Any]:
    """Ask once the sidecar serves this version: it picks up a promotion within seconds.

    Raises:
        SidecarUnavailable: It does not serve it in time.
    """
    deadline = time.monotonic() + SIDECAR_PATIENCE_SECONDS
    address = f"{settings.sidecar.url}/v1/models/{request['use_case']}/{request['region']}"
    while True:
        try:
            response = httpx.get(address, headers=own_headers(settings), timeout=5.0)
            if response.status_code in (401, 403):
                return ask(settings, request)  # which says what is wrong with the key
            if response.is_success and response.json()["model"]["version"] == version:
                return ask(settings, request)
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise SidecarUnavailable(
                f"the sidecar at {settings.sidecar.url} does not serve {request['use_case']}/{request['region']} "
                f"version {version} yet; {settings.state_folder / 'logs' / 'sidecar.log'} says why"
            )
        time.sleep(0.2)


def _entity(connection: Any, champion: Champion) -> str | None:
    entity = an_entity(connection, champion.model.use_case, champion.model.region)
    return str(entity) if entity else None


def _key(champion: Champion) -> tuple[str, str]:
    return champion.model.use_case, champion.model.region
