"""What is known about a flight two hours before its scheduled departure, as features.

One pure function of the source rows. A row sees its own schedule, weather and plane, and of the other rows
only

* the outcome (``late``, ``arrived_at``) where it was known *strictly before* the row's prediction time: an
  arrival in that very minute does not count yet;
* the schedule of flights that left, by the timetable, no later than itself. So a flight that is overdue, due by
  now and not known to have arrived, is seen as well, which says more than the arrivals do while a delay is
  building up.

All origins have to be in the rows together: planes and destinations are followed across them. The tail number is
that of the plane that flew, so a plane swapped within the last two hours is taken as already known.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

HOUR = 60
DAY = 24 * HOUR
LOCAL_TIME_ZONE = "America/New_York"
# A flight that has not arrived this long after its scheduled arrival was most likely cancelled: stop counting it.
MISSING_AT_MOST = 6 * HOUR
# One extreme delay must not drown the mean of its neighbours.
DELAY_RANGE_MINUTES = (-60, 240)
# The aircraft's last flight from New York, further back than this, says nothing.
AIRCRAFT_GAP_AT_MOST = 3 * DAY
DECIMALS = 4

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

AS_THEY_ARE = [
    "carrier",
    "dest",
    "temperature_fahrenheit",
    "dew_point_fahrenheit",
    "wind_direction_degrees",
    "wind_speed_mph",
    "precipitation_inches",
    "pressure_millibars",
    "visibility_miles",
    "plane_year",
    "plane_seats",
]


def build_features(rows: pd.DataFrame) -> pd.DataFrame:
    """Describe each flight leg as it could be described at its prediction time.

    Args:
        rows: Flight legs of all origins, as ``source.load_rows`` gives them, in any order. A row whose history
            is to be complete needs the rows of the ``history_days`` before it.

    Returns:
        One row of features for each row, with the same index; what is not known is missing.
    """
    flights = _Flights(rows)
    columns: dict[str, object] = {
        **_timetable(rows, flights),
        **{name: rows[name] for name in AS_THEY_ARE},
        **_recent_arrivals(flights),
        **_missing_flights(flights),
        **_aircraft_rotation(flights),
    }
    features = pd.DataFrame(columns, index=rows.index)
    fractions = features.select_dtypes("float").columns
    features[fractions] = features[fractions].round(DECIMALS)
    return features


class _Flights:
    """The columns of the rows that history is made of: moments in minutes since 1970 (UTC), groups as numbers."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.prediction = _minutes(rows["prediction_time"])
        self.departure = _minutes(rows["scheduled_departure"])
        self.due = _minutes(rows["scheduled_arrival"])
        self.landed = (rows["late"].notna() & rows["arrived_at"].notna()).to_numpy(dtype=bool)
        self.arrival = np.where(self.landed, _minutes(rows["arrived_at"]), 0)
        self.late = rows["late"].fillna(0).to_numpy(dtype=np.int64)
        self.delay = np.clip(self.arrival - self.due, *DELAY_RANGE_MINUTES)
        self.everything = np.zeros(len(rows), dtype=np.int64)
        self.origin = _numbered(rows, ["origin"])
        self.dest = _numbered(rows, ["dest"])
        self.route = _numbered(rows, ["origin", "dest"])
        self.carrier = _numbered(rows, ["origin", "carrier"])
        self.service = _numbered(rows, ["origin", "dest", "carrier"])
        self.number = _numbered(rows, ["origin", "dest", "carrier", "flight"])
        self.aircraft = _numbered(rows, ["tailnum"])


class _Timeline:
    """Events of groups in the order of time, so that any window of any group is two binary searches."""

    def __init__(self, group: Integers, moment: Integers, values: Iterable[Integers] = ()) -> None:
        named = group >= 0
        values = [value[named] for value in values]
        # The values break ties, or the order of the rows would.
        order = np.lexsort((*values[::-1], moment[named], group[named]))
        self.keys = _key(group[named], moment[named])[order]
        self.values = [value[order] for value in values]
        self.sums = [np.concatenate(([0], np.cumsum(value))) for value in self.values]

    def before(self, group: Integers, moment: Integers) -> Integers:
        """Count what sorts before a moment of a group; two of these, subtracted, count the window between them."""
        return np.searchsorted(self.keys, _key(group, moment), side="left")

    def count(self, group: Integers, moment: Integers, minutes: int) -> Integers:
        """Count the group's events of the last minutes, the moment itself excluded."""
        return self.before(group, moment) - self.before(group, moment - minutes)

    def mean(self, value: int, group: Integers, moment: Integers, minutes: int) -> Floats:
        """Average one value over the group's events of the last minutes; missing where there is none."""
        first, last = self.before(group, moment - minutes), self.before(group, moment)
        total = (self.sums[value][last] - self.sums[value][first]).astype(np.float64)
        return np.divide(total, last - first, out=np.full(len(total), np.nan), where=last > first)


def _timetable(rows: pd.DataFrame, flights: _Flights) -> dict[str, object]:
    """The calendar on New York's clocks, the distance, and how crowded the timetable is just before."""
    local = rows["scheduled_departure"].dt.tz_convert(LOCAL_TIME_ZONE)
    departures = _Timeline(flights.origin, flights.departure)
    # Up to and including the flight's own minute; later ones are left out, they may not be in the rows yet.
    next_minute = flights.departure + 1
    return {
        "weekday": local.dt.weekday.astype(np.int64),
        "scheduled_minute_of_day": (local.dt.hour * 60 + local.dt.minute).astype(np.int64),
        "distance_miles": rows["distance"],
        "scheduled_duration_minutes": flights.due - flights.departure,
        "origin_departures_scheduled_1h": departures.count(flights.origin, next_minute, HOUR),
        "origin_departures_scheduled_3h": departures.count(flights.origin, next_minute, 3 * HOUR),
    }


def _recent_arrivals(flights: _Flights) -> dict[str, object]:
    """How late the flights were that are known to have arrived, by what they share with this one."""
    now, known = flights.prediction, flights.landed

    def arrivals(group: Integers) -> _Timeline:
        return _Timeline(group[known], flights.arrival[known], (flights.late[known], flights.delay[known]))

    late, delay = 0, 1
    origin, dest, route, carrier = flights.origin, flights.dest, flights.route, flights.carrier
    service, number, aircraft = flights.service, flights.number, flights.aircraft
    at_origin, to_dest, of_carrier = arrivals(origin), arrivals(dest), arrivals(carrier)
    return {
        "origin_late_rate_6h": at_origin.mean(late, origin, now, 6 * HOUR),
        "origin_flights_known_6h": at_origin.count(origin, now, 6 * HOUR),
        "origin_mean_delay_minutes_1h": at_origin.mean(delay, origin, now, HOUR),
        "dest_mean_delay_minutes_3h": to_dest.mean(delay, dest, now, 3 * HOUR),
        "dest_mean_delay_minutes_1d": to_dest.mean(delay, dest, now, DAY),
        "route_late_rate_7d": arrivals(route).mean(late, route, now, 7 * DAY),
        "carrier_late_rate_1d": of_carrier.mean(late, carrier, now, DAY),
        "carrier_mean_delay_minutes_3h": of_carrier.mean(delay, carrier, now, 3 * HOUR),
        "service_mean_delay_minutes_1d": arrivals(service).mean(delay, service, now, DAY),
        "flight_number_mean_delay_minutes_8d": arrivals(number).mean(delay, number, now, 8 * DAY),
        "aircraft_late_rate_2d": arrivals(aircraft).mean(late, aircraft, now, 2 * DAY),
    }


def _missing_flights(flights: _Flights) -> dict[str, object]:
    """How many flights are due, or about to be, and not known to have arrived."""

    def not_arrived(group: Integers, due_within: int) -> Integers:
        since = flights.due - due_within
        given_up = flights.due + MISSING_AT_MOST
        until = np.where(flights.landed, np.minimum(flights.arrival, given_up), given_up)
        ever = until > since
        begun, ended = _Timeline(group[ever], since[ever]), _Timeline(group[ever], until[ever])
        # An arrival in this very minute is not known yet, so its flight still counts.
        return begun.before(group, flights.prediction) - ended.before(group, flights.prediction)

    return {
        "origin_flights_overdue": not_arrived(flights.origin, due_within=0),
        "dest_flights_overdue": not_arrived(flights.dest, due_within=0),
        "carrier_flights_overdue": not_arrived(flights.carrier, due_within=0),
        "all_flights_expected_1h": not_arrived(flights.everything, due_within=HOUR),
    }


def _aircraft_rotation(flights: _Flights) -> dict[str, object]:
    """Where the aircraft comes from: its last known arrival, and its last flight from here by the timetable."""
    group, known = flights.aircraft, flights.landed
    arrivals = _Timeline(group[known], flights.arrival[known], (flights.delay[known], flights.arrival[known]))
    latest = arrivals.before(group, flights.prediction)
    seen = (latest > arrivals.before(group, flights.prediction - 2 * DAY)) & (group >= 0)
    delay, arrival = (_chosen(value, latest, seen) for value in arrivals.values)

    departures = _Timeline(group, flights.departure, (flights.due,))
    previous = departures.before(group, flights.departure)
    left = (previous > departures.before(group, flights.departure - AIRCRAFT_GAP_AT_MOST)) & (group >= 0)
    return {
        "aircraft_last_delay_minutes": delay,
        "aircraft_minutes_since_arrival": flights.departure - arrival,
        "aircraft_minutes_since_due": flights.departure - _chosen(departures.values[0], previous, left),
    }


def _chosen(values: Integers, upto: Integers, present: npt.NDArray[np.bool_]) -> Floats:
    """The last of the first ``upto`` values where present, else missing."""
    if not len(values):
        return np.full(len(upto), np.nan)
    return np.where(present, values[np.maximum(upto - 1, 0)], np.nan)


def _minutes(moments: pd.Series) -> Integers:
    """Minutes since 1970 in UTC; a missing moment gives a meaningless number that must be masked."""
    return moments.to_numpy(dtype="datetime64[m]").astype(np.int64)


def _numbered(rows: pd.DataFrame, columns: list[str]) -> Integers:
    """Number the groups of rows alike in these columns; -1 where one of them is missing."""
    group = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        codes, values = pd.factorize(rows[column])
        group = np.where((group < 0) | (codes < 0), -1, group * len(values) + codes)
    return group


def _key(group: Integers, moment: Integers) -> Integers:
    """Order by group, then by moment: minutes since 1970 fit into 32 bits for the next eight thousand years."""
    return (group << 32) + moment
