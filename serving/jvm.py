"""The scoring JVM inside the process: the only door to JPype.

The JVM starts once, in the thread of the event loop, and the process never forks afterwards. Each genmodel jar gets
a class loader of its own, so that MOJOs of different H2O versions can be served side by side while an upgrade rolls.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
import weakref
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import jpype
import jpype.nio

from mage_platform.errors import ContractViolated, ServiceFailed
from mage_platform.registry import sha256_of

PROGRAMS = [Path(__file__).parent / "java" / name for name in ("batch_scorer.jar", "contribution_scorer.jar")]
SLOT_ROWS = 256

Score = Sequence[float]
"""One prediction: index of the predicted class, then the probability of each class; or the predicted number first."""

_loaders: dict[str, Any] = {}
_lock = threading.Lock()
_Memory = tuple[memoryview, Any]
"""Bytes of this process, and the direct buffer through which Java sees them."""
_free: defaultdict[int, list[_Memory]] = defaultdict(list)
"""Memory that a dropped slot gave back, by size. Java lets go of a direct buffer only at a collection, and none comes
while the heap is large enough: without this, models that come and go would leave their buffers behind."""


class ScoresRows(Protocol):
    """What the scorer needs of a model in memory. One thread at a time."""

    capacity: int
    """Most rows one call takes."""
    seconds_per_row: float
    """What the model itself costs, as lately measured; 0 before the first call."""

    def score(self, rows: Sequence[bytes]) -> list[Score]:
        """Predictions of encoded rows, in their order."""


def start(*, heap_mib: int) -> None:
    """Start the JVM, unless it runs.

    Args:
        heap_mib: Greatest heap, in MiB.

    Raises:
        ServiceFailed: There is no Java, or it did not start.
    """
    if jpype.isJVMStarted():
        return
    try:
        jpype.startJVM(
            _libjvm(),
            f"-Xmx{heap_mib}m",
            "-Xss512k",
            "-XX:+UseSerialGC",  # smallest, and as fast as the others on a heap that hardly changes
            "-XX:-UsePerfData",  # its file is written to at safepoints, which a slow disk can stall
            "-Xrs",  # leaves SIGTERM to Python: without it the process dies with requests in flight
            convertStrings=False,
        )
    except (OSError, RuntimeError, jpype.JVMNotFoundException) as error:
        raise ServiceFailed(f"the scoring JVM did not start: {error}. Set JAVA_HOME to a Java 8 to 25") from error


def heap() -> tuple[int, int]:
    """Bytes of the JVM's heap: in use, and at most."""
    runtime = jpype.JClass("java.lang.Runtime").getRuntime()
    return int(runtime.totalMemory()) - int(runtime.freeMemory()), int(runtime.maxMemory())


def _libjvm() -> str:
    if not os.environ.get("JAVA_HOME") and (java := shutil.which("java")):
        home = Path(java).resolve().parent.parent
        for candidate in (home / "lib" / "server", home / "jre" / "lib" / "amd64" / "server"):
            if (candidate / "libjvm.so").exists():
                return str(candidate / "libjvm.so")
    return str(jpype.getDefaultJVMPath())


class ScoresBatches(Protocol):
    """A program in the JVM that answers each row with some numbers."""

    names: list[str]
    """Columns of a row."""
    prediction_width: int
    """Numbers of an answer."""

    def batch_scorer(self, rows: Any, predictions: Any) -> Any:
        """The Java object that scores from one direct buffer into the other."""


class Slot:
    """Memory shared with the JVM for the rows and predictions of one batch, bound to one program.

    Args:
        mojo: The model, or what explains it.
        capacity: Most rows of a batch.
    """

    def __init__(self, mojo: ScoresBatches, capacity: int = SLOT_ROWS) -> None:
        self.capacity = capacity
        self.seconds_per_row = 0.0
        self._width = mojo.prediction_width
        self._rows, rows = _lend(self, capacity * len(mojo.names) * 8)
        memory, predictions = _lend(self, capacity * self._width * 8)
        self._predictions = memory.cast("d")
        self._java = mojo.batch_scorer(rows, predictions)

    def score(self, rows: Sequence[bytes]) -> list[Score]:
        """Predictions of encoded rows, in their order; the GIL is free while Java works.

        Args:
            rows: At most `capacity`, each as `RowEncoder.encode` returns it.

        Raises:
            ArithmeticError: The model's code failed on one of the rows.
        """
        self._run(b"".join(rows), len(rows))
        width = self._width
        flat = self._predictions[: len(rows) * width].tolist()
        return [flat[at : at + width] for at in range(0, len(flat), width)]

    def score_block(self, rows: bytes | memoryview, count: int) -> bytes:
        """Predictions of rows that lie one behind the other, laid out likewise.

        Args:
            rows: float64, `count` times as many as the model has columns.
            count: At most `capacity`.

        Returns:
            float64: for each row a `Score`.

        Raises:
            ArithmeticError: As above.
        """
        self._run(rows, count)
        return self._predictions[: count * self._width].tobytes()

    def _run(self, rows: bytes | memoryview, count: int) -> None:
        self._rows[: len(rows)] = rows
        try:
            seconds = int(self._java.score(count)) * 1e-9 / count
        except jpype.JException as error:
            raise ArithmeticError(f"the MOJO failed: {error}") from error
        before = self.seconds_per_row
        self.seconds_per_row = before * 0.9 + seconds * 0.1 if before else seconds


def _lend(slot: Slot, size: int) -> _Memory:
    """At least so many bytes, for as long as the slot lives."""
    rounded = 1 << (size - 1).bit_length()
    free = _free[rounded]
    try:
        memory = free.pop()
    except IndexError:
        own = memoryview(bytearray(rounded))
        memory = own, jpype.nio.convertToDirectBuffer(own)
    weakref.finalize(slot, free.append, memory).atexit = False
    return memory


class Mojo:
    """A MOJO in the JVM. One may be shared by threads; its slots may not.

    Args:
        path: The MOJO zip.
        genmodel: h2o-genmodel.jar of the H2O version that wrote it.

    Raises:
        ContractViolated: The file is no MOJO.
    """

    def __init__(self, path: Path, genmodel: Path) -> None:
        self._loader = _class_loader(genmodel)
        model = self._load(path)
        names = model.getNames()
        width = int(model.nfeatures())
        self.names = [str(names[index]) for index in range(width)]
        self.domains = [_levels(model.getDomainValues(index)) for index in range(width)]
        self.labels = _levels(model.getDomainValues(model.getResponseIdx()))
        self.prediction_width = int(model.getPredsSize())
        threshold = float(model._defaultThreshold)
        self.threshold = None if math.isnan(threshold) else threshold
        self._model = model
        self._path = path

    def _load(self, path: Path) -> Any:
        thread = jpype.JClass("java.lang.Thread").currentThread()
        before = thread.getContextClassLoader()
        # Some model kinds find their parts through the thread's class loader.
        thread.setContextClassLoader(self._loader)
        try:
            return jpype.JClass("hex.genmodel.MojoModel", loader=self._loader).load(str(path))
        except jpype.JException as error:
            raise ContractViolated(f"{path.name} cannot be loaded as a MOJO: {error}") from error
        finally:
            thread.setContextClassLoader(before)

    def batch_scorer(self, rows: Any, predictions: Any) -> Any:
        """The Java object that scores from one direct buffer into the other."""
        return jpype.JClass("mageplatform.scoring.BatchScorer", loader=self._loader)(self._model, rows, predictions)

    def contribution_scorer(self, rows: Any, answers: Any) -> Any:
        """The Java object that explains from one direct buffer into the other.

        Raises:
            ContractViolated: The model's contributions cannot be told.
        """
        java = jpype.JClass("mageplatform.scoring.ContributionScorer", loader=self._loader)
        try:
            return java(self._model, str(self._path), rows, answers)
        except jpype.JException as error:
            expected = jpype.JClass("java.lang.UnsupportedOperationException")
            reason = error.getMessage() if isinstance(error, expected) else error
            raise ContractViolated(str(reason)) from error

    def slot(self, capacity: int = SLOT_ROWS) -> Slot:
        """Memory for one batch at a time."""
        return Slot(self, capacity)


class Contributions:
    """What the columns of a tree model contribute to its scores; of a slot each answer is the contribution of every
    column, the bias, and the prediction.

    Args:
        mojo: The model.

    Raises:
        ContractViolated: Its contributions cannot be told.
    """

    def __init__(self, mojo: Mojo) -> None:
        self._mojo = mojo
        self.names = mojo.names
        self.prediction_width = len(mojo.names) + 1 + mojo.prediction_width
        self.scale = ""
        """On which bias and contributions sum up, once there is a slot: logit, log, identity or probability."""
        self.nodes = 0
        """Of all its trees, once there is a slot."""

    def batch_scorer(self, rows: Any, predictions: Any) -> Any:
        """The Java object that explains from one direct buffer into the other."""
        java = self._mojo.contribution_scorer(rows, predictions)
        self.scale, self.nodes = str(java.scale()), int(java.nodes())
        return java

    def slot(self, capacity: int) -> Slot:
        """Memory for one batch at a time."""
        return Slot(self, capacity)


def _levels(values: Any) -> list[str] | None:
    return None if values is None else [str(value) for value in values]


def _class_loader(genmodel: Path) -> Any:
    status = genmodel.stat()
    digest = _digest(genmodel, status.st_ino, status.st_size, status.st_mtime_ns)
    with _lock:
        if digest not in _loaders:
            url = jpype.JClass("java.io.File")
            jars = [url(str(jar.resolve())).toURI().toURL() for jar in (genmodel, *PROGRAMS)]
            urls = jpype.JArray(jpype.JClass("java.net.URL"))(jars)
            _loaders[digest] = jpype.JClass("java.net.URLClassLoader")(urls)
        return _loaders[digest]


@lru_cache(maxsize=64)
def _digest(path: Path, *_: int) -> str:
    """SHA-256 of a jar that was verified when it was brought here; reckoned once as long as the file stays as it is."""
    return sha256_of(path)
