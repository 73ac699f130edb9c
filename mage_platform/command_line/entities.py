"""`mage-platform features`: the stored vectors of an entity, what resembles it, and what the features look like."""

from __future__ import annotations

import uuid
from datetime import datetime

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.errors import ContractViolated
from mage_platform.features import embeddings, statistics
from mage_platform.features.history import newest_vector
from mage_platform.features.windows import bars
from mage_platform.use_cases import load_use_case


@click.group()
def features() -> None:
    """The feature store."""


@features.command()
@click.argument("entity_id")
@click.option("--as-of", help="The newest vector not after this moment, such as 2013-11-05T12:00:00Z.")
@json_option
def get(entity_id: str, as_of: str | None, as_json: bool) -> None:
    """The newest vector of ENTITY_ID, and its label if known."""
    with connect(present_settings()) as connection:
        stored = newest_vector(connection, _uuid(entity_id), as_of=_moment(as_of, "--as-of"))
    if as_json:
        print_json(stored)
        return
    click.echo(f"{stored.use_case}/{stored.region}  {stored.vector.entity_id}  {stored.vector.event_time.isoformat()}")
    if stored.label is not None:
        click.echo(f"label {stored.label}, known since {stored.known_at}")
    values = [[name, value] for name, value in stored.vector.features.items()]
    print_table(["feature", "value"], values, empty="no features")


@features.command()
@click.argument("entity_id")
@click.option("--k", default=10, show_default=True, help="How many.")
@json_option
def similar(entity_id: str, k: int, as_json: bool) -> None:
    """The entities nearest to ENTITY_ID by embedding.

    Nearest is by cosine distance of the newest embeddings. Needs pgvector.
    """
    with connect(present_settings()) as connection:
        found = embeddings.similar(connection, _uuid(entity_id), k=k)
    if as_json:
        print_json(found)
        return
    rows = [[each.entity_id, each.region, each.event_time.isoformat(), f"{each.distance:.6f}"] for each in found]
    print_table(["entity", "region", "event time", "distance"], rows, empty="No other entity has an embedding yet.")


@features.command()
@click.argument("use_case")
@click.option("--region", help="Only this region; left out, all together.")
@click.option("--window-start", help="Event times from here on, such as 2013-11-01T00:00:00Z.")
@click.option("--window-end", help="Event times before this moment.")
@click.option("--feature", "names", multiple=True, help="Only this feature; may be repeated.")
@click.option("--stored", is_flag=True, help="Show what was computed last for this region and window.")
@json_option
def describe(
    use_case: str,
    region: str | None,
    window_start: str | None,
    window_end: str | None,
    names: tuple[str, ...],
    stored: bool,
    as_json: bool,
) -> None:
    """What the values of each feature of USE_CASE look like.

    Missing, range, quantiles, most frequent levels. Computed in the database over the stored vectors, and kept
    there for --stored.
    """
    settings = present_settings()
    declared = load_use_case(settings, use_case)
    start, end = _moment(window_start, "--window-start"), _moment(window_end, "--window-end")
    described = statistics.stored_statistics if stored else statistics.compute_statistics
    with connect(settings) as connection:
        found = described(connection, declared, region=region, start=start, end=end, features=names)
    if as_json:
        print_json(found)
        return
    place = f"{use_case}/{region}" if region else f"{use_case}, all regions"
    times = f"event times from {window_start or 'the first'} until {window_end or 'the last'}"
    click.echo(f"{place}, {times}, {found[0].statistics.count:,} vectors\n")
    _print_numbers([each for each in found if each.statistics.kind == "number"])
    _print_levels([each for each in found if each.statistics.kind == "level"])


def _print_numbers(described: list[statistics.FeatureStatistics]) -> None:
    if not described:
        return
    shares = [f"{share * 100:g} %" for share in statistics.QUANTILES]
    rows = []
    for each in described:
        numbers = each.statistics
        assert isinstance(numbers, statistics.NumberStatistics)
        places = [numbers.minimum, *(numbers.quantiles.get(str(share)) for share in statistics.QUANTILES)]
        values = ["" if value is None else f"{value:.6g}" for value in (*places, numbers.maximum, numbers.mean)]
        counts = [_missing(numbers), f"{numbers.distinct:,}"]
        rows.append([each.feature, *counts, *values, bars(numbers.histogram)])
    columns = ["number", "missing", "distinct", "minimum", *shares, "maximum", "mean", "histogram"]
    print_table(columns, rows, empty="")
    click.echo()


def _print_levels(described: list[statistics.FeatureStatistics]) -> None:
    if not described:
        return
    rows = []
    for each in described:
        levels = each.statistics
        assert isinstance(levels, statistics.LevelStatistics)
        present = levels.count - levels.missing
        frequent = ", ".join(f"{one.level} {one.count / present:.1%}" for one in levels.most_frequent)
        rows.append([each.feature, _missing(levels), f"{levels.distinct:,}", frequent])
    print_table(["category or boolean", "missing", "distinct", "most frequent"], rows, empty="")


def _missing(described: statistics.NumberStatistics | statistics.LevelStatistics) -> str:
    return f"{described.missing / described.count:.1%}" if described.missing else "0"


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ContractViolated(f"ENTITY_ID {text!r} is not a UUID", field="entity_id") from None


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    field = option.removeprefix("--").replace("-", "_")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ContractViolated(f"{option} {text!r} is not a time; write 2013-11-05T12:00:00Z", field=field) from None
    if moment.tzinfo is None:
        raise ContractViolated(f"{option} {text!r} has no time zone; write {text}Z for UTC", field=field)
    return moment
