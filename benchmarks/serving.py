"""Single predictions a second through the mandated executor, beside what the framework can do at all.

    .venv-serving/bin/python -m benchmarks.serving FOLDER     FOLDER holds model.zip, h2o-genmodel.jar, schema.json

One server process holds every variant, so that all are measured in the same process, with the same model, in turns;
the load comes from this process, over keep-alive connections with one request under way on each (closed loop). Needs
no database, and Redis only for `--cache always`.

Variants: `constant`, an ordinary FastAPI route that returns a fixed object; `constant bytes`, a FastAPI route that
returns prepared bytes; `constant, own door`, prepared bytes by the sidecar's own short way, without FastAPI; `plain
executor`, the registry's example as it is written (pydantic body, one `run_in_executor` a request, response model);
`predict`, the sidecar.

Prints one JSON line for each variant and number of connections (median of the rounds), then a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

PROJECT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "constant": "/bench/constant",
    "constant bytes": "/bench/constant-bytes",
    "constant, own door": "/bench/door",
    "plain executor": "/bench/executor",
    "predict": "/v1/predict",
}
DISTINCT_REQUESTS = 2_000
WARM_UP_SECONDS = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


class Connection(asyncio.Protocol):
    """One client: sends the next request when the answer to the last is complete."""

    def __init__(self, requests: Sequence[bytes], latencies: list[float]) -> None:
        self._requests = requests
        self._latencies = latencies
        self._next = random.randrange(len(requests))
        self._answer = b""
        self._sent = 0.0
        self.stopped = False
        self.failed = 0

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; when it is whole, note the time and go on."""
        answer = self._answer = self._answer + data
        if (head := answer.find(b"\r\n\r\n")) < 0:
            return
        at = answer.index(b"content-length: ") + 16
        if len(answer) < head + 4 + int(answer[at : answer.index(b"\r\n", at)]):
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self.failed += not answer.startswith(b"HTTP/1.1 200")
        self._answer = b""
        if self.stopped:
            self._transport.close()
        else:
            self._send()

    def _send(self) -> None:
        self._next = (self._next + 1) % len(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next])


async def load(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> tuple[list[float], int]:
    """Latencies in seconds and failures of a closed loop."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(requests, latencies), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for _, protocol in made:
        protocol.stopped = True
    await asyncio.sleep(0.2)
    return latencies, sum(protocol.failed for _, protocol in made)


def measure(port: int, pid: int, requests: Sequence[bytes], connections: int, seconds: float) -> dict[str, float]:
    """One round of one variant."""
    before, started = _cpu_seconds(pid), time.perf_counter()
    latencies, failed = uvloop.run(load(port, requests, connections, seconds))
    elapsed = time.perf_counter() - started - 0.2
    ordered = sorted(latencies)
    return {
        "requests_per_second": len(ordered) / elapsed,
        "p50_milliseconds": ordered[len(ordered) // 2] * 1e3,
        "p99_milliseconds": ordered[len(ordered) * 99 // 100] * 1e3,
        "server_cpu_microseconds": (_cpu_seconds(pid) - before) / len(ordered) * 1e6,
        "failed": failed,
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _requests(path: str, example: dict[str, Any], schema: dict[str, Any]) -> list[bytes]:
    """Distinct requests: the numbers of the example vector, varied a little within their declared ranges."""
    choose = random.Random(1)
    made = []

    def varied(name: str, value: Any) -> Any:
        if type(value) is not float:
            return value
        column = schema["columns"][name]
        low, high = column["minimum"], column["maximum"]
        value *= choose.uniform(0.7, 1.3)
        value = value if low is None else max(value, low)
        return value if high is None else min(value, high)

    for _ in range(DISTINCT_REQUESTS):
        features = {name: varied(name, value) for name, value in example["features"].items()}
        body = json.dumps({**example, "features": features}).encode()
        lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(body)}"]
        made.append("\r\n".join([*lines, "", ""]).encode() + body)
    return made


def _await_ready(port: int) -> dict[str, Any]:
    """The example request of the served model, as soon as there is one."""
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/bench/here") as answer:
                return dict(json.load(answer)["example"])
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All rounds of all variants; one result for each variant and number of connections."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.listen(1024)
    code = "import sys; from pathlib import Path; from benchmarks.serving_variants import serve; "
    code += "serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    command = [sys.executable, "-c", code, str(arguments.folder), arguments.cache, str(listener.fileno())]
    server = subprocess.Popen(command, cwd=PROJECT, pass_fds=[listener.fileno()])
    listener.close()
    results: list[dict[str, Any]] = []
    try:
        example = _await_ready(port)
        schema = json.loads((arguments.folder / "schema.json").read_text())
        requests = {name: _requests(path, example, schema) for name, path in VARIANTS.items()}
        for name in VARIANTS:
            measure(port, server.pid, requests[name], 16, WARM_UP_SECONDS)
        for connections in arguments.connections:
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
            for _ in range(arguments.rounds):
                for name in VARIANTS:
                    rounds[name].append(measure(port, server.pid, requests[name], connections, arguments.seconds))
            results += [_result(name, connections, arguments.cache, rounds) for name in VARIANTS]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    return results


def _result(name: str, connections: int, cache: str, rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of the rounds. Ratios are taken within a round: a busy machine slows its neighbours alike."""
    found = rounds[name]
    medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
    ratios = {
        f"of_{reference.replace(' ', '_')}": statistics.median(
            one["requests_per_second"] / other["requests_per_second"]
            for one, other in zip(found, rounds[reference], strict=True)
        )
        for reference in ("constant", "constant bytes", "plain executor")
    }
    return {"variant": name, "connections": connections, "cache": cache, **medians, **ratios}


def report(results: list[dict[str, Any]]) -> None:
    """JSON lines, then a table."""
    for result in results:
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))
    titles = f"{'variant':<20}{'c':>4}{'req/s':>9}{'of constant':>13}{'of bytes':>10}{'of plain':>10}"
    print(f"\n{titles}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}")
    for result in results:
        print(
            f"{result['variant']:<20}{result['connections']:>4}{result['requests_per_second']:>9.0f}"
            f"{result['of_constant']:>13.0%}{result['of_constant_bytes']:>10.0%}{result['of_plain_executor']:>10.0%}"
            f"{result['p50_milliseconds']:>9.2f}{result['p99_milliseconds']:>9.2f}"
            f"{result['server_cpu_microseconds']:>9.0f}"
            + (f"  {result['failed']:.0f} FAILED" if result["failed"] else "")
        )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds model.zip, h2o-genmodel.jar and schema.json")
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", choices=["always", "adaptive", "off"], default="adaptive")
    report(run(parser.parse_args()))


if __name__ == "__main__":
    main()
