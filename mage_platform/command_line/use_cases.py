"""`mage-platform use-case`: the declared prediction problems."""

from __future__ import annotations

import click

from mage_platform.command_line.new_use_case import new
from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.trial import check_use_case
from mage_platform.use_cases import load_use_case, use_case_names


@click.group("use-case")
def use_case() -> None:
    """Declared use cases: propose, check, list."""


use_case.add_command(new)


@use_case.command("list")
@json_option
def list_use_cases(as_json: bool) -> None:
    """Every use case below use_cases/."""
    settings = present_settings()
    found = [load_use_case(settings, name) for name in use_case_names(settings)]
    if as_json:
        print_json([{"name": each.name, "title": each.title, "target": each.target.column} for each in found])
        return
    lines = [[each.name, each.title, each.target.column, len(each.features.columns)] for each in found]
    print_table(["name", "title", "target", "features"], lines, empty="No use case is declared yet.")


@use_case.command()
@click.argument("name")
@click.option("--no-source", is_flag=True, help="Leave the source alone: check only what is written.")
@json_option
def check(name: str, no_source: bool, as_json: bool) -> None:
    """Check use_cases/NAME, its functions and its source.

    Every mistake with its line, the value, and what to write instead. Looks at the YAML, the contract, the functions
    and files it names and its expectations; then reads a few rows of the source and builds their vectors. Nothing is
    stored.
    """
    declared, tried = check_use_case(present_settings(), name, with_source=not no_source)
    if as_json:
        print_json(declared)
        return
    models = f"one model for each {declared.region}" if declared.region else "one model"
    click.echo(
        f"{name} is well declared: {len(declared.features.columns)} features of entity "
        f"({', '.join(declared.entity.key)}), target {declared.target.column} ({declared.target.kind}), {models}"
    )
    click.echo("the source was not tried" if tried is None else f"{tried:,} rows of the source were tried")
