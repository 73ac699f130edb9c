"""The door to what h2o does: frames, AutoML, predictions, MOJOs. The connection is made in `h2o_connection`.

Every frame, model and project of a branch carries the branch's own prefix, so that branches side by side on one
server never meet, and everything of a branch can be removed at its end.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h2o
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from h2o.automl import H2OAutoML
from h2o.exceptions import H2ODependencyWarning, H2OTypeError

from mage_platform.contracts import InputSchema, LeaderboardRow, RegionPlan, TargetKind
from mage_platform.contracts.metrics import Metric
from mage_platform.contracts.use_case import Training
from mage_platform.training.h2o_connection import h2o_server

__all__ = ["H2O_VERSION", "LABEL", "Branch", "RegionOverran", "Trained", "branch_prefix", "h2o_server"]

LABEL = "_label"
OVERRUN_SHARE, OVERRUN_SECONDS, CANCEL_SECONDS = 1.5, 60.0, 20.0
# It advises to read frames with several threads; a leaderboard has a dozen rows.
warnings.filterwarnings("ignore", category=H2ODependencyWarning)
H2O_VERSION: str = h2o.__version__


def branch_prefix(plan: RegionPlan) -> str:
    """Prefix of every H2O key of a branch, unique by run, use case and region; fit for keys and folder names.

    >>> from mage_platform.contracts import RegionPlan, TrainingWindow
    >>> from datetime import UTC, datetime
    >>> moments = [datetime(2013, month, 1, tzinfo=UTC) for month in (8, 9, 10, 12)]
    >>> names = ("train_until", "validate_until", "blend_until", "test_until")
    >>> plan = RegionPlan(use_case="demo", region="São Paulo", run="7", seed=1, maximum_models=1, labelled_rows=9,
    ...                   maximum_runtime_seconds=9, window=TrainingWindow(**dict(zip(names, moments))))
    >>> branch_prefix(plan)
    'run_7_demo_S_o_Paulo_786873'
    """
    exact = f"{plan.run}/{plan.use_case}/{plan.region}"
    readable = re.sub(r"[^A-Za-z0-9]", "_", f"{plan.run}_{plan.use_case}_{plan.region}")[:60]
    return f"run_{readable}_{hashlib.sha256(exact.encode()).hexdigest()[:6]}"


_SORT_METRICS: dict[Metric, str] = {
    "auc": "AUC",
    "log_loss": "logloss",
    "average_precision": "AUCPR",
    "accuracy": "mean_per_class_error",  # AutoML ranks by no closer relative
    "balanced_accuracy": "mean_per_class_error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "RMSE",
}
TREES = ("gbm", "xgboost", "drf")
"""Algorithms whose MOJOs explain themselves by TreeSHAP."""


@dataclass(frozen=True)
class Trained:
    """What an AutoML run ended with."""

    leader: Any
    algorithm: str
    leaderboard: list[LeaderboardRow]
    best_tree: Any | None
    """The best model that can explain itself; None when there is none among them."""
    seconds: float

    @property
    def classes(self) -> tuple[str, ...]:
        """The levels of the label in the order of the model's probabilities; empty for a number."""
        return tuple(self.leader._model_json["output"]["domains"][-1] or ())


def _rank(by: str) -> Callable[[dict[Any, Any]], tuple[Any, ...]]:
    """Order of the leaderboard: AutoML leaves it to chance which of two equally good models leads, here the simpler."""
    sign = -1 if by in ("AUC", "AUCPR") else 1

    def key(record: dict[Any, Any]) -> tuple[Any, ...]:
        algorithm, name = str(record["algo"]), str(record["model_id"])
        number = int(re.sub(r"_AutoML_.*", "", name).rpartition("_")[2]) if "_AutoML_" in name else 0
        return sign * float(record[by.lower()]), algorithm == "StackedEnsemble", algorithm, number, name

    return key


class RegionOverran(Exception):
    """A branch did not end within its budget; the sentence is the reason in the report."""


class Branch:
    """The H2O side of one branch of the fan-out.

    Args:
        plan: What is trained.
        schema: Types of the features.
    """

    def __init__(self, plan: RegionPlan, schema: InputSchema) -> None:
        self.plan = plan
        self.schema = schema
        self.prefix = branch_prefix(plan)
        self._models: list[str] = []
        self._frames: list[str] = []

    def upload(self, part: str, rows: Path | pa.Table, kind: TargetKind = "binary") -> Any:
        """Bring rows to the server as a frame; text columns, and the label of a class, become factors.

        Args:
            part: Names the frame.
            rows: Label and features, as a parquet file that is sent as it is, or as a table. Times in a file must be in
                milliseconds: H2O takes finer ones for plain numbers.
            kind: Of the target.
        """
        name = f"{self.prefix}_{part}"
        if isinstance(rows, Path):
            frame = h2o.upload_file(str(rows), destination_frame=name)
        else:
            with tempfile.NamedTemporaryFile(suffix=".parquet", prefix="frame_") as file:
                pq.write_table(rows, file.name, coerce_timestamps="ms", compression="snappy")
                frame = h2o.upload_file(file.name, destination_frame=name)
        self._frames.append(name)
        for column in [
            *([LABEL] if kind != "regression" else []),
            *(c for c, f in self.schema.columns.items() if f.type in ("category", "boolean")),
        ]:
            if column in frame.columns and frame.types[column] != "enum":
                frame[column] = frame[column].asfactor()
        return frame

    def train(self, options: Training, metric: Metric, train: Any, validate: Any, blend: Any | None) -> Trained:
        """Run AutoML; models are ranked on the validation frame, ensembles blended on the blending frame.

        Args:
            options: As declared.
            metric: By which models are ranked.
            train: Frame trained on.
            validate: Frame for early stopping and the leaderboard.
            blend: Frame the ensembles learn from; None where there is none.
        """
        clock = time.monotonic()
        by = _SORT_METRICS[metric]
        automl = H2OAutoML(
            project_name=self.prefix,
            max_models=self.plan.maximum_models,
            max_runtime_secs=self.plan.maximum_runtime_seconds,
            seed=self.plan.seed,
            nfolds=0,
            sort_metric=by,
            stopping_metric=by,
            stopping_rounds=options.stopping_rounds,
            stopping_tolerance=options.stopping_tolerance,
            include_algos=options.include_algorithms,
            exclude_algos=options.exclude_algorithms,
            verbosity=None,
        )
        frames = {"training_frame": train, "validation_frame": validate, "leaderboard_frame": validate}
        if blend is not None:
            frames["blending_frame"] = blend
        self._within_budget(lambda: automl.train(x=self.schema.names, y=LABEL, **frames))
        board = h2o.automl.get_leaderboard(automl, extra_columns=["algo"]).as_data_frame(use_multi_thread=False)
        self._models += [str(model) for model in board["model_id"]]
        if automl.leader is None:
            raise RuntimeError("AutoML ended without any model; the H2O log says why")
        records = sorted(board.to_dict(orient="records"), key=_rank(by))
        rows = [self._leaderboard_row(record) for record in records]
        tree = next((str(each["model_id"]) for each in records if str(each["algo"]).lower() in TREES), None)
        leader = h2o.get_model(str(records[0]["model_id"]))
        return Trained(leader, rows[0].algorithm, rows, h2o.get_model(tree) if tree else None, time.monotonic() - clock)

    def _leaderboard_row(self, record: dict[Any, Any]) -> LeaderboardRow:
        return LeaderboardRow(
            model=str(record["model_id"]).replace(self.prefix, "").strip("_"),
            algorithm=str(record["algo"]),
            values={
                str(name): float(value)
                for name, value in record.items()
                if name not in ("model_id", "algo") and value is not None and math.isfinite(float(value))
            },
        )

    def _within_budget(self, work: Callable[[], object]) -> None:
        """Do the work in a thread that can be left behind: H2O looks at its own budget only between models.

        Raises:
            RegionOverran: It did not end in time; its jobs are cancelled, and a server that hangs is not waited for.
        """
        limit = self.plan.maximum_runtime_seconds * OVERRUN_SHARE + OVERRUN_SECONDS
        outcome: Future[object] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # handed to the thread that waits
                outcome.set_exception(error)

        threading.Thread(target=run, name=self.prefix, daemon=True).start()
        try:
            outcome.result(limit)
        except TimeoutError:
            canceller = threading.Thread(target=self.cancel_jobs, daemon=True)
            canceller.start()
            canceller.join(CANCEL_SECONDS)
            raise RegionOverran(
                f"the training did not end within {limit:,.0f} s, its budget of "
                f"{self.plan.maximum_runtime_seconds:,} s (training.maximum_runtime_seconds) and a margin; its jobs on "
                "the H2O server were cancelled"
            ) from None

    def cancel_jobs(self) -> None:
        """Cancel everything the server still does for this branch."""
        with suppress(Exception):  # the timer's own edge: the branch has its reason already
            for job in h2o.api("GET /3/Jobs")["jobs"]:
                of_branch = self.prefix in f"{job['dest']['name']} {job['description']}"
                if of_branch and job["status"] in ("CREATED", "RUNNING"):
                    h2o.api(f"POST /3/Jobs/{quote(job['key']['name'], safe='')}/cancel")

    def predictions(self, model: Any, frame: Any) -> npt.NDArray[np.float64]:
        """What a model says of each row of a frame.

        Returns:
            Shape (rows,): the probability of label "1", or the number; of several classes shape (rows, classes).
        """
        predicted = model.predict(frame)
        self._frames.append(predicted.frame_id)
        columns = predicted.columns[1:] or predicted.columns
        if len(columns) == 2:
            columns = columns[1:]
        # Read as text and parsed by Python: H2O writes every digit, pandas' CSV reader may lose the last bit.
        _, *lines = predicted[columns].get_frame_data().splitlines()
        values = np.array([[float(text.strip('"')) for text in line.split(",")] for line in lines])
        return values[:, 0] if len(columns) == 1 else values

    def variable_importance(self, model: Any) -> dict[str, float]:
        """Share of each feature, most important first; empty where the model tells none."""
        try:
            rows = model.varimp(use_pandas=False) or []
        except (AttributeError, KeyError, H2OTypeError):
            return {}
        shares: dict[str, float] = {}
        for row in rows:
            # a level of a one-hot feature is written `feature.level`
            name = str(row[0])
            feature = name if name in self.schema.columns else name.rpartition(".")[0]
            while feature and feature not in self.schema.columns:
                feature = feature.rpartition(".")[0]
            shares[feature or name] = shares.get(feature or name, 0.0) + float(row[3])
        return dict(sorted(shares.items(), key=lambda each: -each[1]))

    def upload_mojo(self, mojo: Path) -> Any:
        """A registered MOJO as a model of the server, to score it on the same frame as a candidate."""
        model = h2o.upload_mojo(str(mojo), model_id=f"{self.prefix}_{mojo.stem[:12]}")
        self._models.append(model.model_id)
        # The uploaded bytes stay behind as a key of their own.
        self._frames.append(model.params["model_key"]["actual"]["name"])
        return model

    def export_mojo(self, model: Any, folder: Path) -> tuple[Path, Path]:
        """Download a model as MOJO, with the genmodel jar of the server's version.

        Returns:
            The paths of the MOJO zip and of the jar.
        """
        folder.mkdir(parents=True, exist_ok=True)
        mojo = Path(model.download_mojo(path=str(folder), get_genmodel_jar=True))
        return mojo, folder / "h2o-genmodel.jar"

    def remove(self) -> None:
        """Remove everything of this branch from the server; a server that is gone has nothing left to remove."""
        with suppress(Exception):  # the branch has its outcome already, cleaning must not change it
            mine = {*self._models, *self._frames, self.prefix}
            present = h2o.ls()["key"]
            mine |= {str(key) for key in present if self.prefix in str(key)}
            h2o.remove(sorted(mine & {str(key) for key in present}))
