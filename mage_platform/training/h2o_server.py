"""The one door to h2o: a connection to the training server, frames, AutoML, predictions, MOJOs.

Every frame, model and project of a branch carries the branch's own prefix, so that branches side by side on one
server never meet, and everything of a branch can be removed at its end.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2o
import numpy as np
import numpy.typing as npt
from h2o.automl import H2OAutoML
from h2o.exceptions import H2OConnectionError, H2ODependencyWarning, H2OServerError

from mage_platform.contracts import InputSchema, LeaderboardRow, RegionPlan
from mage_platform.contracts.use_case import Training
from mage_platform.errors import H2OUnavailable
from mage_platform.settings import Settings

LABEL = "_label"
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


@dataclass(frozen=True)
class Trained:
    """What an AutoML run ended with."""

    leader: Any
    algorithm: str
    leaderboard: list[LeaderboardRow]
    seconds: float


@contextmanager
def h2o_server(settings: Settings) -> Iterator[None]:
    """Use the training server of the settings.

    Raises:
        H2OUnavailable: It does not answer, is of another version, or went away in between.
    """
    address = settings.h2o.url
    try:
        _connect(address, settings.h2o.connect_timeout_seconds)
        try:
            yield
        finally:
            with redirect_stdout(io.StringIO()), suppress(H2OConnectionError, ConnectionError):
                h2o.connection().close()
    except (H2OConnectionError, H2OServerError, ConnectionError) as error:
        raise H2OUnavailable(
            f"the H2O server at {address} was lost or does not answer ({_first_line(error)}). Start the local stack "
            "with `make run`, or check PLATFORM_H2O__HOST and PLATFORM_H2O__PORT; then run the pipeline again"
        ) from error


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

    def upload(self, part: str, file: Path) -> Any:
        """Bring a parquet file to the server as a frame; text columns and the label become factors.

        Args:
            file: Sent as it is read. Times in it are in milliseconds: H2O takes finer ones for plain numbers.
        """
        name = f"{self.prefix}_{part}"
        frame = h2o.upload_file(str(file), destination_frame=name)
        self._frames.append(name)
        for column in [
            LABEL,
            *(c for c, f in self.schema.columns.items() if f.type in ("category", "boolean")),
        ]:
            if column in frame.columns and frame.types[column] != "enum":
                frame[column] = frame[column].asfactor()
        return frame

    def train(self, options: Training, train: Any, validate: Any, blend: Any | None) -> Trained:
        """Run AutoML; models are ranked on the validation frame, ensembles blended on the blending frame."""
        clock = time.monotonic()
        automl = H2OAutoML(
            project_name=self.prefix,
            max_models=self.plan.maximum_models,
            max_runtime_secs=self.plan.maximum_runtime_seconds,
            seed=self.plan.seed,
            nfolds=0,
            sort_metric="AUC",
            stopping_metric="AUC",
            stopping_rounds=options.stopping_rounds,
            stopping_tolerance=options.stopping_tolerance,
            include_algos=options.include_algorithms,
            exclude_algos=options.exclude_algorithms,
            verbosity=None,
        )
        frames = {"training_frame": train, "validation_frame": validate, "leaderboard_frame": validate}
        if blend is not None:
            frames["blending_frame"] = blend
        automl.train(x=self.schema.names, y=LABEL, **frames)
        board = h2o.automl.get_leaderboard(automl, extra_columns=["algo"]).as_data_frame(use_multi_thread=False)
        self._models += [str(model) for model in board["model_id"]]
        if automl.leader is None:
            raise RuntimeError("AutoML ended without any model; the H2O log says why")
        rows = [
            LeaderboardRow(
                model=str(row["model_id"]).replace(self.prefix, "").strip("_"),
                algorithm=str(row["algo"]),
                auc=float(row["auc"]),
                log_loss=float(row["logloss"]),
            )
            for row in board.to_dict(orient="records")
        ]
        return Trained(automl.leader, rows[0].algorithm, rows, time.monotonic() - clock)

    def probabilities(self, model: Any, frame: Any) -> npt.NDArray[np.float64]:
        """Probability of label "1" of each row of a frame; shape (rows,)."""
        predicted = model.predict(frame)
        self._frames.append(predicted.frame_id)
        # Read as text and parsed by Python: H2O writes every digit, pandas' CSV reader may lose the last bit.
        _, *lines = predicted["p1"].get_frame_data().split()
        return np.array([float(line) for line in lines])

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


def _connect(address: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            # The client prints a plea to update; the version is pinned on purpose.
            with redirect_stdout(io.StringIO()):
                h2o.connect(url=address, verbose=False, strict_version_check=True)
            h2o.no_progress()
            return
        except (H2OConnectionError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
