"""A batch of 100,000 rows beside a Java loop over the same rows, and single predictions meanwhile.

    .venv-serving/bin/python -m benchmarks.batch FOLDER     FOLDER holds model.zip, h2o-genmodel.jar, schema.json

The floor is a loop of Java alone, on one thread, over rows that are encoded already. Beside it, in turns: `scoring`,
the sidecar's scoring of the same encoded rows, on one thread and on all; and whole requests over HTTP, from the first
byte sent to the last received: rows and columns in JSON, an Arrow stream answered with columns in JSON, and one that is
answered with a stream. Then the CPU of each stage of a batch; and single predictions on a few connections, alone and
while each kind of batch is sent without a pause from another process.

Prints JSON lines, then a table. Needs no database and no Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from benchmarks import serving_requests
from benchmarks.serving import Server, Variant, example, measure, serving
from benchmarks.serving_requests import ENTITY, REGION, USE_CASE
from benchmarks.serving_variants import FolderSource
from mage_platform.contracts import BatchHead
from serving import jvm
from serving.batch.answer import Answer
from serving.batch.arrow import read_batch
from serving.batch.columns import ColumnEncoder
from serving.batch.gathered import Batch
from serving.batch.json_request import JsonRequest
from serving.batch.scoring import BatchScorer
from serving.models import ServedModel

PATH = "/v1/predict/batch"
ARROW = "application/vnd.apache.arrow.stream"
DISTINCT_ROWS = 10_000
SINGLE_CONNECTIONS = 4


class Workload:
    """The same rows in every form.

    Args:
        model: Whose features they have.
        rows: How many.
    """

    def __init__(self, model: ServedModel, rows: int) -> None:
        choose = random.Random(1)
        some = [model.example(choose) for _ in range(min(rows, DISTINCT_ROWS))]
        vectors = [some[row % len(some)] for row in range(rows)]
        encoded = b"".join(model.row(vector, REGION) for vector in vectors)
        self.rows = rows
        self.encoded = np.frombuffer(encoded, np.float64).reshape(rows, -1)
        head = {"use_case": USE_CASE, "region": REGION}
        columns = {name: [vector[name] for vector in vectors] for name in some[0]}
        as_rows = [{"entity_id": ENTITY, "features": vector} for vector in vectors]
        sink = pa.BufferOutputStream()
        table = pa.table(columns)
        with ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=16_384)
        stream = bytes(sink.getvalue())
        of_json = {"content-type": "application/json"}
        query = f"{PATH}?use_case={USE_CASE}&region={REGION}"
        self.requests: dict[str, tuple[str, bytes, dict[str, str]]] = {
            "rows": (PATH, json.dumps({**head, "rows": as_rows}, separators=(",", ":")).encode(), of_json),
            "columns": (PATH, json.dumps({**head, "columns": columns}, separators=(",", ":")).encode(), of_json),
            "Arrow, JSON back": (query, stream, {"content-type": ARROW}),
            "Arrow, Arrow back": (query, stream, {"content-type": ARROW, "accept": ARROW}),
        }


def send(port: int, request: tuple[str, bytes, dict[str, str]]) -> float:
    """Seconds of one request."""
    path, body, headers = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    started = time.perf_counter()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    received = answer.read()
    seconds = time.perf_counter() - started
    connection.close()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {received[:500]!r}")
    return seconds


def send_without_a_pause(port: int, request: tuple[str, bytes, dict[str, str]]) -> None:
    """Until the process is ended."""
    while True:
        send(port, request)


def in_turns(port: int, model: ServedModel, work: Workload, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Seconds of everything, the floor first; medians of the rounds, and their ratios to the floor within a round."""
    loop_in_java = model.mojo.slot(work.rows)
    packed = work.encoded.tobytes()

    def floor() -> float:
        loop_in_java.seconds_per_row = 0.0
        loop_in_java.score_block(packed, work.rows)
        return loop_in_java.seconds_per_row * work.rows

    def scoring(side_by_side: int) -> Callable[[], float]:
        def measured() -> float:
            async def score() -> float:
                scorer = BatchScorer(side_by_side)
                started = time.perf_counter()
                await scorer.score(model, work.encoded)
                seconds = time.perf_counter() - started
                scorer.close()
                return seconds

            return asyncio.run(score())

        return measured

    steps: dict[str, Callable[[], float]] = {"Java loop": floor}
    steps |= {f"scoring, {count} thread{'s' * (count > 1)}": scoring(count) for count in sorted({1, threads})}
    steps |= {f"request: {name}": lambda one=one: send(port, one) for name, one in work.requests.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            seconds = step()
            if turn:  # the first one is for the JIT
                found[name].append(seconds)
    return [
        {
            "what": name,
            "rows_per_second": work.rows / statistics.median(seconds),
            "of_java": statistics.median(f / s for f, s in zip(found["Java loop"], seconds, strict=True)),
            "mib": len(work.requests[name.removeprefix("request: ")][1]) / (1 << 20) if "request" in name else None,
        }
        for name, seconds in found.items()
    ]


def stages(model: ServedModel, work: Workload) -> list[dict[str, Any]]:
    """CPU of each stage on its own, which other work on the machine hardly changes; the least of three times."""
    encoder = ColumnEncoder(model.encoder, model.levels)
    head = BatchHead(use_case=USE_CASE, region=REGION)
    loop_in_java = model.mojo.slot(work.rows)

    def read(form: str) -> Batch:
        request = JsonRequest(work.requests[form][1], work.rows)
        request.head()
        return request.encode(model, encoder)

    def read_arrow() -> Batch:
        return read_batch(work.requests["Arrow, JSON back"][1], head, model, encoder, work.rows)

    rows, columns = read("rows"), read("columns")
    assert np.array_equal(rows.rows, columns.rows, equal_nan=True)
    scores = np.frombuffer(loop_in_java.score_block(work.encoded.tobytes(), work.rows), np.float64)
    scores = scores.reshape(work.rows, -1)
    steps: dict[str, Callable[[], Any]] = {
        "Java loop": lambda: loop_in_java.score_block(work.encoded.tobytes(), work.rows),
        "read rows": lambda: read("rows"),
        "read columns": lambda: read("columns"),
        "read Arrow": read_arrow,
        "write rows": lambda: Answer(model, rows, scores, 0).as_json(),
        "write columns": lambda: Answer(model, columns, scores, 0).as_json(),
        "write Arrow": lambda: Answer(model, columns, scores, 0).as_arrow(),
    }
    return [{"stage": name, "cpu_microseconds_per_row": _cpu(step) / work.rows * 1e6} for name, step in steps.items()]


def _cpu(step: Callable[[], Any]) -> float:
    found = []
    for _ in range(3):
        started = time.thread_time()
        step()
        found.append(time.thread_time() - started)
    return min(found)


def singles(server: Server, folder: Path, work: Workload, seconds: float) -> list[dict[str, Any]]:
    """Single predictions, alone and beside each kind of batch."""
    bodies = [serving_requests.single(vector) for vector in serving_requests.vectors(folder, example(server))]
    single = Variant("single", server, serving_requests.posts("/v1/predict", bodies))
    results = []
    for name in ("none", *work.requests):
        sender = None
        if name != "none":
            sender = multiprocessing.get_context("spawn").Process(
                target=send_without_a_pause, args=(server.port, work.requests[name]), daemon=True
            )
            sender.start()
            time.sleep(2.0)  # until it sends
        found = measure(single, SINGLE_CONNECTIONS, lambda client: client.closed_loop(seconds))
        results.append({"beside": name, **found})
        if sender is not None:
            sender.terminate()
            sender.join()
            time.sleep(1.0)
    return results


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    with serving(arguments.folder, "off", alone=True) as server:
        jvm.start(heap_mib=256)
        source = FolderSource(arguments.folder)
        model = ServedModel.load(source.champions()[0], source.mojo, source.genmodel)
        work = Workload(model, arguments.rows)
        speeds = in_turns(server.port, model, work, arguments.rounds, arguments.threads)
        costs = stages(model, work)
        report(speeds, costs, singles(server, arguments.folder, work, arguments.seconds))


def report(speeds: list[dict[str, Any]], costs: list[dict[str, Any]], beside: list[dict[str, Any]]) -> None:
    """JSON lines, then a table."""
    for result in (*speeds, *costs, *beside):
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))
    print(f"\n{'':<28}{'rows/s':>10}{'of the Java loop':>18}{'MiB sent':>10}")
    for speed in speeds:
        size = "" if speed["mib"] is None else f"{speed['mib']:.1f}"
        print(f"{speed['what']:<28}{speed['rows_per_second']:>10,.0f}{speed['of_java']:>18.0%}{size:>10}")
    print(f"\n{'stage':<28}{'CPU µs a row':>14}")
    for cost in costs:
        print(f"{cost['stage']:<28}{cost['cpu_microseconds_per_row']:>14.2f}")
    print(f"\n{'single predictions beside':<28}{'req/s':>10}{'p50 ms':>18}{'p99 ms':>10}")
    for one in beside:
        print(
            f"{one['beside']:<28}{one['requests_per_second']:>10,.0f}{one['p50_milliseconds']:>18.2f}"
            f"{one['p99_milliseconds']:>10.2f}" + (f"  {one['failed']} FAILED" if one["failed"] else "")
        )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds model.zip, h2o-genmodel.jar and schema.json")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of single predictions beside each kind of batch")
    parser.add_argument("--threads", type=int, default=2, help="of the scoring that is measured without a request")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
