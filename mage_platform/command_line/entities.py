"""`mage-platform features`: the stored vectors of an entity."""

from __future__ import annotations

import uuid
from datetime import datetime

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.errors import ContractViolated
from mage_platform.features.history import newest_vector


@click.group()
def features() -> None:
    """The feature store."""


@features.command()
@click.argument("entity_id")
@click.option("--as-of", help="The newest vector not after this moment, such as 2013-11-05T12:00:00Z.")
@json_option
def get(entity_id: str, as_of: str | None, as_json: bool) -> None:
    """The newest vector of ENTITY_ID, and its label where one is known."""
    with connect(present_settings()) as connection:
        stored = newest_vector(connection, _uuid(entity_id), as_of=_moment(as_of) if as_of else None)
    if as_json:
        print_json(stored)
        return
    click.echo(f"{stored.use_case}/{stored.region}  {stored.vector.entity_id}  {stored.vector.event_time.isoformat()}")
    if stored.label is not None:
        click.echo(f"label {stored.label}, known since {stored.known_at}")
    print_table(["feature", "value"], list(stored.vector.features.items()), empty="no features")


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ContractViolated(f"ENTITY_ID {text!r} is not a UUID", field="entity_id") from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ContractViolated(f"--as-of {text!r} is not a time; write 2013-11-05T12:00:00Z", field="as_of") from None
    if moment.tzinfo is None:
        raise ContractViolated(f"--as-of {text!r} has no time zone; write {text}Z for UTC", field="as_of")
    return moment
