"""`mage-platform models report`: the report of one version, as a page or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mage_platform.command_line.model_details import version_or_champion
from mage_platform.command_line.output import json_option
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.registry import report_document, report_page


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.option("--version", type=int, help="A version; left out, the champion.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write in place of the output.")
@json_option
def report(use_case: str, region: str, version: int | None, output: Path | None, as_json: bool) -> None:
    """The report of a version as a page of its own.

    HTML that opens from a file; --json for the same as data.

    It is written when a run decides on the version, and answered by the prediction API as well:
    /v1/models/USE_CASE/REGION/report.

    \b
    mage-platform models report flight_delays JFK --output jfk.html
    """
    with connect(present_settings()) as connection:
        number = version_or_champion(connection, use_case, region, version).version
        read = report_document if as_json else report_page
        text = read(connection, use_case, region, number)
    if as_json:
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"{use_case}/{region} version {number}: {output}", err=True)
