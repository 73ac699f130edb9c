"""Storing embeddings, beside a bare COPY of the very same into a plain table without index, in the same run.

    make bench-embeddings                               20,000 embeddings, 200,000 vectors

Starts a PostgreSQL of its own in a temporary folder, with vectors of `benchmarks.feature_store`.

in bulk       `store_embeddings_in_bulk` where none were stored
  storing     the part of it that writes
  index       the part of it that builds the HNSW index
again         the same once more: nothing changes
one by one    `store_embeddings` of a tenth, changed, into the index as it is

Prints one JSON line for each, then a table. One round: the state before cannot be had twice.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import structlog

from benchmarks.feature_store import QUERIES as VECTOR_QUERIES
from benchmarks.feature_store import make_vectors, seconds_of, the_use_case
from mage_platform.database import Queries, connect
from mage_platform.features.bulk import store_embeddings_in_bulk
from mage_platform.features.embeddings import DIMENSIONS, copy_blocks, store_embeddings
from mage_platform.features.ingest import ingest
from mage_platform.local.embedded import running
from mage_platform.settings import Settings, load_settings

QUERIES = Queries(Path(__file__).with_name("embeddings.sql"))
USE_CASE = the_use_case()


def copy_seconds(settings: Settings, load: tuple[Any, ...]) -> float:
    """Seconds of a bare COPY of these embeddings, median of three."""

    def copy() -> None:
        with connect(settings) as connection, connection.cursor().copy(QUERIES.copy_floor) as stream:
            for block in copy_blocks(*load):
                stream.write(block)

    seconds = []
    for _ in range(3):
        with connect(settings) as connection:
            connection.execute(QUERIES.make_floor)
        seconds.append(seconds_of(copy))
        with connect(settings) as connection:
            connection.execute(QUERIES.drop_floor)
    return statistics.median(seconds)


def line(what: str, count: int, seconds: float, floor: float) -> dict[str, Any]:
    """One line of the answer, printed as JSON at once."""
    made = {"what": what, "embeddings": count, "seconds": round(seconds, 3), "floor_seconds": round(floor, 3)}
    made |= {"times_floor": round(seconds / floor, 2), "a_second": round(count / seconds)}
    print(json.dumps(made | {"load": round(os.getloadavg()[0], 2)}), flush=True)
    return made


def measure(settings: Settings, load: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All lines."""
    count, floor = len(load[0]), copy_seconds(settings, load)
    with structlog.testing.capture_logs() as logs:
        seconds = store_embeddings_in_bulk(settings, USE_CASE.name, *load).seconds
    index = sum(each["seconds"] for each in logs if each["event"] == "index of the feature vectors made")
    lines = [
        line("in bulk", count, seconds, floor),
        line("in bulk: storing", count, seconds - index, floor),
        line("in bulk: index", count, index, floor),
    ]
    floor = copy_seconds(settings, load)
    seconds = store_embeddings_in_bulk(settings, USE_CASE.name, *load).seconds
    lines.append(line("again", count, seconds, floor))
    ids, moments, matrix = (each[: count // 10] for each in load)
    floor = copy_seconds(settings, (ids, moments, matrix))
    with connect(settings) as connection:
        report = store_embeddings(connection, USE_CASE.name, ids, moments, -matrix)
    return [*lines, line("one by one", report.written, report.seconds, floor)]


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--embeddings", type=int, default=20_000)
    asked = parser.parse_args()
    chance = np.random.default_rng(7)
    vectors = make_vectors(asked.vectors, chance)
    some = vectors.sample(asked.embeddings, random_state=1)
    ids = [uuid.UUID(each) for each in some["_entity_id"]]
    moments = [each.to_pydatetime() for each in some["_event_time"]]
    matrix = chance.normal(size=(asked.embeddings, DIMENSIONS)).astype(np.float32)
    with running(load_settings(), ("postgres",), migrate=True) as settings:
        with connect(settings) as connection:
            ingest(connection, USE_CASE, vectors)
        with psycopg.connect(settings.database_url(), autocommit=True) as connection:
            connection.execute(VECTOR_QUERIES.vacuum)
        lines = measure(settings, (ids, moments, matrix))
    print("| what | embeddings | seconds | floor, seconds | times floor | a second |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for each in lines:
        numbers = f"{each['seconds']:.3g} | {each['floor_seconds']:.3g} | {each['times_floor']:.3g}"
        print(f"| {each['what']} | {each['embeddings']:,} | {numbers} | {each['a_second']:,} |")


if __name__ == "__main__":
    main()
