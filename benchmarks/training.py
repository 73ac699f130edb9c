"""Training through Mage beside the same H2O calls in a plain script, and how the cost grows with the regions.

    make bench-training                                     flights, then 3, 30 and 300 small regions (half an hour)
    .venv/bin/python -m benchmarks.training --regions 3,30  without the 300
    .venv/bin/python -m benchmarks.training --only growth   without the flights

Starts PostgreSQL and H2O of its own in a temporary folder, and removes them afterwards.

flights   `mage-platform run train_regional_models` on the use case that ships | one process a region, as many side
          (three regions and the pooled model)                                   by side as Mage has children: upload
                                                                                 the same rows as parquet files, the
                                                                                 same AutoML, predict, download the MOJO
                                                                                 (`benchmarks/plain_training.py`)
growth    the same command on regions of 300 rows each, two models a region    | the same, one region after the other in
                                                                                 one process, for the first 10 of them

The plain script starts from files that lie ready; `reading_seconds` is what it took to read the same rows from the
feature store and write those files, one region after the other, and `times_floor_with_reading` counts it to the floor.
It runs twice, once before anything is timed, because an H2O that has just started is slower.

Prints one JSON line for each, then tables. `times_floor` is the run's time, from its first block to its last, over that
of the plain script; of the growth, the time of a region over the time of a region. The AUCs stand beside those of the
reference: scikit-learn's HistGradientBoosting on the same information.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mage_platform.contracts import POOLED, UseCase
from mage_platform.database import connect
from mage_platform.features.training_set import KEYS, training_set
from mage_platform.features.vectors import build_vectors
from mage_platform.h2o_login import credentials
from mage_platform.ingestion import store_vectors
from mage_platform.local.embedded import running
from mage_platform.local.surroundings import block_environment
from mage_platform.registry import champions
from mage_platform.settings import PROJECT, Settings, load_settings
from mage_platform.sources import load_rows
from mage_platform.training.plan import plan_regions
from mage_platform.use_cases import load_use_case
from tests.training import small_tables

REFERENCE = {"EWR": 0.72, "JFK": 0.71, "LGA": 0.71}
PLAIN = Path(__file__).with_name("plain_training.py")
ROWS_A_REGION, PLAIN_REGIONS = 300, 10


def through_mage(settings: Settings, use_case: str) -> dict[str, Any]:
    """Train by the command line; its own account of the run, and how long the command took."""
    clock = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mage_platform", "run", "train_regional_models", "--use-case", use_case, "--json"],
        env={**os.environ, **block_environment(settings)}, cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    run: dict[str, Any] = json.loads(done.stdout)
    return {**run, "command_seconds": time.perf_counter() - clock}


def prepare_mage(settings: Settings) -> None:
    """Make Mage's metadata database: the first thing a new platform does, long before a training."""
    code = "import os; from pathlib import Path; from mage_platform.orchestration.headless import open_project; "
    code += "open_project(Path.cwd()); os._exit(0)"
    environment = {**os.environ, **block_environment(settings)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=PROJECT, capture_output=True, check=True)


def export(settings: Settings, use_case: UseCase, regions: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rows of each region as files, and what a plain script needs to know of each."""
    jobs = []
    for plan in plan_regions(settings, use_case, run="bench", regions=regions):
        schema = use_case.pooled_schema if plan.is_pooled else use_case.input_schema
        parts = training_set(settings, use_case, plan.region, schema, plan.window)
        place = folder / f"{len(jobs)}"
        place.mkdir(parents=True)
        for name, table in parts.items():
            pq.write_table(_plain(table), place / f"{name}.parquet")
        training = use_case.training
        jobs.append(
            {
                "url": settings.h2o.url,
                "login": credentials(settings.h2o_password),
                "folder": str(place),
                "project": f"plain_{use_case.name}_{len(jobs)}",
                "factors": [n for n, c in schema.columns.items() if c.type in ("category", "boolean")],
                "features": schema.names,
                "options": {
                    "max_models": plan.maximum_models, "max_runtime_secs": plan.maximum_runtime_seconds,
                    "seed": plan.seed, "nfolds": 0, "sort_metric": "AUC", "stopping_metric": "AUC",
                    "stopping_rounds": training.stopping_rounds, "stopping_tolerance": training.stopping_tolerance,
                    "include_algos": training.include_algorithms, "exclude_algos": training.exclude_algorithms,
                },
            }
        )  # fmt: skip
    return jobs


def _plain(table: pa.Table) -> pa.Table:
    return table.drop_columns(list(KEYS))


def plain(groups: list[list[dict[str, Any]]], *, side_by_side: int = 1) -> float:
    """Seconds that a plain script takes, one process for each group of jobs."""
    clock = time.perf_counter()
    waiting, working = list(groups), list[subprocess.Popen[str]]()
    while waiting or working:
        while waiting and len(working) < side_by_side:
            process = subprocess.Popen([sys.executable, str(PLAIN)], stdin=subprocess.PIPE, text=True)
            assert process.stdin is not None
            process.stdin.write(json.dumps(waiting.pop(0)))
            process.stdin.close()
            working.append(process)
        for process in [each for each in working if each.poll() is not None]:
            if process.returncode:
                sys.exit("the plain script failed")
            working.remove(process)
        time.sleep(0.02)
    return time.perf_counter() - clock


def bench_flights(settings: Settings, folder: Path) -> dict[str, Any]:
    """The use case that ships."""
    use_case = load_use_case(settings, "flight_delays")
    rows = load_rows(settings, use_case)
    store_vectors(settings, use_case, build_vectors(settings, use_case, rows[rows["wind_speed_mph"].fillna(0) < 200]))
    clock = time.perf_counter()
    jobs = export(settings, use_case, [POOLED, *REFERENCE], folder / "flights")
    reading = time.perf_counter() - clock
    # Once before anything counts: an H2O that has just started compiles its own code meanwhile.
    cold = plain([[job] for job in jobs], side_by_side=settings.training.parallel_regions)
    run = through_mage(settings, use_case.name)
    floor = plain([[job] for job in jobs], side_by_side=settings.training.parallel_regions)
    with connect(settings) as connection:
        models = {each.model.region: each.model for each in champions(connection, use_case=use_case.name)}
    return result(
        "flights", len(jobs), run, floor,
        cold_floor_seconds=round(cold, 1),
        reading_seconds=round(reading, 1),
        times_floor_with_reading=round(run["elapsed_seconds"] / (floor + reading), 3),
        auc={region: round(model.metrics.auc, 4) for region, model in models.items()},  # type: ignore[union-attr]
        reference_auc=REFERENCE,
        naive_auc={region: round(model.naive_metrics.auc, 4) for region, model in models.items()},  # type: ignore[union-attr]
    )  # fmt: skip


def bench_growth(settings: Settings, count: int, folder: Path) -> dict[str, Any]:
    """So many regions of 300 rows."""
    name = f"small_{count}"
    cities = {f"region {number:03}": ROWS_A_REGION for number in range(count)}
    table = small_tables.rows("binary", cities)
    declaration = small_tables.DECLARATION.replace("minimum_rows: 50", "minimum_rows: 20")
    small_tables.declare(settings, name, "binary", table, declaration)
    use_case = load_use_case(settings, name)
    store_vectors(settings, use_case, build_vectors(settings, use_case, load_rows(settings, use_case)))
    run = through_mage(settings, name)
    children = len({block["child"] for block in run["blocks"] if block["block"] == "train_region" and block["child"]})
    few = list(cities)[:PLAIN_REGIONS]
    floor = plain([export(settings, use_case, few, folder / name)]) / len(few)
    return result(f"{count} regions", count + 1, run, floor * (count + 1), children=children)


def result(what: str, models: int, run: dict[str, Any], floor: float, **more: object) -> dict[str, Any]:
    """One line, printed at once."""
    seconds = run["elapsed_seconds"]
    line = {
        "what": what,
        "models": models,
        "seconds": round(seconds, 1),
        "command_seconds": round(run["command_seconds"], 1),
        "floor_seconds": round(floor, 1),
        "times_floor": round(seconds / floor, 3),
        "seconds_a_model": round(seconds / models, 2),
        "load": round(os.getloadavg()[0], 2),
        **more,
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)
    return line


def as_table(lines: list[dict[str, Any]]) -> str:
    """The lines as a Markdown table."""
    names = ["what", "models", "seconds", "floor_seconds", "times_floor", "seconds_a_model", "command_seconds"]
    heads = ["what", "models", "seconds", "floor, seconds", "times floor", "seconds a model", "command, seconds"]
    rows = [[str(line[name]) for name in names] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] + ["---:"] * 6, *rows])


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", default="3,30,300", help="numbers of small regions, separated by commas")
    parser.add_argument("--only", choices=["flights", "growth"])
    asked = parser.parse_args()
    counts = [int(each) for each in asked.regions.split(",")]
    lines = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        shutil.copytree(PROJECT / "use_cases" / "flight_delays", folder / "use_cases" / "flight_delays")
        wanted = load_settings(state_folder=folder / "state", use_cases_folder=folder / "use_cases")
        with running(wanted, ("postgres", "pgbouncer", "h2o"), migrate=True) as settings:
            prepare_mage(settings)
            if asked.only != "growth":
                lines.append(bench_flights(settings, folder))
            if asked.only != "flights":
                lines += [bench_growth(settings, count, folder) for count in counts]
    print(as_table(lines))


if __name__ == "__main__":
    main()
