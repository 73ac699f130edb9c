"""The feature store beside its floors: what bare SQL on the same data takes, in the same run.

    make bench-features                                        1,000,000 vectors, 100,000 labels
    .venv/bin/python -m benchmarks.feature_store --quick       a tenth of it
    .venv/bin/python -m benchmarks.feature_store --memory      what streaming 5,000,000 vectors for training takes

Starts a PostgreSQL of its own in a temporary folder, without PgBouncer, and removes it afterwards. Vectors have 13
features (10 numbers, 1 integer, 2 categories) and lie ten to an entity, 36 hours apart.

ingest             data frame into empty `features` with keys   | COPY of prepared text into the same columns and keys,
                   and GIN: all vectors, and 100,000 of them    | without GIN
description        statistics of all features of them all       | the ingest of the line above
join               data frame to data frame                     | LATERAL over labels that lie in a table, aggregated in
                                                                  the server
join, known then   the same among revisions                     | the same floor
latest, one        `latest_vector`, p50                         | read by the primary key, p50
latest, 1,000      `latest_vectors`, p50                        | join with the primary key, p50
training read      `training_set` of all vectors                | COPY of the same rows, joined by their keys and in the
                                                                  same order, thrown away as they arrive
training, values   the same                                     | the same join, aggregated in the server: nothing is
                                                                  sorted or sent
training, files    `training_files`                             | the floor of the read

Prints one JSON line for each, then a table. `times_floor` is the time over that of the floor; `peak_mib` is what the
resident memory of this process grew by at most. Medians of the rounds, which alternate with those of the floor.
With `--memory` it is the memory of a process that does nothing else, on top of what its imports take.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from mage_platform.contracts import FeatureColumn, TrainingWindow, UseCase
from mage_platform.database import Queries, connect
from mage_platform.features.ingest import ingest
from mage_platform.features.online import latest_vector, latest_vectors
from mage_platform.features.point_in_time import point_in_time_join
from mage_platform.features.training_set import training_files, training_set
from mage_platform.features.windows import describe_window
from mage_platform.local.embedded import running
from mage_platform.settings import Settings, load_settings

QUERIES = Queries(Path(__file__).with_name("feature_store.sql"))
NUMBERS = [f"number_{place}" for place in range(10)]
START = datetime(2024, 1, 1, tzinfo=UTC)
VECTORS_AN_ENTITY, HOURS_BETWEEN = 10, 36
END = START + timedelta(hours=HOURS_BETWEEN * (VECTORS_AN_ENTITY + 1))
WINDOW = TrainingWindow(
    train_until=END, validate_until=END + timedelta(1), blend_until=END + timedelta(2), test_until=END + timedelta(3)
)
ROWS_A_PIECE = 500_000
PAGE = os.sysconf("SC_PAGE_SIZE")
Work = Callable[[], object]


def the_use_case() -> UseCase:
    """A use case with 13 features and one region."""
    columns = {name: FeatureColumn(type="number", missing="allowed") for name in NUMBERS}
    columns |= {"hour": FeatureColumn(type="integer")}
    columns |= {name: FeatureColumn(type="category") for name in ("carrier", "aircraft")}
    window = {name: getattr(WINDOW, name) for name in TrainingWindow.model_fields}
    return UseCase.model_validate(
        {
            "name": "bench",
            "title": "Benchmark",
            "source": {"file": "none.csv"},
            "entity": {"key": ["entity"]},
            "event_time": "event_time",
            "region": "region",
            "target": {"column": "late", "known_at": "known_at"},
            "features": {"columns": columns},
            "training": window,
        }
    )


def make_vectors(count: int, chance: np.random.Generator) -> pd.DataFrame:
    """Vectors without labels, as `build_vectors` gives them, in order of event time as a nightly ingest has them."""
    entities = max(1, count // VECTORS_AN_ENTITY)
    ids = np.array([str(uuid.UUID(bytes=chance.bytes(16))) for _ in range(entities)], dtype=object)
    row = np.arange(count)
    seconds = row // entities * HOURS_BETWEEN * 3600 + row % entities % 3600
    columns: dict[str, Any] = {
        "_entity_id": ids[row % entities],
        "_event_time": pd.Timestamp(START) + pd.to_timedelta(seconds, unit="s"),
        "_region": "north",
        "_label": pd.array([pd.NA] * count, dtype="Int8"),
        "_known_at": pd.Series([pd.NaT] * count, dtype="datetime64[ns, UTC]"),
    }
    for name in NUMBERS:
        columns[name] = np.where(chance.random(count) < 0.02, np.nan, chance.normal(size=count))
    columns["hour"] = pd.array(chance.integers(0, 24, count), dtype="Int64")
    columns["carrier"] = chance.choice([f"carrier {place}" for place in range(16)], count)
    columns["aircraft"] = chance.choice([f"N{place}" for place in range(4000)], count)
    return pd.DataFrame(columns)


def make_labels(vectors: pd.DataFrame, count: int, chance: np.random.Generator) -> pd.DataFrame:
    """Labels of random entities at random moments of the span."""
    span = HOURS_BETWEEN * VECTORS_AN_ENTITY * 3600 * 1_000_000
    return pd.DataFrame(
        {
            "entity_id": chance.choice(vectors["_entity_id"].to_numpy(), count),
            "event_time": pd.Timestamp(START) + pd.to_timedelta(chance.integers(0, span, count), unit="us"),
            "late": chance.integers(0, 2, count),
        }
    )


@contextmanager
def peak_memory(peak: list[float]) -> Iterator[None]:
    """Note by how many MiB the resident memory of this process grew at most."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20

    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # else what an earlier work left free hides what this one takes
    before, done = resident(), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def seconds_of(work: Work) -> float:
    """How long some work takes."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def side_by_side(what: str, rows: int, work: Work, floor: Work, rounds: int, warm_up: int = 1) -> dict[str, Any]:
    """Median times of a work and of its floor, in turns, after rounds that do not count."""
    times: list[tuple[float, float]] = []
    peak = [0.0]
    for _ in range(rounds + warm_up):
        floor_seconds = seconds_of(floor)
        with peak_memory(peak):
            times.append((seconds_of(work), floor_seconds))
    middle, bare = (statistics.median(each) for each in zip(*times[warm_up:], strict=True))
    return result(what, rows, middle, bare, peak[0], rounds=rounds, fastest_seconds=min(mine for mine, _ in times))


def result(what: str, rows: int, mine: float, bare: float, peak: float, **more: object) -> dict[str, Any]:
    """One line of the answer, printed as JSON at once."""
    line = {
        "what": what,
        "rows": rows,
        "seconds": round(mine, 6),
        "floor_seconds": round(bare, 6),
        "times_floor": round(mine / bare, 3),
        "rows_per_second": round(rows / mine),
        "peak_mib": round(peak, 1),
        "load": round(os.getloadavg()[0], 2),
        **{name: round(each, 6) if isinstance(each, float) else each for name, each in more.items()},
    }
    print(json.dumps(line), flush=True)
    return line


def bench_ingest(settings: Settings, use_case: UseCase, vectors: pd.DataFrame, rounds: int) -> dict[str, Any]:
    """Ingest everything into the empty table, and COPY the very same rows; leaves the last ingest behind, labelled."""
    connection = psycopg.connect(settings.database_url(), autocommit=True)

    def write() -> None:
        with connect(settings) as connection:
            ingest(connection, use_case, vectors)

    connection.execute(QUERIES.empty)
    write()  # does not count: it warms up, and gives the floor its rows
    with connection.cursor().copy(QUERIES.copy_out) as copy:
        blocks = [bytes(block) for block in copy]
    connection.execute(QUERIES.make_floor)

    def bare() -> None:
        with connect(settings) as connection, connection.cursor().copy(QUERIES.copy_floor) as copy:
            for block in blocks:
                copy.write(block)

    peak, times = [0.0], []
    for _ in range(rounds):
        connection.execute(QUERIES.empty)
        connection.execute(QUERIES.empty_floor)
        with peak_memory(peak):
            mine = seconds_of(write)
        times.append((mine, seconds_of(bare)))
    middle, floor = (statistics.median(each) for each in zip(*times, strict=True))
    line = result("ingest", len(vectors), middle, floor, peak[0], rounds=rounds, share_of_floor=floor / middle)
    connection.execute(QUERIES.drop_floor)
    connection.execute(QUERIES.label_all, {"use_case": use_case.name})
    connection.execute(QUERIES.vacuum)
    connection.close()
    return line


def bench_description(settings: Settings, use_case: UseCase, rows: int, ingested: float, rounds: int) -> dict[str, Any]:
    """What `describe_features` adds to the ingest of the same vectors."""

    def describe() -> None:
        with connect(settings) as connection:
            describe_window(connection, use_case)

    peak = [0.0]
    with peak_memory(peak):
        mine = statistics.median(seconds_of(describe) for _ in range(rounds))
    return result("description", rows, mine, ingested, peak[0])


def bench_join(
    settings: Settings, use_case: UseCase, labels: pd.DataFrame, rounds: int, workers: int | None
) -> list[dict[str, Any]]:
    """The join of today and the one as known then, beside one plain LATERAL."""
    with connect(settings) as connection:
        connection.execute(QUERIES.make_labels)
        with connection.cursor().copy(QUERIES.copy_labels) as copy:
            for row in labels[["entity_id", "event_time"]].itertuples(index=False):
                copy.write_row(row)
        connection.execute(QUERIES.analyze_labels)

    def floor() -> None:
        with connect(settings) as connection:
            connection.execute(QUERIES.lateral)

    def join(known: bool) -> Work:
        return lambda: point_in_time_join(
            settings, use_case.name, labels, use_case.input_schema, as_known_then=known, workers=workers
        ).to_pandas()

    return [
        side_by_side("join", len(labels), join(False), floor, rounds),
        side_by_side("join, known then", len(labels), join(True), floor, rounds),
    ]


async def bench_latest(
    settings: Settings, use_case: UseCase, vectors: pd.DataFrame, rounds: int
) -> list[dict[str, Any]]:
    """Single and thousandfold look-ups, each beside the read of the very same rows by their keys."""
    entities = max(1, len(vectors) // VECTORS_AN_ENTITY)
    newest = vectors.tail(entities)[["_entity_id", "_event_time"]].sample(2_000, random_state=1, replace=True)
    keys = [(uuid.UUID(each), moment.to_pydatetime()) for each, moment in newest.itertuples(index=False)]
    names = {"use_case": use_case.name, "region": "north"}
    connection = await psycopg.AsyncConnection.connect(settings.database_url(), autocommit=True, prepare_threshold=None)
    times: dict[str, list[float]] = {"one": [], "one bare": [], "many": [], "many bare": []}

    async def timed(what: str, work: Any) -> None:
        clock = time.perf_counter()
        await work
        times[what].append(time.perf_counter() - clock)

    async def bare(query: Any, parameters: list[Any]) -> list[Any]:
        return await (await connection.execute(query, parameters)).fetchall()

    async with connection:
        for key in keys:
            await timed("one", latest_vector(connection, **names, entity_id=key[0]))
            await timed("one bare", bare(QUERIES.by_key, list(key)))
        some = list(dict(keys).items())[:1_000]
        ids, moments = [key[0] for key in some], [key[1] for key in some]
        for _ in range(3 * rounds):
            await timed("many", latest_vectors(connection, **names, entity_ids=ids))
            await timed("many bare", bare(QUERIES.by_keys, [ids, moments]))
    p50 = {what: statistics.median(each) for what, each in times.items()}
    return [
        result("latest, one", 1, p50["one"], p50["one bare"], 0.0, p99_seconds=float(np.quantile(times["one"], 0.99))),
        result(f"latest, {len(some):,}", len(some), p50["many"], p50["many bare"], 0.0),
    ]


def bench_training(settings: Settings, use_case: UseCase, rows: int, rounds: int) -> list[dict[str, Any]]:
    """Everything as tables, and as files that are written as rows come."""
    arguments = (settings, use_case, "north", use_case.input_schema, WINDOW)

    def copy_out() -> None:
        with connect(settings) as connection:
            connection.execute(QUERIES.join_by_partition)
            with connection.cursor().copy(QUERIES.copy_training_rows) as copy:
                for _ in copy:
                    pass

    def aggregate() -> None:
        with connect(settings) as connection:
            connection.execute(QUERIES.join_by_partition)
            connection.execute(QUERIES.aggregate, {"use_case": use_case.name})

    def stream() -> None:
        with tempfile.TemporaryDirectory() as folder:
            training_files(*arguments, Path(folder))

    def read() -> None:
        training_set(*arguments)

    return [
        side_by_side("training read", rows, read, copy_out, rounds),
        side_by_side("training, values", rows, read, aggregate, rounds),
        side_by_side("training, files", rows, stream, copy_out, rounds),
    ]


def stream_alone(settings: Settings, use_case: UseCase, folder: Path) -> dict[str, Any]:
    """Stream everything into files, then read what evaluation needs, in a process that does nothing else."""
    before, clock = highest_memory(), time.perf_counter()
    files = training_files(settings, use_case, "north", use_case.input_schema, WINDOW, folder)
    seconds, streamed = time.perf_counter() - clock, highest_memory()
    parts = {name: pq.read_table(file, columns=["_label", "carrier"]) for name, file in files.items()}
    return {
        "rows": sum(map(len, parts.values())),
        "seconds": round(seconds, 1),
        "files_mib": round(sum(file.stat().st_size for file in files.values()) / 2**20),
        "imports_mib": round(before),
        "peak_mib": round(streamed - before),
        "peak_with_evaluation_mib": round(highest_memory() - before),
        "load": round(os.getloadavg()[0], 2),
    }


def highest_memory() -> float:
    """The highest resident memory this process ever had, in MiB."""
    # getrusage would count the process that started this one
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def bench_memory(settings: Settings, use_case: UseCase, count: int) -> None:
    """Fill the store piece by piece, then stream all of it."""
    chance = np.random.default_rng(7)
    for first in range(0, count, ROWS_A_PIECE):
        with connect(settings) as connection:
            ingest(connection, use_case, make_vectors(min(ROWS_A_PIECE, count - first), chance))
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute(QUERIES.label_all, {"use_case": use_case.name})
        connection.execute(QUERIES.vacuum)
    alone = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as folder, alone:
        line = alone.submit(stream_alone, settings, use_case, Path(folder)).result()
    print(json.dumps({"what": "training, files", **line}), flush=True)


def as_table(lines: list[dict[str, Any]]) -> str:
    """The lines as a Markdown table."""
    head = ["what", "rows", "seconds", "floor, seconds", "times floor", "rows/s", "peak MiB"]
    names = ["what", "rows", "seconds", "floor_seconds", "times_floor", "rows_per_second", "peak_mib"]
    rows = [[f"{line[name]:,.6g}" if isinstance(line[name], float) else f"{line[name]:,}" if isinstance(line[name], int)
             else line[name] for name in names] for line in lines]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] + ["---:"] * 6, *rows])


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="connections of a join; one for each processor by default")
    parser.add_argument("--quick", action="store_true", help="100,000 vectors and 10,000 labels")
    parser.add_argument(
        "--memory", type=int, nargs="?", const=5_000_000, metavar="VECTORS",
        help="only stream so many vectors (5,000,000) for training, and print the memory it takes",
    )  # fmt: skip
    asked = parser.parse_args()
    count, label_count = (100_000, 10_000) if asked.quick else (asked.vectors, asked.labels)
    chance, use_case = np.random.default_rng(7), the_use_case()
    if asked.memory:
        with running(load_settings(), ("postgres",), migrate=True) as settings:
            bench_memory(settings, use_case, asked.memory)
        return
    vectors = make_vectors(count, chance)
    labels = make_labels(vectors, label_count, chance)
    with running(load_settings(), ("postgres",), migrate=True) as settings:
        lines = [
            bench_ingest(settings, use_case, vectors.head(rows), asked.rounds)
            for rows in sorted({min(100_000, count), count})
        ]
        lines += [bench_description(settings, use_case, count, lines[-1]["seconds"], asked.rounds)]
        lines += bench_join(settings, use_case, labels, asked.rounds, asked.workers)
        lines += asyncio.run(bench_latest(settings, use_case, vectors, asked.rounds))
        del vectors, labels
        lines += bench_training(settings, use_case, count, asked.rounds)
    print(as_table(lines))


if __name__ == "__main__":
    main()
