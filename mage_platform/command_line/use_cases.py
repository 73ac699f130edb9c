"""`mage-platform use-case`: the declared prediction problems."""

from __future__ import annotations

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.use_cases import load_use_case, use_case_function, use_case_names


@click.group("use-case")
def use_case() -> None:
    """Declared use cases."""


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
@json_option
def check(name: str, as_json: bool) -> None:
    """Check use_cases/NAME/use_case.yaml and its functions.

    Every mistake is named with its line.
    """
    settings = present_settings()
    declared = load_use_case(settings, name)
    for reference in (declared.source.function, declared.features.function):
        if reference is not None:
            use_case_function(settings, declared, reference)
    if as_json:
        print_json(declared)
    else:
        click.echo(
            f"{name} is well declared: {len(declared.features.columns)} features of entity "
            f"({', '.join(declared.entity.key)}), target {declared.target.column}, one model for each "
            f"{declared.region}"
        )
