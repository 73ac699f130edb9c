"""The features of a flight against the same features counted one by one, in plain Python.

The rule that is tested: an outcome counts for a row when its flight had arrived strictly before the row's
prediction time; a window of six hours holds what arrived at [prediction time - 6 h, prediction time).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from use_cases.flight_delays.features import build_features

Row = dict[str, Any]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOON = datetime(2013, 5, 7, 12, tzinfo=UTC)


def same(*columns: str) -> Callable[[Row, Row], bool]:
    """Whether two rows agree in columns, none of them missing."""
    return lambda one, other: all(one[c] is not None and one[c] == other[c] for c in columns)


def delay_minutes(row: Row) -> float:
    return min(max((row["arrived_at"] - row["scheduled_arrival"]) / MINUTE, -60), 240)


def known(rows: list[Row], row: Row, alike: Callable[[Row, Row], bool], window: timedelta) -> list[Row]:
    now = row["prediction_time"]
    return [
        other
        for other in rows
        if alike(other, row) and other["late"] is not None and now - window <= other["arrived_at"] < now
    ]


def mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def counted_features(rows: list[Row], row: Row) -> dict[str, float | None]:
    """Every feature that looks at other rows, counted one by one."""
    now, departure = row["prediction_time"], row["scheduled_departure"]
    origin, dest, aircraft, everything = same("origin"), same("dest"), same("tailnum"), same()
    carrier, route = same("origin", "carrier"), same("origin", "dest")
    service, number = same("origin", "dest", "carrier"), same("origin", "dest", "carrier", "flight")

    def late_rate(alike: Callable[[Row, Row], bool], window: timedelta) -> float | None:
        return mean([other["late"] for other in known(rows, row, alike, window)])

    def mean_delay(alike: Callable[[Row, Row], bool], window: timedelta) -> float | None:
        return mean([delay_minutes(other) for other in known(rows, row, alike, window)])

    def scheduled(window: timedelta) -> int:
        return sum(origin(o, row) and departure - window < o["scheduled_departure"] <= departure for o in rows)

    def not_arrived(alike: Callable[[Row, Row], bool], due_within: timedelta) -> int:
        return sum(
            alike(o, row)
            and now - 6 * HOUR <= o["scheduled_arrival"] < now + due_within
            and not (o["late"] is not None and o["arrived_at"] < now)
            for o in rows
        )

    arrived = known(rows, row, aircraft, 2 * DAY)
    last = max(arrived, key=lambda o: (o["arrived_at"], delay_minutes(o)), default=None)
    left = [o for o in rows if aircraft(o, row) and departure - 3 * DAY <= o["scheduled_departure"] < departure]
    previous = max(left, key=lambda o: (o["scheduled_departure"], o["scheduled_arrival"]), default=None)
    return {
        "origin_departures_scheduled_1h": scheduled(HOUR),
        "origin_departures_scheduled_3h": scheduled(3 * HOUR),
        "origin_late_rate_6h": late_rate(origin, 6 * HOUR),
        "origin_flights_known_6h": len(known(rows, row, origin, 6 * HOUR)),
        "origin_mean_delay_minutes_1h": mean_delay(origin, HOUR),
        "dest_mean_delay_minutes_3h": mean_delay(dest, 3 * HOUR),
        "dest_mean_delay_minutes_1d": mean_delay(dest, DAY),
        "route_late_rate_7d": late_rate(route, 7 * DAY),
        "carrier_late_rate_1d": late_rate(carrier, DAY),
        "carrier_mean_delay_minutes_3h": mean_delay(carrier, 3 * HOUR),
        "service_mean_delay_minutes_1d": mean_delay(service, DAY),
        "flight_number_mean_delay_minutes_8d": mean_delay(number, 8 * DAY),
        "aircraft_late_rate_2d": late_rate(aircraft, 2 * DAY),
        "origin_flights_overdue": not_arrived(origin, 0 * HOUR),
        "dest_flights_overdue": not_arrived(dest, 0 * HOUR),
        "carrier_flights_overdue": not_arrived(carrier, 0 * HOUR),
        "all_flights_expected_1h": not_arrived(everything, HOUR),
        "aircraft_last_delay_minutes": None if last is None else delay_minutes(last),
        "aircraft_minutes_since_arrival": None if last is None else (departure - last["arrived_at"]) / MINUTE,
        "aircraft_minutes_since_due": (
            None if previous is None else (departure - previous["scheduled_arrival"]) / MINUTE
        ),
    }


def plain(rows: pd.DataFrame) -> list[Row]:
    """The rows as dictionaries, every missing value None."""
    return rows.astype(object).where(rows.notna(), None).to_dict(orient="records")  # type: ignore[return-value]


def assert_as_counted(rows: pd.DataFrame, positions: list[int]) -> None:
    features, records = build_features(rows), plain(rows)
    for position in positions:
        expected = counted_features(records, records[position])
        found = features.iloc[position][list(expected)]
        for name, value in expected.items():
            if value is None:
                assert pd.isna(found[name]), name
            else:
                assert found[name] == pytest.approx(value, abs=1.01e-4), name


def flight(departure: datetime, arrived: datetime | None = None, **other: Any) -> Row:
    """A flight of two hours from Kennedy to Boston; without an arrival, cancelled."""
    due = departure + 2 * HOUR
    row: Row = {
        "origin": "JFK",
        "dest": "BOS",
        "carrier": "B6",
        "flight": 1,
        "tailnum": "N1",
        "distance": 187,
        "scheduled_departure": departure,
        "scheduled_arrival": due,
        "prediction_time": departure - 2 * HOUR,
        "late": None if arrived is None else int(arrived - due > 15 * MINUTE),
        "arrived_at": arrived,
        **dict.fromkeys(("temperature_fahrenheit", "dew_point_fahrenheit", "wind_direction_degrees"), 60.0),
        **dict.fromkeys(("wind_speed_mph", "precipitation_inches", "pressure_millibars"), 0.0),
        **dict.fromkeys(("visibility_miles", "plane_year", "plane_seats"), 10.0),
    }
    return row | other


def table(flights: list[Row]) -> pd.DataFrame:
    rows = pd.DataFrame(flights)
    for column in ("scheduled_departure", "scheduled_arrival", "prediction_time", "arrived_at"):
        rows[column] = pd.to_datetime(rows[column], utc=True)
    return rows.astype({"late": "Int8"})


@st.composite
def crowded_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Few names and round moments, so that groups are full and moments meet exactly."""
    flights = []
    for _ in range(draw(st.integers(1, 14))):
        departure = NOON + draw(st.integers(0, 40)) * 30 * MINUTE
        arrived = draw(st.none() | st.integers(1, 20).map(lambda n: n * 30 * MINUTE))
        flights.append(
            flight(
                departure,
                None if arrived is None else departure + arrived,
                origin=draw(st.sampled_from(["JFK", "LGA"])),
                dest=draw(st.sampled_from(["BOS", "SFO"])),
                carrier=draw(st.sampled_from(["B6", "UA"])),
                tailnum=draw(st.sampled_from(["N1", "N2", None])),
            )
        )
    return table(flights)


@given(crowded_tables())
@settings(max_examples=60, deadline=None)
def test_any_small_table_gives_the_features_that_counting_gives(rows: pd.DataFrame) -> None:
    assert_as_counted(rows, list(range(len(rows))))


@pytest.mark.parametrize("first_day", ["2013-02-08", "2013-07-09"])
def test_two_busy_days_of_real_flights_give_the_features_that_counting_gives(
    flights_of_2013: pd.DataFrame, first_day: str
) -> None:
    start = pd.Timestamp(first_day, tz="UTC")
    moment = flights_of_2013["prediction_time"]
    rows = flights_of_2013[(moment >= start) & (moment < start + pd.Timedelta(days=2))]
    positions = np.random.default_rng(0).choice(len(rows), 30, replace=False).tolist()
    assert_as_counted(rows, positions)


def test_three_weeks_of_every_tenth_real_flight_give_the_features_that_counting_gives(
    flights_of_2013: pd.DataFrame,
) -> None:
    start = pd.Timestamp("2013-03-01", tz="UTC")
    moment = flights_of_2013["prediction_time"]
    rows = flights_of_2013[(moment >= start) & (moment < start + pd.Timedelta(days=21))].iloc[::10]
    positions = np.random.default_rng(1).choice(len(rows), 40, replace=False).tolist()
    assert_as_counted(rows, positions)


@pytest.mark.parametrize(("minutes_before_the_prediction", "counted"), [(-1, 0), (0, 0), (1, 1), (360, 1), (361, 0)])
def test_an_arrival_counts_from_the_minute_after_it_and_for_six_hours(
    minutes_before_the_prediction: int, counted: int
) -> None:
    arrived = NOON - minutes_before_the_prediction * MINUTE
    rows = table([flight(NOON - 9 * HOUR, arrived), flight(NOON + 2 * HOUR)])
    assert build_features(rows)["origin_flights_known_6h"].iloc[1] == counted


@pytest.mark.parametrize(("minutes_after_due", "arrived_after", "overdue"), [
    (0, None, 0), (1, None, 1), (360, None, 1), (361, None, 0),
    (30, 29, 0), (30, 30, 1), (30, 31, 1), (30, -10, 0),
])  # fmt: skip
def test_a_flight_is_overdue_from_its_due_time_until_it_is_known_to_have_arrived(
    minutes_after_due: int, arrived_after: int | None, overdue: int
) -> None:
    due = NOON - minutes_after_due * MINUTE
    arrived = None if arrived_after is None else due + arrived_after * MINUTE
    rows = table([flight(due - 2 * HOUR, arrived), flight(NOON + 2 * HOUR)])
    assert build_features(rows)["origin_flights_overdue"].iloc[1] == overdue


def test_the_calendar_is_that_of_new_york() -> None:
    # 2013-05-08 02:30 UTC is Tuesday the 7th, 22:30 in New York.
    features = build_features(table([flight(datetime(2013, 5, 8, 2, 30, tzinfo=UTC))])).iloc[0]
    assert (features["weekday"], features["scheduled_minute_of_day"]) == (1, 22 * 60 + 30)


def test_what_is_not_known_stays_missing_rather_than_zero() -> None:
    features = build_features(table([flight(NOON, tailnum=None, plane_year=None)])).iloc[0]
    missing = {name for name, value in features.items() if pd.isna(value)}
    assert {"plane_year", "origin_late_rate_6h", "route_late_rate_7d", "aircraft_last_delay_minutes"} <= missing


@pytest.mark.parametrize("day", ["2013-01-20", "2013-03-10T06:00", "2013-07-23T22:30", "2013-11-03T05:30"])
def test_nothing_of_the_future_changes_a_feature(flights_of_2013: pd.DataFrame, day: str) -> None:
    now = pd.Timestamp(day, tz="UTC")
    rows = flights_of_2013[(flights_of_2013["prediction_time"] - now).abs() < pd.Timedelta(days=5)]
    unknown = rows["arrived_at"] >= now
    generator = np.random.default_rng(2)
    other = rows.copy()
    other.loc[unknown, "late"] = generator.integers(0, 2, unknown.sum())
    other.loc[unknown, "arrived_at"] = now + pd.to_timedelta(generator.integers(0, 5000, unknown.sum()), unit="min")
    other.loc[unknown & (generator.random(len(rows)) < 0.3), ["late", "arrived_at"]] = pd.NA

    asked = rows["prediction_time"] <= now
    assert unknown.sum() > 100
    expected = build_features(rows)[asked]
    pd.testing.assert_frame_equal(build_features(other)[asked], expected)
    # Nor do flights of which nobody has asked yet.
    pd.testing.assert_frame_equal(build_features(other[asked]), expected)


def test_the_outcome_of_a_flight_never_changes_its_own_features(flights_of_2013: pd.DataFrame) -> None:
    rows = flights_of_2013.iloc[50_000:52_000]
    asked = rows.index[::400]
    expected = build_features(rows)
    for label in asked:
        other = rows.copy()
        other.loc[label, "late"] = 0 if rows.loc[label, "late"] == 1 else 1
        pd.testing.assert_series_equal(build_features(other).loc[label], expected.loc[label])


def test_the_order_of_the_rows_does_not_matter(flights_of_2013: pd.DataFrame) -> None:
    rows = flights_of_2013.iloc[100_000:110_000]
    shuffled = rows.sample(frac=1, random_state=3)
    features = build_features(shuffled)
    assert features.index.equals(shuffled.index)
    pd.testing.assert_frame_equal(features.loc[rows.index], build_features(rows))


def test_the_rows_given_are_left_as_they_were(flights_of_2013: pd.DataFrame) -> None:
    rows = flights_of_2013.iloc[:1000].copy()
    build_features(rows)
    pd.testing.assert_frame_equal(rows, flights_of_2013.iloc[:1000])


def test_no_rows_give_no_features_but_all_columns(flights_of_2013: pd.DataFrame) -> None:
    some = build_features(flights_of_2013.iloc[:10])
    none = build_features(flights_of_2013.iloc[:0])
    assert list(none.columns) == list(some.columns)
    assert len(none) == 0
