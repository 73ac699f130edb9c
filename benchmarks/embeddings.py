"""Storing embeddings, beside a bare COPY of the very same into a plain table without index, in the same run.

    make bench-embeddings                               20,000 embeddings, 200,000 vectors

Starts a PostgreSQL of its own in a temporary folder, with vectors of `benchmarks.feature_store`.

in bulk          `store_embeddings_in_bulk` where none were stored       | COPY
  storing        the part of it that writes                              | COPY
  index          the part of it that builds the HNSW index               | CREATE INDEX on the plain table, 256 MiB
again            the same once more: nothing changes                     | COPY
one by one       `store_embeddings` of a tenth, into the index as it is  | COPY of that tenth

Prints one JSON line for each, then a table. One round: the state before cannot be had twice.
"""

from __future__ import annotations

import argparse
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import structlog

from benchmarks.feature_store import QUERIES as VECTOR_QUERIES
from benchmarks.feature_store import make_vectors, result, seconds_of, the_use_case
from mage_platform.database import Queries, connect
from mage_platform.features.bulk import store_embeddings_in_bulk
from mage_platform.features.embeddings import DIMENSIONS, copy_blocks, store_embeddings
from mage_platform.features.ingest import ingest
from mage_platform.local.embedded import running
from mage_platform.settings import Settings, load_settings

QUERIES = Queries(Path(__file__).with_name("embeddings.sql"))
USE_CASE = the_use_case()


def copy_seconds(settings: Settings, load: tuple[Any, ...], *, index: bool = False) -> tuple[float, float]:
    """Seconds of a bare COPY of these embeddings, and of the index on them where it is wanted."""
    with connect(settings) as connection:
        connection.execute(QUERIES.make_floor)

    def copy() -> None:
        with connect(settings) as connection, connection.cursor().copy(QUERIES.copy_floor) as stream:
            for block in copy_blocks(*load):
                stream.write(block)

    def build() -> None:
        with connect(settings) as connection:
            connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
            connection.execute(QUERIES.index_floor)

    seconds = seconds_of(copy), seconds_of(build) if index else 0.0
    with connect(settings) as connection:
        connection.execute(QUERIES.drop_floor)
    return seconds


def measure(settings: Settings, load: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All lines."""
    count = len(load[0])
    copy_seconds(settings, load)  # warms up
    copied, built = copy_seconds(settings, load, index=True)
    with structlog.testing.capture_logs() as logs:
        report = store_embeddings_in_bulk(settings, USE_CASE.name, *load)
    index = sum(each["seconds"] for each in logs if each["event"] == "index of the feature vectors made")
    lines = [
        result("in bulk", count, report.seconds, copied, 0.0),
        result("  storing", count, report.seconds - index, copied, 0.0),
        result("  index", count, index, built, 0.0),
    ]
    copied, _ = copy_seconds(settings, load)
    lines.append(result("again", count, store_embeddings_in_bulk(settings, USE_CASE.name, *load).seconds, copied, 0.0))
    ids, moments, matrix = load
    some = (ids[: count // 10], moments[: count // 10], -matrix[: count // 10])
    copied, _ = copy_seconds(settings, some)
    with connect(settings) as connection:
        report = store_embeddings(connection, USE_CASE.name, *some)
    return [*lines, result("one by one", report.written, report.seconds, copied, 0.0)]


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
    for line in lines:
        numbers = f"{line['seconds']:.3g} | {line['floor_seconds']:.3g} | {line['times_floor']:.3g}"
        print(f"| {line['what'].strip()} | {line['rows']:,} | {numbers} | {line['rows_per_second']:,} |")


if __name__ == "__main__":
    main()
