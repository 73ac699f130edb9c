"""The MOJO as a pyfunc of MLflow; `mlflow_model.py FOLDER DESTINATION` saves it, in the environment of the peers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mojo import Model


class Mojo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The MOJO out of its folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._model: Model | None = None

    def load_context(self, context: Any) -> None:
        """Start the JVM and load the MOJO."""
        self._model = Model(Path(self._folder))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Predict a data frame."""
        model = self._model
        assert model is not None
        scores = model.predict({name: model_input[name].to_numpy() for name in model.names}, len(model_input))
        answer: dict[str, Any] = {"predict": [model.labels[int(index)] for index in scores[:, 0]]}
        return pd.DataFrame(answer | {f"p{label}": scores[:, at + 1] for at, label in enumerate(model.labels)})


if __name__ == "__main__":
    from mlflow_model import Mojo as Saved  # by its importable name, so that the server finds it again

    mlflow.pyfunc.save_model(sys.argv[2], python_model=Saved(sys.argv[1]), pip_requirements=[])
