"""Small tables with a pattern that a model can find, one for each kind of target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mage_platform.contracts import FeatureColumn, InputSchema, TargetKind
from mage_platform.settings import Settings
from mage_platform.use_cases import load_use_case

DECLARATION = """\
name: {name}
title: Deliveries, {kind}
source: {{file: rows.parquet}}
entity: {{key: [delivery]}}
event_time: ordered_at
region: city
target: {{column: outcome, kind: {kind}{more}}}
features:
  columns:
    hour: {{type: integer, minimum: 0, maximum: 23}}
    carrier: {{type: category}}
    rain: {{type: number, minimum: 0, missing: allowed}}
training:
  train_until: 2024-04-01T00:00:00Z
  validate_until: 2024-05-01T00:00:00Z
  blend_until: 2024-05-15T00:00:00Z
  test_until: 2024-07-01T00:00:00Z
  seed: 5
  maximum_models: 2
  include_algorithms: [GBM, GLM, StackedEnsemble]
  minimum_rows: 50
  naive_baseline: [carrier]
  pooled: {{maximum_models: 1}}
promotion: {{confidence: 0.8}}
serving: {{explanations: true}}
"""

SCHEMA = InputSchema(
    columns={
        "hour": FeatureColumn(type="integer", minimum=0, maximum=23),
        "carrier": FeatureColumn(type="category"),
        "rain": FeatureColumn(type="number", minimum=0, missing="allowed"),
    }
)


def rows(kind: TargetKind, cities: dict[str, int], seed: int = 3) -> pd.DataFrame:
    """Deliveries over the first half of 2024; the outcome depends on hour, carrier and rain in every city."""
    random = np.random.default_rng(seed)
    frames = []
    for city, count in cities.items():
        hour, rain = random.integers(0, 24, count), random.gamma(1, 2, count).round(2)
        carrier = random.choice(["fast", "slow"], count)
        push = 0.15 * (hour - 12) + 0.4 * (rain - 2) + 1.2 * (carrier == "slow") + random.normal(0, 0.7, count)
        frames.append(
            pd.DataFrame(
                {
                    "delivery": [f"{city}-{number}" for number in range(count)],
                    "city": city,
                    "ordered_at": pd.Timestamp("2024-01-01", tz="UTC")
                    + pd.to_timedelta(np.sort(random.integers(0, 180 * 86_400, count)), unit="s"),
                    "hour": hour,
                    "carrier": carrier,
                    "rain": np.where(random.random(count) < 0.05, np.nan, rain),
                    "push": push,
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    if kind == "regression":
        table["outcome"] = (30 + 5 * table["push"]).round(2)
    elif kind == "multiclass":
        names = np.array(["early", "on time", "late"])
        table["outcome"] = names[np.digitize(table["push"], [-0.5, 1.0])]
    else:
        table["outcome"] = np.where(table["push"] > 0.5, "yes", "no")
    return table.drop(columns=["push"])


def declare(
    settings: Settings, name: str, kind: TargetKind, table: pd.DataFrame, declaration: str = DECLARATION
) -> None:
    """Write the use case and its table."""
    folder: Path = settings.use_cases_folder / name
    folder.mkdir(parents=True)
    more = ", positive: 'yes'" if kind == "binary" else ""
    (folder / "use_case.yaml").write_text(declaration.format(name=name, kind=kind, more=more), encoding="utf-8")
    table.to_parquet(folder / "rows.parquet", index=False)
    load_use_case(settings, name)
