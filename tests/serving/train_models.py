"""Trains the small real models of the serving tests: `python train_models.py FOLDER [MODEL...]`, all by default.

Writes the MOJOs, h2o-genmodel.jar, and what H2O itself predicts for rows it has not seen, with what each feature
contributed where H2O can tell. Synthetic rows with every kind of feature: whole numbers, numbers with gaps, text, text
that looks like numbers, booleans, and a constant that H2O drops.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import h2o
import numpy as np
import pandas as pd
from h2o.estimators import (
    H2OGeneralizedLinearEstimator,
    H2OGradientBoostingEstimator,
    H2ORandomForestEstimator,
    H2OXGBoostEstimator,
)

from mage_platform.local.embedded import running
from mage_platform.settings import load_settings
from mage_platform.training.h2o_server import h2o_server

CARRIERS = ["AA", "B6", "DL", "UA", "WN"]
FACTORS = ["carrier", "gate", "weekend", "late", "band"]
EXPLAINED = ["gbm", "xgboost", "number", "forest", "dart"]
FEATURES = ["month", "distance", "temperature", "carrier", "gate", "weekend", "terminals"]


def rows(count: int, seed: int) -> pd.DataFrame:
    """Synthetic rows; `late` depends on all of them but the constant."""
    random = np.random.default_rng(seed)
    temperature = np.round(random.normal(10, 12, count), 3)
    temperature[random.random(count) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "month": random.integers(1, 13, count),
            "distance": np.round(random.uniform(80, 5000, count), 2),
            "temperature": temperature,
            "carrier": random.choice(CARRIERS, count),
            "gate": random.integers(1, 6, count).astype(str),
            "weekend": random.random(count) < 0.3,
            "terminals": 3,
        }
    )
    frame.loc[random.random(count) < 0.05, "carrier"] = None
    push = (
        0.3 * (frame["month"] % 4)
        - frame["distance"] / 4000
        + np.nan_to_num(temperature) / 20
        + frame["carrier"].map({"AA": 0.6, "WN": -0.5}).fillna(0.0)
        + (frame["gate"] == "4") * 0.8
        - frame["weekend"] * 0.7
    )
    frame["minutes"] = np.round(10 * push + random.normal(0, 3, count), 1)
    frame["band"] = np.array(["early", "on time", "late"])[np.digitize(push, [-0.5, 0.5])]
    frame["late"] = (random.random(count) < 1 / (1 + np.exp(-push))).astype(int).astype(str)
    return frame


def _as_vectors(frame: Any, folder: Path) -> list[dict[str, Any]]:
    """Feature vectors as JSON gives them, from the values H2O's frame holds.

    H2O keeps a column of decimals as whole numbers times a power of ten, so that 2510.91 may come back as
    2510.9100000000003. The models must be compared on the very same numbers.
    """
    path = folder / "test.csv"
    h2o.download_csv(frame, str(path))
    with path.open() as file:
        read = list(csv.DictReader(file))
    return [{name: _value(name, row[name]) for name in FEATURES} for row in read]


def _value(name: str, text: str) -> Any:
    if text == "":
        return None
    if name == "weekend":
        return text == "True"
    if name in FACTORS:
        return text
    return int(text) if name in ("month", "terminals") else float(text)


def _upload(frame: pd.DataFrame, folder: Path, name: str) -> Any:
    # As Parquet: through CSV a missing category would become the level "" of its own.
    frame.to_parquet(folder / f"{name}.parquet", index=False)
    uploaded = h2o.upload_file(str(folder / f"{name}.parquet"), destination_frame=name)
    for column in FACTORS:
        uploaded[column] = uploaded[column].asfactor()
    return uploaded


def _answer(row: dict[str, str]) -> dict[str, Any]:
    """As the sidecar should give it: of a number the number alone, of a class its probabilities beside it."""
    predicted = row.pop("predict")
    if not row:
        return {"prediction": float(predicted), "probabilities": None}
    # H2O puts a p before a class whose name is a number
    names = {name.removeprefix("p") if name in ("p0", "p1") else name: float(value) for name, value in row.items()}
    return {"prediction": predicted, "probabilities": names}


def _train(folder: Path, wanted: list[str]) -> None:
    train = _upload(rows(2000, seed=1), folder, "train")
    unseen = rows(1500, seed=2)
    # Levels and gaps the models were not trained on.
    unseen.loc[:20, "carrier"] = "ZZ"
    test = _upload(unseen, folder, "test")
    models = {
        "gbm": H2OGradientBoostingEstimator(ntrees=30, max_depth=5, seed=1),
        "gbm_two": H2OGradientBoostingEstimator(ntrees=20, max_depth=4, seed=2),
        "glm": H2OGeneralizedLinearEstimator(family="binomial", seed=1),
        "xgboost": H2OXGBoostEstimator(ntrees=10, max_depth=4, seed=1),
        "three_classes": H2OGradientBoostingEstimator(ntrees=10, max_depth=4, seed=1),
        "number": H2OGradientBoostingEstimator(ntrees=20, max_depth=4, seed=1),
        "forest": H2ORandomForestEstimator(ntrees=20, max_depth=6, seed=1),
        "dart": H2OXGBoostEstimator(booster="dart", rate_drop=0.5, ntrees=10, max_depth=4, seed=1),
    }
    targets = {"three_classes": "band", "number": "minutes"}
    for name in wanted or list(models):
        model = models[name]
        model.train(x=FEATURES, y=targets.get(name, "late"), training_frame=train)
        model.download_mojo(path=str(folder / f"{name}.zip"))
        predicted = folder / f"{name}.csv"
        h2o.download_csv(model.predict(test), str(predicted))
        with predicted.open() as file:
            # Not through pandas, whose reader of decimal numbers may be off in the last bit.
            answers = [_answer(row) for row in csv.DictReader(file)]
        (folder / f"{name}.json").write_text(json.dumps(answers))
        if name in EXPLAINED:
            contributions = folder / f"{name}_contributions.csv"
            h2o.download_csv(model.predict_contributions(test, output_format="Compact"), str(contributions))
    jar = folder / "jar"
    jar.mkdir()
    model.download_mojo(path=str(jar), get_genmodel_jar=True)
    (jar / "h2o-genmodel.jar").rename(folder / "h2o-genmodel.jar")
    (folder / "vectors.json").write_text(json.dumps(_as_vectors(test, folder)))


def main(folder: Path, wanted: list[str]) -> None:
    """Start H2O, train, export, and stop it."""
    small = load_settings(state_folder=folder / "state", h2o={"memory_limit_gib": 1.5, "threads": 1})
    with running(small, ("h2o",)) as settings, h2o_server(settings):
        _train(folder, wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
