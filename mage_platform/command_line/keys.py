"""`mage-platform keys`: who may ask the prediction API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import click

from mage_platform.api_keys import create_key, keys_file, own_key_file, read_keys, revoke_key, write_secret
from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.contracts.keys import ApiKey, Right
from mage_platform.errors import ContractViolated

_file_option = click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="The key file; left out, this deployment's."
)


@click.group()
def keys() -> None:
    """API keys of the prediction API.

    Their hashes are kept in the secret file platform_api_keys, which every sidecar reads again within a second when it
    changes. As long as there is none, a local sidecar on loopback answers everybody.
    """


@keys.command()
@click.argument("name")
@click.option("--use-case", "use_cases", multiple=True, required=True, help="What it is for; repeatable, * for all.")
@click.option(
    "--right",
    type=click.Choice(["read", "admin"]),
    default="read",
    show_default=True,
    help="read: predictions, explanations, models; admin: also metrics and the documentation, which tell of all.",
)
@click.option("--expires", help="When it ends: days from now as in 90d, or a time as in 2027-01-31T00:00:00Z.")
@click.option("--requests-per-second", type=click.FloatRange(min=0, min_open=True), help="A limit of its own.")
@click.option("--burst", type=click.IntRange(min=1), help="Requests that may come at once after a pause.")
@click.option("--own", is_flag=True, help="Also keep it as platform_api_key, which the platform's commands send.")
@_file_option
@json_option
def create(
    name: str,
    use_cases: Sequence[str],
    right: str,
    expires: str | None,
    requests_per_second: float | None,
    burst: int | None,
    own: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once.

    \b
    Examples:
      mage-platform keys create operations --use-case '*' --right admin --own
      mage-platform keys create shop --use-case flight_delays --expires 90d
    """
    settings = present_settings()
    until = None if expires is None else _moment(expires, datetime.now(UTC))
    key, kept = create_key(
        file or keys_file(settings),
        name,
        use_cases=tuple(use_cases),
        right=cast(Right, right),
        expires=until,
        requests_per_second=requests_per_second,
        burst=burst,
    )
    if own:
        write_secret(own_key_file(settings), key + "\n")
    if as_json:
        print_json({"key": key, **_plain(kept)})
        return
    click.echo(key)
    click.echo(
        "It is kept nowhere but in your hands: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.", err=True
    )
    if not own and not own_key_file(settings).is_file():
        click.echo(
            "From now on keys are needed, also by the platform's own commands: give them one with "
            "`mage-platform keys create operations --use-case '*' --right admin --own`",
            err=True,
        )


@keys.command("list")
@_file_option
@json_option
def list_keys(file: Path | None, as_json: bool) -> None:
    """List the keys by name, never the keys themselves."""
    found = read_keys(file or keys_file(present_settings()))
    each = found.keys if found else ()
    if as_json:
        print_json([_plain(key) for key in each])
        return
    now = datetime.now(UTC)
    rows = [
        [
            key.name,
            ", ".join(key.use_cases),
            key.right,
            f"{key.created:%Y-%m-%d}",
            "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}Z" + " (over)" * key.expired(now),
            key.requests_per_second,
        ]
        for key in each
    ]
    none = "Every key is revoked: nobody is let in." if found else "There is no key file, so no key is needed."
    print_table(["name", "use cases", "right", "created", "expires", "requests a second"], rows, empty=none)


@keys.command()
@click.argument("name")
@_file_option
@json_option
def revoke(name: str, file: Path | None, as_json: bool) -> None:
    """Take a key back; sidecars refuse it within a second."""
    gone = revoke_key(file or keys_file(present_settings()), name)
    if as_json:
        print_json(_plain(gone))
    else:
        click.echo(f"revoked {gone.name}")


def _moment(text: str, now: datetime) -> datetime:
    """When a key ends.

    >>> _moment("90d", datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-04-01T00:00:00+00:00'

    Raises:
        ContractViolated: It is neither a number of days nor a time with a zone, or it is over.
    """
    days = text.removesuffix("d")
    try:
        in_days = days != text and days.isdecimal()
        moment = now + timedelta(days=int(days)) if in_days else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ContractViolated(f"--expires {text}: write days as in 90d, or a time as in 2027-01-31T00:00:00Z")
    if moment <= now:
        raise ContractViolated(f"--expires {text}: that is over already")
    return moment.astimezone(UTC)


def _plain(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"sha256"})
