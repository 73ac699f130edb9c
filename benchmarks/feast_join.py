"""The point-in-time join beside Feast's, on the same vectors and labels, data frame to data frame.

    make bench-feast                                    1,000,000 vectors, 100,000 labels
    make bench-feast ARGUMENTS=--quick                  a tenth of it

Starts a PostgreSQL of its own, and Feast in a process and an environment of its own (`feast-requirements.txt`; it
cannot share ours), and loads the vectors of `benchmarks.feature_store` into both. Each round times our join and, one
after the other, those of Feast's offline stores:

postgres              on the same server, declared as Feast's template for PostgreSQL does; primary key as ours
postgres at its best  without the optional `created_timestamp_column`, and the labels lie in a table already
files                 Feast's default: a parquet file, dask
duckdb                the same parquet file, DuckDB

Every answer is compared with ours, value by value, and any difference ends the program with code 1. Prints one JSON
line for each peer with what was seen of its semantics, then a table. Times are medians of the rounds; `times_ours` is
the median of the ratios within a round, since a busy machine slows neighbours alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feature_store import make_labels, make_vectors, seconds_of, the_use_case
from mage_platform.database import Queries, connect
from mage_platform.features.ingest import ingest
from mage_platform.features.point_in_time import point_in_time_join
from mage_platform.local.embedded import running
from mage_platform.local.environments import environments_for
from mage_platform.settings import Settings, load_settings

QUERIES = Queries(Path(__file__).with_name("feast_join.sql"))
PEERS = ("postgres", "postgres at its best", "files", "duckdb")
USE_CASE = the_use_case()
FEATURES = {name: column.type for name, column in USE_CASE.input_schema.columns.items()}
LATENESS = timedelta(hours=6)
"""So long after its event time Feast is told that a vector was created."""


class Feast:
    """The process in which Feast runs, asked one question at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def hear(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: Feast ended; its last words are in {self._folder / 'feast.log'}")
        return dict(json.loads(line))

    def join(self, peer: str, labels: str, *, known_then: bool = False, answer: str | None = None) -> float:
        """Seconds of one join; `answer` names the parquet file for the result."""
        request = {"peer": peer, "labels": labels, "known_then": known_then, "answer": answer}
        if peer == "postgres at its best" and labels == "labels.parquet":
            request["query"] = QUERIES.labels_query
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return float(self.hear()["seconds"])

    def answer(self, peer: str, labels: str, *, known_then: bool = False) -> pd.DataFrame:
        """The result of one join, as it came."""
        self.join(peer, labels, known_then=known_then, answer="answer.parquet")
        return pd.read_parquet(self._folder / "answer.parquet")


@contextmanager
def feast(settings: Settings, folder: Path) -> Iterator[Feast]:
    """Feast with the vectors declared to all its stores."""
    database = settings.database
    password = settings.database_password
    access = {"host": database.host, "port": database.port, "database": database.name, "user": database.user}
    access["password"] = password.get_secret_value() if password else ""
    (folder / "task.json").write_text(json.dumps({"database": access, "features": FEATURES}))
    python = environments_for("bench-feast")[-1].python
    command = [str(python), str(Path(__file__).with_name("feast_peer.py")), str(folder)]
    with (folder / "feast.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder
        )
    try:
        one = Feast(process, folder)
        one.hear()
        yield one
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load(settings: Settings, folder: Path, vectors: pd.DataFrame, labels: pd.DataFrame) -> None:
    """The same vectors into our store, into Feast's table and into Feast's file; the labels into a table and a file."""
    with connect(settings) as connection:
        ingest(connection, USE_CASE, vectors)
    theirs = vectors[["_entity_id", "_event_time", *FEATURES]].rename(
        columns={"_entity_id": "entity_id", "_event_time": "event_timestamp"}
    )
    theirs.insert(2, "created_timestamp", theirs["event_timestamp"] + LATENESS)
    vector_table, label_table = _microseconds(theirs), _microseconds(labels)
    pq.write_table(vector_table, folder / "vectors.parquet", row_group_size=122_880)  # as DuckDB writes them
    pq.write_table(label_table, folder / "labels.parquet")
    with connect(settings) as connection:
        connection.execute(QUERIES.make_tables)
    with adbc.connect(settings.database_url()) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("vectors", vector_table, mode="append", db_schema_name="feast")
        cursor.adbc_ingest("labels", label_table, mode="append", db_schema_name="feast")
        connection.commit()
    with connect(settings) as connection:
        connection.execute(QUERIES.add_key)
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute(QUERIES.settle)


def _microseconds(frame: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    moment = pa.timestamp("us", "UTC")
    fields = [field.with_type(moment) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def differences(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[int, int]:
    """How many values of the features differ, and how many labels are missing that have no vector anyway.

    A missing label counts as one with no vector, a repeated one as different in all its features.
    """
    found = theirs.set_index("row")
    repeated = int(found.index.duplicated().sum())
    found = found[~found.index.duplicated()].reindex(ours["row"])
    count = repeated * len(FEATURES)
    for name, kind in FEATURES.items():
        mine, other = ours[name].to_numpy(), found[name].to_numpy()
        if kind != "category":
            mine, other = mine.astype(np.float64), other.astype(np.float64)
        count += int((~((mine == other) | (pd.isna(mine) & pd.isna(other)))).sum())
    return count, int((~ours["row"].isin(theirs["row"]) & ours["_vector_event_time"].isna()).sum())


def join(settings: Settings, labels: pd.DataFrame) -> pd.DataFrame:
    """Our join, from the labels to a data frame."""
    labels = labels.rename(columns={"event_timestamp": "event_time"})
    return point_in_time_join(settings, USE_CASE.name, labels, USE_CASE.input_schema).to_pandas()


def semantics(other: Feast, peer: str, folder: Path, ours: pd.DataFrame, labels: pd.DataFrame) -> dict[str, int]:
    """What a peer makes of some labels that have a vector: of twins among them, and of vectors created after them."""
    mine = ours[ours["_vector_event_time"].notna()].head(1_000)
    some = labels[labels["row"].isin(mine["row"])]
    twins = some.head(10).assign(row=some["row"].head(10) + len(labels))
    pq.write_table(_microseconds(some), folder / "some.parquet")
    pq.write_table(_microseconds(pd.concat([some, twins], ignore_index=True)), folder / "twins.parquet")
    with_twins = other.answer(peer, "twins.parquet")
    known_then = other.answer(peer, "some.parquet", known_then=True)
    late = mine["_vector_event_time"] + LATENESS > mine["event_time"]
    return {
        "twins_of_10_left_out": len(some) + len(twins) - len(with_twins),
        "late_vectors_of_1000": int(late.sum()),
        "values_changed_by_filter_by_created_timestamp": differences(mine, known_then)[0],
        "of_labels_with_timely_vectors": differences(mine[~late], known_then)[0],
    }


def measure(settings: Settings, folder: Path, labels: pd.DataFrame, rounds: int) -> list[dict[str, Any]]:
    """All rounds, each join of a peer right after one of ours; then the answers, and one line for each peer."""
    times: dict[str, list[tuple[float, float]]] = {peer: [] for peer in PEERS}
    lines = []
    with feast(settings, folder) as other:
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}" if number else "warm-up", file=sys.stderr, flush=True)
            for peer in PEERS:
                mine = seconds_of(lambda: join(settings, labels))
                times[peer].append((mine, other.join(peer, "labels.parquet")))
        ours = join(settings, labels)
        for peer in PEERS:
            theirs = other.answer(peer, "labels.parquet")
            differing, gaps = differences(ours, theirs)
            mine, seconds = (statistics.median(each) for each in zip(*times[peer][1:], strict=True))
            line = {"peer": peer, "rows": len(labels), "seconds": round(seconds, 3), "our_seconds": round(mine, 3)}
            line["times_ours"] = round(statistics.median(theirs / mine for mine, theirs in times[peer][1:]), 2)
            line |= {"rounds": rounds, "load": round(os.getloadavg()[0], 2), "differing_values": differing}
            line["labels_without_vector_left_out"] = gaps
            line |= {"keeps_order": bool(theirs["row"].is_monotonic_increasing)}
            lines.append(line | semantics(other, peer, folder, ours, labels))
            print(json.dumps(lines[-1]), flush=True)
    return lines


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100,000 vectors and 10,000 labels")
    asked = parser.parse_args()
    count, label_count = (100_000, 10_000) if asked.quick else (asked.vectors, asked.labels)
    chance = np.random.default_rng(7)
    vectors = make_vectors(count, chance)
    labels = make_labels(vectors, label_count, chance).drop(columns="late")
    labels = labels.rename(columns={"event_time": "event_timestamp"})
    labels.insert(0, "row", np.arange(label_count))
    with (
        running(load_settings(), ("postgres",), migrate=True) as settings,
        tempfile.TemporaryDirectory(prefix="feast-") as folder,
    ):
        print("loading both stores", file=sys.stderr, flush=True)
        load(settings, Path(folder), vectors, labels)
        del vectors
        lines = measure(settings, Path(folder), labels, asked.rounds)
    if wrong := sum(line["differing_values"] for line in lines):
        sys.exit(f"error: {wrong:,} values differ between Feast and our join, so their times say nothing")
    print("| Feast's offline store | seconds | ours, seconds | times ours |\n| --- | ---: | ---: | ---: |")
    for line in lines:
        print(f"| {line['peer']} | {line['seconds']:.3g} | {line['our_seconds']:.3g} | {line['times_ours']:.1f} |")


if __name__ == "__main__":
    main()
