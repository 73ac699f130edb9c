"""Feast's side of `benchmarks.feast_join`; runs in the environment of Feast, which has nothing of the platform.

Reads what to do from `task.json` in a folder, declares the same vectors to each offline store, then answers one request
a line (JSON, see `answer`) on standard input until it ends. Feast's own words go to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["FEAST_USAGE"] = "False"  # releases before 0.40 told home what was called

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, Int64, String

TYPES = {"number": Float64, "integer": Int64, "category": String}
TIMES = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}


def stores(folder: Path, task: dict[str, Any]) -> dict[str, FeatureStore]:
    """One feature store a peer, each with one feature view over all vectors; no limit of age."""
    postgres = {"type": "postgres", "db_schema": "feast", "sslmode": "disable", **task["database"]}
    table = {"table": "vectors", "timestamp_field": "event_timestamp"}
    file = FileSource(name="vectors", path=str(folder / "vectors.parquet"), **TIMES)
    offline = {
        "postgres": (postgres, PostgreSQLSource(name="vectors", table="vectors", **TIMES)),
        "postgres at its best": ({**postgres, "entity_select_mode": "embed_query"}, PostgreSQLSource(**table)),
        "files": ({"type": "dask"}, file),
        "duckdb": ({"type": "duckdb"}, file),
    }
    return {name: _store(folder / name, *each, features=task["features"]) for name, each in offline.items()}


def _store(folder: Path, offline: dict[str, Any], source: Any, features: dict[str, str]) -> FeatureStore:
    folder.mkdir()
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store=offline,
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    entity = Entity(name="entity", join_keys=["entity_id"], value_type=ValueType.STRING)
    schema = [Field(name="entity_id", dtype=String)]
    schema += [Field(name=name, dtype=TYPES[kind]) for name, kind in features.items()]
    view = FeatureView(name="v", entities=[entity], ttl=timedelta(0), schema=schema, source=source, online=False)
    store.apply([entity, view])
    return store


def answer(store: FeatureStore, folder: Path, request: dict[str, Any], features: list[str]) -> dict[str, float]:
    """Join once, from the labels to a data frame.

    Args:
        store: Of the peer.
        folder: Where the files are.
        request: `labels`, a parquet file, or `query`, the labels as a SELECT; `known_then`, whether vectors created
            after a label are left out; `answer`, a parquet file for the result, or null.
        features: The features wanted.

    Returns:
        `seconds` from the call to the data frame.
    """
    labels = request["query"] if "query" in request else pd.read_parquet(folder / request["labels"])
    wanted = [f"v:{name}" for name in features]
    clock = time.perf_counter()
    job = store.get_historical_features(
        entity_df=labels, features=wanted, filter_by_created_timestamp=request["known_then"]
    )
    found = job.to_df()
    seconds = time.perf_counter() - clock
    if request["answer"]:
        found.to_parquet(folder / request["answer"])
    return {"seconds": seconds}


def main() -> None:
    """Declare everything, say `ready`, then answer."""
    folder = Path(sys.argv[1])
    talk, sys.stdout = sys.stdout, sys.stderr
    task = json.loads((folder / "task.json").read_text())
    peers = stores(folder, task)
    print(json.dumps({"ready": sorted(peers)}), file=talk, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        done = answer(peers[request["peer"]], folder, request, list(task["features"]))
        print(json.dumps(done), file=talk, flush=True)


if __name__ == "__main__":
    main()
