"""`mage-platform use-case new`: from a table to a use case that runs."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from mage_platform.command_line.output import json_option, print_json
from mage_platform.command_line.questions import Questions
from mage_platform.command_line.roles_of_columns import Given, settle_roles
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import ContractViolated
from mage_platform.proposal import Proposal, profiles_of, propose, readable
from mage_platform.proposal.creating import LOOKED_AT, QUERY_FILE, Created, create, declared_file, require_absent
from mage_platform.settings import Settings
from mage_platform.sources import read_file
from mage_platform.sources.files import READABLE
from mage_platform.sources.queries import read_text

_QUERY = re.compile(r"\s*(?:--[^\n]*\n\s*)*(?:select|with|table|values)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """Where the table comes from, as it was given."""

    file: Path | None = None
    query: str | None = None
    connection: str | None = None

    @property
    def declared(self) -> dict[str, str]:
        """As `source` of the declaration."""
        if self.file is not None:
            return {"file": declared_file(self.file)}
        return {"query": QUERY_FILE, **({"connection": self.connection} if self.connection else {})}


@click.command("new")
@click.argument("name")
@click.option("--from", "origin", required=True, metavar="FILE|QUERY", help="Parquet or CSV, .sql, or a SELECT.")
@click.option("--connection", help="Of a query: the secret platform_source_<CONNECTION> says which PostgreSQL.")
@click.option("--target", help="Column that is predicted.")
@click.option("--kind", type=click.Choice(["binary", "multiclass", "regression"]), help="Of the target.")
@click.option("--positive", help="Of two classes: the value that counts as 1.")
@click.option("--event-time", help="Column with the moment at which the features are true.")
@click.option("--time-zone", help="Zone that times without one are meant in, such as Europe/Zurich.")
@click.option("--region", help="Column that splits the models; `none`: one model for all.")
@click.option("--entity", help="Columns of the natural key, separated by commas.")
@click.option("--known-at", help="Column with the moment at which the target became known; `none`: the event time.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Never a feature; may be repeated.")
@click.option("--yes", is_flag=True, help="Take every proposal without asking.")
@json_option
def new(name: str, origin: str, connection: str | None, yes: bool, as_json: bool, **given: Any) -> None:
    """Propose a use case for a table, try it, and write use_cases/NAME.

    Looks at the first million rows at most. What it cannot know it asks on a terminal, with its proposal as default;
    in a script the options say it. A file of up to 100 MB is copied into the folder, a larger one is read where it
    lies. A query runs on the platform's database, or where --connection says. Nothing existing is overwritten, and a
    running stack sees the use case at once.

    \b
    Examples:
      mage-platform use-case new rides --from rides.csv --target late --time-zone Europe/Zurich
      mage-platform use-case new sales --from "SELECT * FROM shop.sales" --connection shop --target amount --yes
    """
    settings = present_settings()
    require_absent(settings, _name(name))
    source = _origin(origin, connection)
    table = readable(_read(settings, source))
    profiles = profiles_of(table)
    _say(f"{len(table):,} rows of {len(profiles)} columns read")
    questions = Questions(terminal=sys.stdin.isatty() and not as_json, yes=yes)
    table, roles = settle_roles(table, profiles, questions, Given(**given))
    _say("holding the proposal against the table ...")
    complete = len(table) < LOOKED_AT
    proposal = propose(name, table, profiles, roles, source.declared, complete=complete)
    if not proposal.features:
        reasons = "; ".join(f"{column}: {reason}" for column, reason in proposal.left_out.items())
        raise ContractViolated(f"no column is left for a feature ({reasons})", field="features")
    _say("building its vectors, to see that it fits ...")
    created = create(settings, proposal, file=source.file, query=source.query)
    steps = _next_steps(created)
    if as_json:
        print_json(_as_json(proposal, created, steps))
    else:
        _show(proposal, created, source, steps)


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        near = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
        raise ContractViolated(
            f"NAME {name!r}: lower case letters, digits and underscores, a letter first, such as {near or 'rides'}",
            field="name",
        )
    return name


def _origin(text: str, connection: str | None) -> Origin:
    path = Path(text)
    if text.endswith(".sql"):
        if not path.is_file():
            raise ContractViolated(f"--from {text}: there is no such file", field="from")
        return Origin(query=path.read_text(encoding="utf-8"), connection=connection)
    if text.endswith(READABLE):
        if connection is not None:
            raise ContractViolated("--connection is for a query, and --from names a file", field="connection")
        if not path.is_file():
            raise ContractViolated(f"--from {text}: there is no such file", field="from")
        return Origin(file=path)
    if not _QUERY.match(text):
        raise ContractViolated(
            f"--from {text!r} is neither a file ({', '.join(READABLE)}, .sql) nor a query that begins with SELECT",
            field="from",
        )
    return Origin(query=text, connection=connection)


def _read(settings: Settings, source: Origin) -> pd.DataFrame:
    if source.file is not None:
        return read_file(source.file, limit=LOOKED_AT)
    return read_text(settings, str(source.query), "--from", source.connection, limit=LOOKED_AT)


def _next_steps(created: Created) -> list[str]:
    name = created.use_case.name
    return [
        f"mage-platform run ingest_features --use-case {name}",
        f"mage-platform run train_regional_models --use-case {name}",
        f"mage-platform predict {name} {shlex.quote(created.region)} {created.entity_id}",
    ]


def _show(proposal: Proposal, created: Created, source: Origin, steps: list[str]) -> None:
    roles, declared = proposal.roles, created.use_case
    if not proposal.complete:
        click.echo(f"only the first {proposal.rows:,} rows were looked at: check the training window")
    models = f"one model for each {roles.region}" if roles.region else "one model"
    click.echo(
        f"{declared.name}: {roles.kind} target {roles.target}, entity ({', '.join(roles.entity)}), event time "
        f"{roles.event_time}, {models}, {len(proposal.features)} features"
    )
    for column, reason in proposal.left_out.items():
        click.echo(f"  left out {column}: {reason}")
    for warning in proposal.warnings:
        click.echo(f"  mind: {warning}")
    click.echo(f"tried on the table: {created.vectors:,} vectors, {created.refused:,} rows refused")
    if source.file is not None:
        copied = proposal.source["file"] == source.file.name
        click.echo(f"{source.file} was copied into the folder" if copied else f"{source.file} is read where it lies")
    click.echo(f"\nwritten: {created.folder / 'use_case.yaml'}\nlook it over, then:")
    for step in steps:
        click.echo(f"  {step}")


def _as_json(proposal: Proposal, created: Created, steps: list[str]) -> dict[str, Any]:
    return {
        "use_case": created.use_case.name,
        "folder": str(created.folder),
        "declaration": created.use_case,
        "left_out": proposal.left_out,
        "rows": proposal.rows,
        "complete": proposal.complete,
        "vectors": created.vectors,
        "refused": created.refused,
        "warnings": proposal.warnings,
        "next": steps,
    }


def _say(text: str) -> None:
    click.echo(text, err=True)
