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
    where = window_parameters(use_case.name, region, start, end)
    described = _described(connection, where, _wanted(use_case, features), by_region=False)
    computed = _as_contracts(use_case, (start, end), {region: described[None]})
    _store(connection, computed)
    return computed


def compute_by_region(
    connection: Connection, use_case: UseCase, *, start: datetime | None = None, end: datetime | None = None
) -> list[FeatureStatistics]:
    """Describe all features of a window, of all regions together and of each, reading the vectors once.

    Returns:
        Those of all regions together first (`region` is None), then each region's in the order of their names;
        within these in declared order. Kept for `stored_statistics`.

    Raises:
        ContractViolated: A bound has no time zone, or the window is empty by its bounds.
        FeaturesInvalid: Stored vectors hold text where the declaration says number.
    """
    where = window_parameters(use_case.name, None, start, end)
    described = _described(connection, where, _wanted(use_case, ()), by_region=True)
    computed = _as_contracts(use_case, (start, end), described)
    _store(connection, computed)
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
    where = window_parameters(use_case.name, region, start, end)
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


def window_parameters(
    use_case: str, region: str | None, start: datetime | None, end: datetime | None
) -> dict[str, Any]:
    """A window as parameters of queries, open bounds as -infinity and infinity.

    Raises:
        ContractViolated: A bound has no time zone, or the window is empty by its bounds.
    """
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


Described = dict[str | None, dict[str, NumberStatistics | LevelStatistics]]
"""Statistics by region (None: all of them together) and feature."""


def _described(
    connection: Connection, where: dict[str, Any], wanted: Mapping[str, FeatureColumn], *, by_region: bool
) -> Described:
    numbers = [name for name, column in wanted.items() if column.type in ("integer", "number")]
    levels = [name for name in wanted if name not in numbers]
    nothing = {name: NumberStatistics(count=0, missing=0, distinct=0) for name in numbers} | {
        name: LevelStatistics(count=0, missing=0, distinct=0) for name in levels
    }
    found: Described = {None: {name: nothing[name] for name in wanted}}
    connection.execute(QUERIES.make_room)
    parts: dict[str, sql.Composable] = {"by_region": sql.Literal(by_region)}
    if numbers:
        shares = {
            "shares": sql.Literal(list(QUANTILES)),
            "bins": sql.Literal(BINS),
            "features": sql.Literal(len(numbers)),
        }
        for region, place, *row in _rows(connection, QUERIES.numbers, "number", where, numbers, parts | shares):
            found.setdefault(region, {})[numbers[place - 1]] = _number(row)
    if levels:
        most = {"most": sql.Literal(LEVELS)}
        for region, place, *row in _rows(connection, QUERIES.levels, "level", where, levels, parts | most):
            found.setdefault(region, {})[levels[place - 1]] = LevelStatistics(
                count=row[0], missing=row[1], distinct=row[2], most_frequent=row[3]
            )
    return found


def _number(row: Sequence[Any]) -> NumberStatistics:
    return NumberStatistics(
        count=row[0],
        missing=row[1],
        distinct=row[2],
        minimum=row[3],
        maximum=row[4],
        mean=row[5],
        quantiles={str(share): row[6][str(share)] for share in QUANTILES if row[6]},
        histogram_edges=row[7],
        histogram=row[8],
    )


def _as_contracts(
    use_case: UseCase, window: tuple[datetime | None, datetime | None], described: Described
) -> list[FeatureStatistics]:
    moment = datetime.now(UTC)
    return [
        FeatureStatistics(
            use_case=use_case.name,
            region=region,
            feature=feature,
            window_start=window[0],
            window_end=window[1],
            statistics=described[region][feature],
            computed_at=moment,
        )
        for region in sorted(described, key=lambda region: region or "")
        for feature in use_case.features.columns
        if feature in described[region]
    ]


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


def _store(connection: Connection, computed: Sequence[FeatureStatistics]) -> None:
    rows = [
        {
            **window_parameters(each.use_case, each.region, each.window_start, each.window_end),
            "feature": each.feature,
            "statistics": Jsonb(each.statistics.model_dump(mode="json")),
            "computed_at": each.computed_at,
        }
        for each in computed
    ]
    with connection.cursor() as cursor:
        cursor.executemany(QUERIES.store, rows)
