"""What the values of each feature look like in a window of event time: computed in the database, and kept there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import AwareDatetime, Field

from mage_platform.contracts import FeatureColumn, UseCase
from mage_platform.contracts.strict import Contract
from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, FeaturesInvalid, NotFound

QUERIES = Queries(Path(__file__).with_name("statistics.sql"))
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
LEVELS = 10

_PROJECTIONS = {
    "number": sql.SQL("(v.feature_vector ->> {name})::float8"),
    "level": sql.SQL("v.feature_vector ->> {name}"),
}


class Level(Contract):
    """One level of a category, or one truth value, with how often it occurs."""

    level: str
    count: int


class NumberStatistics(Contract):
    """Of a number or an integer. Everything but the counts is absent where no vector has a value."""

    kind: Literal["number"] = "number"
    count: int
    """Vectors in the window, with or without a value."""
    missing: int
    """Vectors without a value."""
    distinct: int
    """Different values."""
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    quantiles: dict[str, float] = {}
    """By their share ("0.05"), interpolated linearly between the two nearest values."""
    histogram_edges: list[float] = []
    """21 edges of 20 bins of equal width, from minimum to maximum; a constant feature has one bin of no width."""
    histogram: list[int] = []
    """Values in each bin: from its lower edge up to, without, its upper; the last with the maximum."""


class LevelStatistics(Contract):
    """Of a category or a boolean (whose levels are `true` and `false`)."""

    kind: Literal["level"] = "level"
    count: int
    """Vectors in the window, with or without a value."""
    missing: int
    """Vectors without a value."""
    distinct: int
    """Different levels."""
    most_frequent: list[Level] = []
    """At most ten, most frequent first; among equals in the order of their bytes."""


class FeatureStatistics(Contract):
    """The statistics of one feature in one window of one region, or of all."""

    use_case: str
    region: str | None
    """None: of all regions together."""
    feature: str
    window_start: AwareDatetime | None
    """Event times from here on; None: from the first."""
    window_end: AwareDatetime | None
    """Event times before this moment; None: to the last."""
    statistics: Annotated[NumberStatistics | LevelStatistics, Field(discriminator="kind")]
    computed_at: AwareDatetime


def compute_statistics(
    connection: Connection,
    use_case: UseCase,
    *,
    region: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    features: Collection[str] = (),
) -> list[FeatureStatistics]:
    """Describe the stored vectors of a window, and keep the result for `stored_statistics`.

    Args:
        connection: An open connection.
        use_case: Whose vectors, by which declaration.
        region: Only of this region; None takes all together.
        start: Event times from here on, with time zone; None from the first.
        end: Event times before this moment, with time zone; None to the last.
        features: Only these; empty takes all that are declared.

    Returns:
        One for each feature, in declared order.

    Raises:
        ContractViolated: A feature is not declared, a bound has no time zone, or the window is empty by its bounds.
        FeaturesInvalid: Stored vectors hold text where the declaration says number.
    """
    where = _where(use_case.name, region, start, end)
    wanted = _wanted(use_case, features)
    described = _described(connection, where, wanted)
    moment = datetime.now(UTC)
    window: dict[str, Any] = {"region": region, "window_start": start, "window_end": end}
    computed = [
        FeatureStatistics(
            use_case=use_case.name, feature=name, statistics=described[name], computed_at=moment, **window
        )
        for name in wanted
    ]
    _store(connection, where, computed)
    return computed


def stored_statistics(
    connection: Connection,
    use_case: UseCase,
    *,
    region: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    features: Collection[str] = (),
) -> list[FeatureStatistics]:
    """What `compute_statistics` kept for exactly this region and window, in declared order.

    Raises:
        ContractViolated: As for `compute_statistics`.
        NotFound: Nothing was computed for this region and window yet.
    """
    where = _where(use_case.name, region, start, end)
    wanted = _wanted(use_case, features)
    rows = connection.execute(QUERIES.stored, {**where, "features": list(wanted)}).fetchall()
    if not rows:
        raise NotFound(
            f"no statistics of {use_case.name} are stored for region {region or 'all'} and this window: "
            "compute them, by `mage-platform features describe` without --stored",
            field="use_case",
        )
    found = {row[0]: row for row in rows}
    return [
        FeatureStatistics(
            use_case=use_case.name,
            region=region,
            feature=name,
            window_start=start,
            window_end=end,
            statistics=found[name][1],
            computed_at=found[name][2],
        )
        for name in wanted
        if name in found
    ]


def _where(use_case: str, region: str | None, start: datetime | None, end: datetime | None) -> dict[str, Any]:
    """The window as parameters of the queries; open bounds are infinite."""
    for name, moment in (("window_start", start), ("window_end", end)):
        if moment is not None and moment.tzinfo is None:
            raise ContractViolated(
                f"{name} {moment.isoformat()} has no time zone; write {moment.isoformat()}Z for UTC", field=name
            )
    if start is not None and end is not None and start >= end:
        raise ContractViolated(
            f"the window from {start.isoformat()} to {end.isoformat()} holds no moment: its end must be after its "
            "start",
            field="window_end",
        )
    return {
        "use_case": use_case,
        "region": region,
        "start": start if start is not None else "-infinity",
        "end": end if end is not None else "infinity",
    }


def _wanted(use_case: UseCase, features: Collection[str]) -> dict[str, FeatureColumn]:
    declared = use_case.features.columns
    for name in features:
        if name not in declared:
            raise ContractViolated(
                f"use case {use_case.name} declares no feature {name!r}; it declares {', '.join(declared)}",
                field=f"features.{name}",
            )
    return {name: column for name, column in declared.items() if not features or name in features}


def _described(
    connection: Connection, where: dict[str, Any], wanted: Mapping[str, FeatureColumn]
) -> dict[str, NumberStatistics | LevelStatistics]:
    numbers = [name for name, column in wanted.items() if column.type in ("integer", "number")]
    levels = [name for name in wanted if name not in numbers]
    described: dict[str, NumberStatistics | LevelStatistics] = {}
    if numbers:
        described |= _computed_numbers(connection, where, numbers)
    if levels:
        described |= _computed_levels(connection, where, levels)
    return described


def _computed_numbers(
    connection: Connection, where: dict[str, Any], names: Sequence[str]
) -> dict[str, NumberStatistics]:
    parts = {"shares": sql.Literal(list(QUANTILES)), "bins": sql.Literal(BINS)}
    found = dict.fromkeys(names, NumberStatistics(count=0, missing=0, distinct=0))
    for row in _rows(connection, QUERIES.numbers, "number", where, names, parts):
        found[names[row[0] - 1]] = NumberStatistics(
            count=row[1],
            missing=row[2],
            distinct=row[3],
            minimum=row[4],
            maximum=row[5],
            mean=row[6],
            quantiles={str(share): row[7][str(share)] for share in QUANTILES if row[7]},
            histogram_edges=row[8],
            histogram=row[9],
        )
    return found


def _computed_levels(connection: Connection, where: dict[str, Any], names: Sequence[str]) -> dict[str, LevelStatistics]:
    found = dict.fromkeys(names, LevelStatistics(count=0, missing=0, distinct=0))
    for row in _rows(connection, QUERIES.levels, "level", where, names, {"most": sql.Literal(LEVELS)}):
        found[names[row[0] - 1]] = LevelStatistics(count=row[1], missing=row[2], distinct=row[3], most_frequent=row[4])
    return found


def _rows(
    connection: Connection,
    query: LiteralString,
    kind: Literal["number", "level"],
    where: dict[str, Any],
    names: Sequence[str],
    parts: Mapping[str, sql.Composable],
) -> list[Any]:
    """What a query gives for these features. All values are literals: a feature's name may hold a percent sign."""
    values = sql.SQL(", ").join(_PROJECTIONS[kind].format(name=sql.Literal(name)) for name in names)
    literals = {name: sql.Literal(value) for name, value in where.items()}
    try:
        return connection.execute(sql.SQL(query).format(values=values, **literals, **parts)).fetchall()
    except (psycopg.errors.InvalidTextRepresentation, psycopg.errors.NumericValueOutOfRange) as error:
        raise FeaturesInvalid(
            f"the stored vectors of {where['use_case']} do not keep its declaration: {error.diag.message_primary}. "
            f"One of {', '.join(names)} is declared as a number and stored as something else: ingest the window anew",
            field="features.columns",
        ) from error


def _store(connection: Connection, where: dict[str, Any], computed: Sequence[FeatureStatistics]) -> None:
    rows = [
        {
            **where,
            "feature": each.feature,
            "statistics": Jsonb(each.statistics.model_dump(mode="json")),
            "computed_at": each.computed_at,
        }
        for each in computed
    ]
    with connection.cursor() as cursor:
        cursor.executemany(QUERIES.store, rows)
