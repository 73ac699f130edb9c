"""The MOJO in another server's process; runs in the environment of the peers, which has nothing of the platform.

The same Java as ours scores a whole batch in one crossing of direct buffers: what is compared are the servers.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jpype
import jpype.nio
import numpy as np
import numpy.typing as npt


class Model:
    """A MOJO of two classes.

    Args:
        folder: Holds `model.zip`, `h2o-genmodel.jar` and `batch_scorer.jar`.
    """

    def __init__(self, folder: Path) -> None:
        if not jpype.isJVMStarted():
            jars = [str(folder / jar) for jar in ("h2o-genmodel.jar", "batch_scorer.jar")]
            options = ("-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xrs")
            library = Path(os.environ["JAVA_HOME"]) / "lib" / "server" / "libjvm.so"
            where = (str(library),) if library.exists() else ()
            jpype.startJVM(*where, *options, classpath=jars, convertStrings=False)
        mojo = jpype.JClass("hex.genmodel.MojoModel").load(str(folder / "model.zip"))
        self.names = [str(name) for name in mojo.getNames()][: int(mojo.nfeatures())]
        self._codes = [_codes(mojo.getDomainValues(at)) for at in range(len(self.names))]
        self.labels = [str(label) for label in mojo.getDomainValues(mojo.getResponseIdx())]
        self._width = int(mojo.getPredsSize())
        self._mojo = mojo
        self._scorer = jpype.JClass("mageplatform.scoring.BatchScorer")
        self._own = threading.local()

    def predict(self, columns: Mapping[str, Sequence[Any]], rows: int) -> npt.NDArray[np.float64]:
        """Index of the class and the probability of each, a row for each row.

        Args:
            columns: Each feature's values.
            rows: How many.
        """
        given, predictions, java = self._memory(rows)
        numbers = [
            columns[name] if codes is None else [codes.get(value, math.nan) for value in columns[name]]
            for name, codes in zip(self.names, self._codes, strict=True)
        ]
        given[:] = np.array(numbers, dtype=np.float64).T
        java.score(rows)
        return predictions.copy()

    def _memory(self, rows: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Any]:
        """This thread's direct buffers for so many rows, made once."""
        bound: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Any]] = self._own.__dict__
        if rows not in bound:
            given, predictions = np.empty((rows, len(self.names))), np.empty((rows, self._width))
            direct = [jpype.nio.convertToDirectBuffer(memoryview(each).cast("B")) for each in (given, predictions)]
            bound[rows] = given, predictions, self._scorer(self._mojo, *direct)
        return bound[rows]


def _codes(levels: Any) -> dict[str, float] | None:
    return None if levels is None else {str(level): float(code) for code, level in enumerate(levels)}
