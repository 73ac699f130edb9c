"""`mage-platform predictions`: what was predicted."""

from __future__ import annotations

from uuid import UUID

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.predictions import LoggedPrediction, newest_predictions


@click.group()
def predictions() -> None:
    """What was predicted, and from which vectors."""


@predictions.command("list")
@click.option("--use-case", help="Only this use case.")
@click.option("--region", help="Only requests for this region.")
@click.option("--entity", "entity_id", type=click.UUID, help="Only this entity.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most rows.")
@json_option
def list_predictions(
    use_case: str | None, region: str | None, entity_id: UUID | None, limit: int, as_json: bool
) -> None:
    """The newest logged predictions; with --json also their vectors."""
    with connect(present_settings()) as connection:
        found = newest_predictions(connection, use_case=use_case, region=region, entity_id=entity_id, limit=limit)
    if as_json:
        print_json(found)
        return
    columns = ["asked at", "use case", "region", "version", "entity", "prediction", "probability", "request"]
    print_table(columns, [_row(each) for each in found], empty="No prediction is logged.")


def _row(each: LoggedPrediction) -> list[object]:
    version = f"{each.version}" if each.model_region == each.region else f"{each.model_region} {each.version}"
    if each.variant != "champion":
        version += f" {each.variant}"
    share = (each.probabilities or {}).get(str(each.prediction))
    return [
        each.asked_at.isoformat(timespec="milliseconds"),
        each.use_case,
        each.region,
        version,
        each.entity_id,
        each.prediction,
        None if share is None else f"{share:.4f}",
        each.request_id,
    ]
