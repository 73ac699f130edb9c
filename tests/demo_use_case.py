"""A small use case for tests: rides in three cities, with a pattern that a model can find.

Each city has 400 rides over 200 days of 2024. A ride is late with probability 0.15, plus 0.35 in rain, plus 0.3 on
the carrier "slow"; so a model beats the naive baseline (by carrier) clearly, and no model can be perfect.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

NAME = "rides"
CITIES = ("Bern", "Genève", "Zürich")
ROWS_A_CITY = 400

DECLARATION = """\
name: rides
title: Late rides
source:
  function: source:load_rows
  history_days: 1
entity: {key: [ride]}
event_time: booked_at
region: city
target: {column: late, known_at: arrived_at}
features:
  function: features:build_features
  columns:
    hour: {type: integer, minimum: 0, maximum: 23}
    carrier: {type: category}
    rain_millimetres: {type: number, minimum: 0, missing: allowed}
    is_weekend: {type: boolean}
expectations:
  maximum_bad_share: 0.2
  rows:
    - expect_column_values_to_not_be_null: {column: carrier}
    - expect_column_values_to_be_between: {column: rain_millimetres, min_value: 0, max_value: 500}
  table:
    - expect_table_row_count_to_be_between: {min_value: 1}
training:
  train_until: 2024-05-01T00:00:00Z
  validate_until: 2024-05-20T00:00:00Z
  blend_until: 2024-06-05T00:00:00Z
  test_until: 2024-08-01T00:00:00Z
  seed: 7
  maximum_models: 2
  include_algorithms: [GBM, GLM]
  minimum_rows: 50
  naive_baseline: [carrier]
promotion: {metric: auc, confidence: 0.5}
serving: {cache_ttl_seconds: 60}
"""

SOURCE = '''\
"""Rides from a CSV file beside this module."""

from pathlib import Path

import pandas as pd


def load_rows(start=None, end=None):
    rows = pd.read_csv(Path(__file__).with_name("rides.csv"))
    for column in ("booked_at", "arrived_at"):
        rows[column] = pd.to_datetime(rows[column], utc=True)
    if start is not None:
        rows = rows[rows["booked_at"] >= start]
    if end is not None:
        rows = rows[rows["booked_at"] < end]
    return rows
'''

FEATURES = '''\
"""Pure feature code of the rides."""

import pandas as pd


def build_features(rows):
    return pd.DataFrame(
        {
            "hour": rows["booked_at"].dt.hour,
            "carrier": rows["carrier"],
            "rain_millimetres": rows["rain_millimetres"],
            "is_weekend": rows["booked_at"].dt.dayofweek >= 5,
        },
        index=rows.index,
    )
'''


def ride_rows(*, cities: tuple[str, ...] = CITIES, rows_a_city: int = ROWS_A_CITY, seed: int = 11) -> pd.DataFrame:
    """Source rows, the same for the same arguments."""
    random = np.random.default_rng(seed)
    frames = []
    for city in cities:
        booked = [
            datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=int(minute))
            for minute in np.sort(random.integers(0, 200 * 24 * 60, rows_a_city))
        ]
        carrier = random.choice(["fast", "slow"], rows_a_city)
        rain = np.where(random.random(rows_a_city) < 0.3, random.gamma(2, 3, rows_a_city).round(2), 0.0)
        chance = 0.15 + 0.35 * (rain > 0) + 0.3 * (carrier == "slow")
        frames.append(
            pd.DataFrame(
                {
                    "ride": [f"{city}-{number}" for number in range(rows_a_city)],
                    "city": city,
                    "booked_at": booked,
                    "arrived_at": [moment + timedelta(minutes=40) for moment in booked],
                    "carrier": carrier,
                    "rain_millimetres": np.where(random.random(rows_a_city) < 0.05, np.nan, rain),
                    "late": (random.random(rows_a_city) < chance).astype(int),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def write_use_case(folder: Path, rows: pd.DataFrame | None = None, *, declaration: str = DECLARATION) -> Path:
    """Write the use case below `folder` (a use_cases folder); returns its own folder."""
    place = folder / NAME
    place.mkdir(parents=True, exist_ok=True)
    (place / "use_case.yaml").write_text(declaration, encoding="utf-8")
    (place / "source.py").write_text(SOURCE, encoding="utf-8")
    (place / "features.py").write_text(FEATURES, encoding="utf-8")
    (ride_rows() if rows is None else rows).to_csv(place / "rides.csv", index=False)
    return place
