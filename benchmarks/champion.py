"""The model that the serving benchmarks serve, in a folder with `model.zip`, `h2o-genmodel.jar` and `schema.json`.

    .venv/bin/python -m benchmarks.champion FOLDER                       trains one; needs no running stack
    .venv/bin/python -m benchmarks.champion FOLDER flight_delays JFK     a champion, while `make run` is up

What it trains is a GBM of 60 trees on the JFK flights of the use case that ships: the same model on every machine, and
of the kind that AutoML most often puts first. A folder that holds it already is left as it is. With it go 2,000 of the
vectors, `vectors.json`; of a champion there are none, and its example is varied instead.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import h2o
import numpy as np
from h2o.estimators import H2OGradientBoostingEstimator

from mage_platform.command_line.surroundings import present_settings
from mage_platform.contracts import InputSchema
from mage_platform.database import connect
from mage_platform.errors import ModelNotFound, PlatformError
from mage_platform.features.vectors import build_vectors
from mage_platform.local.embedded import running
from mage_platform.registry import champion, fetch_model, verification_keys
from mage_platform.settings import load_settings
from mage_platform.sources import load_rows
from mage_platform.training.h2o_server import h2o_server
from mage_platform.use_cases import load_use_case

USE_CASE, REGION = "flight_delays", "JFK"
VECTORS = 2_000


def bring(folder: Path, use_case: str, region: str) -> None:
    """Write the files of a region's champion.

    Raises:
        ModelNotFound: The region has none.
    """
    settings = present_settings()
    with connect(settings) as connection:
        serving = champion(connection, use_case, region)
        if serving is None:
            raise ModelNotFound(f"{use_case}/{region} has no champion; `make run` trains one")
        model = serving.model
        mojo, jar = fetch_model(connection, model, folder, verification_keys(settings))
        shutil.copy(mojo, folder / "model.zip")
        shutil.copy(jar, folder / "h2o-genmodel.jar")
    (folder / "vectors.json").unlink(missing_ok=True)
    _finish(folder, f"{model.algorithm}, champion of {use_case}/{region}", model.input_schema)


def train(folder: Path) -> None:
    """Write the files of the model trained here."""
    settings = load_settings()
    use_case = load_use_case(settings, USE_CASE)
    schema = use_case.input_schema
    rows = load_rows(settings, use_case)
    vectors = build_vectors(settings, use_case, rows[rows["wind_speed_mph"].fillna(0) < 200])
    vectors = vectors[(vectors["_region"] == REGION) & vectors["_label"].notna()]
    table = vectors[schema.names].assign(_label=vectors["_label"].astype(int).astype(str))
    factors = [name for name, column in schema.columns.items() if column.type in ("category", "boolean")]
    with (
        tempfile.TemporaryDirectory() as state,
        running(load_settings(state_folder=Path(state), h2o={"memory_limit_gib": 1.5}), ("h2o",)) as server,
        h2o_server(server),
    ):
        with tempfile.TemporaryDirectory() as place:
            table.to_parquet(f"{place}/rows.parquet", index=False)
            frame = h2o.upload_file(f"{place}/rows.parquet")
        for name in ("_label", *factors):
            frame[name] = frame[name].asfactor()
        model = H2OGradientBoostingEstimator(ntrees=60, max_depth=6, seed=1)
        model.train(x=schema.names, y="_label", training_frame=frame)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            mojo = model.download_mojo(path=place, get_genmodel_jar=True)
            Path(mojo).rename(folder / "model.zip")
            (Path(place) / "h2o-genmodel.jar").rename(folder / "h2o-genmodel.jar")
    # Without gaps, for which other servers' protocols have no word.
    some = table[schema.names].dropna().sample(VECTORS, random_state=1)
    (folder / "vectors.json").write_text(json.dumps([_as_json(row) for row in some.to_dict("records")]))
    _finish(folder, f"GBM of 60 trees on {len(table):,} flights from {REGION}", schema)


def _as_json(vector: dict[Hashable, Any]) -> dict[Hashable, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in vector.items()}


def _finish(folder: Path, words: str, schema: InputSchema) -> None:
    (folder / "schema.json").write_text(schema.model_dump_json())
    (folder / "model.txt").write_text(words)  # last: a folder without it is made anew


def main(folder: Path, *named: str) -> None:
    """Make what is asked for, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    words = folder / "model.txt"
    if named:
        words.unlink(missing_ok=True)
        bring(folder, *named)
    elif not (words.exists() and words.read_text().startswith("GBM of")):
        words.unlink(missing_ok=True)
        train(folder)
    print(f"model: {words.read_text()}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except PlatformError as error:
        sys.exit(f"error: {error}")
