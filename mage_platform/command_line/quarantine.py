"""`mage-platform quarantine`: what validation refused, and trying it again."""

from __future__ import annotations

from typing import Any

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.errors import PlatformError
from mage_platform.redrive import redrive
from mage_platform.settings import Settings
from mage_platform.use_cases import load_use_case
from mage_platform.validation import quarantined_rows


@click.group()
def quarantine() -> None:
    """Rows that validation refused."""


@quarantine.command("list")
@click.option("--use-case", help="Only this use case.")
@click.option("--run", help="Only rows refused by this run.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Newest rows to show.")
@json_option
def list_rows(use_case: str | None, run: str | None, limit: int, as_json: bool) -> None:
    """Refused rows with their reasons, newest first.

    A row is named by its entity key; --json shows all of it.
    """
    settings = present_settings()
    with connect(settings) as connection:
        count, rows = quarantined_rows(connection, use_case=use_case, run=run, limit=limit)
    if as_json:
        print_json({"count": count, "rows": [row.model_dump(mode="json") for row in rows]})
        return
    keys = {name: _entity_key(settings, name) for name in {row.use_case for row in rows}}
    lines = [
        [row.use_case, row.run, _named(row.row, keys[row.use_case]), reason.column, repr(reason.value), reason.rule]
        for row in rows
        for reason in row.reasons
    ]
    print_table(["use case", "run", "row", "column", "value", "rule"], lines, empty="Nothing is in quarantine.")
    if count > len(rows):
        click.echo(f"{count - len(rows):,} older rows not shown; raise --limit")


def _entity_key(settings: Settings, use_case: str) -> list[str]:
    """Columns that name a row; none for a use case that is not declared any more."""
    try:
        return list(load_use_case(settings, use_case).entity.key)
    except PlatformError:
        return []


def _named(row: dict[str, Any], key: list[str]) -> str:
    return " ".join(str(row.get(column)) for column in key)


@quarantine.command("redrive")
@click.option("--use-case", "name", required=True, help="Whose rows.")
@json_option
def redrive_rows(name: str, as_json: bool) -> None:
    """Try the refused rows again and store those that pass.

    They are held against today's expectations: use it after those were mended. Rows whose values were wrong come
    back by mending the source and ingesting again.
    """
    settings = present_settings()
    click.echo("trying the refused rows again, which takes some seconds", err=True)
    report = redrive(settings, load_use_case(settings, name))
    if as_json:
        print_json(report)
    else:
        click.echo(f"{report.tried:,} rows tried, {report.stored:,} stored, {report.refused:,} refused again")
