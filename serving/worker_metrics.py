"""One scrape for all workers: each leaves its counts in a file now and then, and whichever is scraped adds them up.

A worker that is started again takes over what its predecessor had counted, so that no counter ever goes back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from pydantic_core import from_json, to_json

log = structlog.get_logger()
PUBLISH_SECONDS = 5.0
STALE_SECONDS = 20.0
"""A worker that has not published for so long is dead: what it counted still counts, how it was no longer does."""
LEAST = ("sidecar_registry_reachable", "sidecar_registry_read_timestamp_seconds", "sidecar_cache_open",
         "process_start_time_seconds")  # fmt: skip
"""Gauges of which the least tells how the whole is."""
GREATEST = ("sidecar_models", "sidecar_models_not_loaded", "sidecar_model_loaded", "process_max_fds", "python_info")
"""And of which the greatest does. All other gauges are added up."""

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels, value."""
Family = tuple[str, str, str, Sequence[Sample]]
"""Name, type, description, samples."""


def summed(workers: Iterable[Sequence[Family]]) -> list[Family]:
    """The families of some workers as those of one.

    >>> one = ("queue", "gauge", "Waiting.", [("queue", {}, 2.0)])
    >>> summed([[one], [one]])
    [('queue', 'gauge', 'Waiting.', [('queue', {}, 4.0)])]
    """
    described: dict[str, tuple[str, str]] = {}
    found: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in workers:
        for name, kind, text, samples in families:
            described.setdefault(name, (kind, text))
            add = _rule(name, kind)
            values = found.setdefault(name, {})
            for sample, labels, value in samples:
                key = (sample, tuple(labels.items()))
                values[key] = add(values[key], value) if key in values else value
    return [
        (name, *described[name], [(sample, dict(labels), value) for (sample, labels), value in values.items()])
        for name, values in found.items()
    ]


def only_counts(families: Sequence[Family]) -> list[Family]:
    """The families that only ever grow."""
    return [family for family in families if family[1] in ("counter", "histogram", "summary")]


class WorkerMetrics:
    """What all workers of one parent counted.

    Args:
        folder: Where they leave it.
        worker: Number of this one.
        collect: This process's own families.
        parent: Names the parent, so that files of earlier ones do not count; this process's own when left out.
    """

    def __init__(
        self, folder: Path, worker: int, collect: Callable[[], Sequence[Family]], parent: str | None = None
    ) -> None:
        self._folder = folder
        self._parent = parent or parent_process()
        self._file = folder / f"{self._parent}.{worker}.json"
        self._collect = collect
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            if path.name.split(".")[0] != self._parent and time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)
        self._inherited = only_counts(_read(self._file))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker metrics", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def close(self) -> None:
        """Publish a last time, and end."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def families(self) -> list[Family]:
        """Those of all workers together. This one's are published first: no later scrape may know less of them."""
        own = self._publish()
        others = []
        for path in self._folder.glob(f"{self._parent}.*.json"):
            if path != self._file:
                families = _read(path)
                others.append(families if _age_seconds(path) < STALE_SECONDS else only_counts(families))
        return summed([own, *others])

    def _publish(self) -> list[Family]:
        with self._lock:  # a scrape and the thread may meet
            own = summed([self._collect(), self._inherited])
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(to_json(own))
            fresh.replace(self._file)  # a reader sees the old or the new one, never half of one
        return own

    def _run(self) -> None:
        while True:
            stopped = self._stop.wait(PUBLISH_SECONDS)
            try:
                self._publish()
            except OSError as error:
                log.warning("metrics of this worker not published", reason=str(error))
            if stopped:
                return


def parent_process() -> str:
    """Name of the parent process that no other one ever bears: its id may be given again, also after a restart."""
    parent = os.getppid()
    after_name = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot[:8]}-{parent}-{after_name.split()[19]}"  # when it started, in ticks since the boot


def _rule(name: str, kind: str) -> Callable[[float, float], float]:
    if kind == "gauge" and name in LEAST:
        return min
    if kind == "info" or name in GREATEST:
        return max
    return lambda one, other: one + other


def _read(path: Path) -> list[Family]:
    try:
        kept: list[Any] = from_json(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [(name, kind, text, [(sample, labels, value) for sample, labels, value in samples])
            for name, kind, text, samples in kept]  # fmt: skip


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return STALE_SECONDS
