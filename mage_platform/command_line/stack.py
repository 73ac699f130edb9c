"""`mage-platform up`, `status` and `doctor`: the local stack."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Sequence

import click
from rich.console import Console

from mage_platform.command_line.first_run import first_run
from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import PlatformError
from mage_platform.local.java import find_java
from mage_platform.local.lookup import find_running
from mage_platform.local.lookup import status as service_status
from mage_platform.local.pgbouncer import find_pgbouncer
from mage_platform.local.ports import needed_ports, require_free
from mage_platform.local.stack import ALL, run_stack
from mage_platform.local.state_folder import require_usable
from mage_platform.logs import configure_logging
from mage_platform.settings import Settings, load_settings, setting_names
from mage_platform.use_cases import load_use_case, use_case_names


@click.command()
@click.option("--use-case", "names", multiple=True, help="Only this one; repeatable. All declared by default.")
@click.option("--no-first-run", is_flag=True, help="Start the servers only; ingest and train nothing.")
def up(names: Sequence[str], no_first_run: bool) -> None:
    """Start the whole local stack and stay until Ctrl-C.

    PostgreSQL, PgBouncer where it is installed, Valkey, H2O, Mage and the sidecar; then the first ingest and
    training of each use case that has no model yet. The second start trains nothing.
    """
    settings = load_settings()
    configure_logging(settings)
    for name in names:
        load_use_case(settings, name)
    console = Console(highlight=False, soft_wrap=True)

    def on_ready(reached: Settings) -> None:
        chosen = () if no_first_run else tuple(names) or tuple(use_case_names(reached))
        first_run(reached, chosen, console)

    raise SystemExit(run_stack(settings, on_ready=on_ready))


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Which services are up, where, and with how much memory."""
    settings = load_settings()
    services = service_status(settings)
    if as_json:
        print_json([{**vars(each), "log": str(each.log) if each.log else None} for each in services])
    else:
        running = find_running(settings) is not None
        rows = [
            [
                each.name,
                "up" if each.up else "not part of it" if running and not each.address else "down",
                each.address,
                each.pid,
                f"{each.memory_mib:,.0f}" if each.up else "",
            ]
            for each in services
        ]
        print_table(["service", "state", "address", "pid", "memory MiB"], rows, empty="")
        total = sum(each.memory_mib for each in services)
        click.echo(f"{total:,.0f} MiB in all" if running else "the local stack is not up: `make run`")


@click.command()
@click.option("--settings", "list_settings", is_flag=True, help="List every setting with its present value.")
@json_option
def doctor(list_settings: bool, as_json: bool) -> None:
    """Check what the local stack needs of this machine.

    Each failed check says what cures it.
    """
    if list_settings:
        _print_settings(as_json)
        return
    settings = load_settings()
    checks = [(name, *_outcome(check, settings)) for name, check in CHECKS]
    if as_json:
        print_json([{"check": name, "ok": ok, "finding": finding} for name, ok, finding in checks])
    else:
        rows = [[name, "ok" if ok else "FAILED", finding] for name, ok, finding in checks]
        print_table(["check", "", "finding"], rows, empty="")
    if not all(ok for _, ok, _ in checks):
        raise SystemExit(1)


def _outcome(check: Callable[[Settings], str], settings: Settings) -> tuple[bool, str]:
    try:
        return True, check(settings)
    except PlatformError as error:
        return False, str(error)


def _check_python(_: Settings) -> str:
    return f"{platform.python_version()} at {sys.executable}"


def _check_java(_: Settings) -> str:
    java = find_java()
    return f"Java {java.major} at {java.home}"


def _check_pgbouncer(settings: Settings) -> str:
    binary = find_pgbouncer(settings)
    return str(binary) if binary else "not installed: the local stack connects to PostgreSQL directly"


def _check_ports(settings: Settings) -> str:
    if find_running(settings) is not None:
        return "in use by this checkout's running stack"
    needs = needed_ports(settings, ALL)
    require_free(needs)
    return f"{len(needs)} ports free"


def _check_state_folder(settings: Settings) -> str:
    require_usable(settings.state_folder.absolute())
    return str(settings.state_folder.absolute())


def _check_disk(settings: Settings) -> str:
    folder = settings.state_folder if settings.state_folder.exists() else settings.state_folder.parent
    return f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free below {folder}"


def _check_use_cases(settings: Settings) -> str:
    return ", ".join(load_use_case(settings, name).name for name in use_case_names(settings)) or "none declared"


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("python", _check_python),
    ("java", _check_java),
    ("pgbouncer", _check_pgbouncer),
    ("ports", _check_ports),
    ("state folder", _check_state_folder),
    ("disk", _check_disk),
    ("use cases", _check_use_cases),
)


def _print_settings(as_json: bool) -> None:
    settings = present_settings().model_dump(mode="json")
    values = {}
    for name in setting_names():
        group, _, inner = name.removeprefix("PLATFORM_").lower().partition("__")
        values[name] = settings[group][inner] if inner else settings[group]
    if as_json:
        print_json(values)
    else:
        print_table(["setting", "value"], list(values.items()), empty="")
