"""Predictions through the mandated executor, beside what the framework can do at all.

    make bench-serving                                        with a model it trains for this; needs no running stack
    make bench-serving CHAMPION="flight_delays JFK"           with a champion, while `make run` is up
    make bench-serving ARGUMENTS="--quick --only closed"      a tenth as long, one part

One server process holds every variant, so that all are measured in the same process, with the same model, in turns; the
load comes from this process (`benchmarks/load.py` says how). Needs no database, and Redis only for `--cache always`.

constant            an ordinary FastAPI route that returns a fixed object
constant bytes      a FastAPI route that returns prepared bytes
constant, own door  prepared bytes by the sidecar's own short way, without FastAPI
plain executor      the registry's example as it is written: pydantic body, one `run_in_executor` a request, response
                    model
predict             the sidecar

closed   requests as fast as they are answered, at 1, 16 and 64 connections
open     requests at 50, 70 and 90 % of the rate at which `constant` answers 16 connections; latency from the moment a
         request should have been sent
batch    many rows a request, as the plain executor takes them and in each form the sidecar takes

Prints one JSON line for each measurement (median of the rounds), then Markdown tables. Ratios are taken within a round:
a busy machine slows neighbours alike.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import serving_requests as requests
from benchmarks.load import Client, Heard, cpu_seconds, resident_mebibytes
from mage_platform.local.java import find_java

PROJECT = Path(__file__).resolve().parent.parent
SERVING = PROJECT / ".venv-serving" / "bin" / "python"
SINGLE = {
    "constant": "/bench/constant",
    "constant bytes": "/bench/constant-bytes",
    "constant, own door": "/bench/door",
    "plain executor": "/bench/executor",
    "predict": "/v1/predict",
}
OPEN_LOOP = ("constant", "plain executor", "predict")
SHARES = (0.5, 0.7, 0.9)
BATCHES = ((1, 500, (1, 16)), (100, 50, (1, 16)), (10_000, 4, (1, 4)))
"""Rows a request, distinct requests, numbers of connections."""
BATCH, JSON, ARROW = "/v1/predict/batch", "application/json", "application/vnd.apache.arrow.stream"
FORMS: dict[str, tuple[str, str, Callable[[Sequence[requests.Vector]], bytes]]] = {
    "plain executor": ("/bench/executor-batch", JSON, requests.as_rows),
    "rows": (BATCH, JSON, requests.as_rows),
    "columns": (BATCH, JSON, requests.as_columns),
    "Arrow": (f"{BATCH}?use_case={requests.USE_CASE}&region={requests.REGION}", ARROW, requests.as_arrow),
}
WARM_UP_SECONDS = 1.5

Line = dict[str, Any]
Work = Callable[[Client], Heard]


@dataclass(frozen=True)
class Server:
    """A server under measurement."""

    port: int
    pid: int


@dataclass(frozen=True)
class Variant:
    """What is asked of a server.

    Args:
        name: In the tables.
        server: Whom to ask.
        requests: Whole HTTP requests.
        rows: Predictions a request asks for.
    """

    name: str
    server: Server
    requests: Sequence[bytes]
    rows: int = 1


@contextmanager
def serving(folder: Path, cache: str = "adaptive", *, alone: bool = False) -> Iterator[Server]:
    """A server process with every variant, or with the sidecar alone, ready to answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.listen(1024)
    code = "import sys; from pathlib import Path; from benchmarks.serving_variants import serve; "
    code += "serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), alone=sys.argv[4] == 'alone')"
    words = [str(folder), cache, str(listener.fileno()), "alone" if alone else "all"]
    surroundings = {**os.environ, "JAVA_HOME": str(find_java().home)}
    process = subprocess.Popen(
        [str(SERVING), "-c", code, *words], cwd=PROJECT, env=surroundings, pass_fds=[listener.fileno()]
    )
    listener.close()
    try:
        await_answer(process, f"http://127.0.0.1:{port}/v1/models/{requests.USE_CASE}/{requests.REGION}")
        yield Server(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def await_answer(process: subprocess.Popen[Any], address: str, seconds: float = 60) -> None:
    """Wait until a server answers with 200."""
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError as error:  # not listening yet, or not ready
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"error: the server of {address} did not come up ({error})")
            time.sleep(0.2)


def measure(variant: Variant, connections: int, work: Work) -> Line:
    """One round of one variant."""
    server = variant.server
    client = Client(server.port, variant.requests, connections)
    before = cpu_seconds(server.pid)
    try:
        heard = work(client)
    finally:
        client.close()
    used = cpu_seconds(server.pid) - before
    found: Line = {
        "requests_per_second": heard.rate,
        "rows_per_second": heard.rate * variant.rows,
        "p50_milliseconds": heard.milliseconds(0.5),
        "p99_milliseconds": heard.milliseconds(0.99),
        "server_cpu_microseconds": used / len(heard.latencies) * 1e6,
        "client_busy": heard.busy,
        "failed": heard.failed,
        "unanswered": heard.unanswered,
    }
    return found if heard.offered is None else {"offered_per_second": heard.offered, **found}


def in_turns(
    variants: Sequence[Variant], connections: int, work: Work, rounds: int, references: Sequence[str] = ()
) -> list[Line]:
    """All rounds, the variants in turn; the median of each, and its ratio to the references of the same round."""
    found: dict[str, list[Line]] = {variant.name: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            found[variant.name].append(measure(variant, connections, work))
    lines = []
    for variant in variants:
        mine = found[variant.name]
        medians = {key: statistics.median(one[key] for one in mine) for key in mine[0]}
        ratios = {
            f"{key}_of_{reference.replace(' ', '_')}": statistics.median(
                one[field] / other[field] for one, other in zip(mine, found[reference], strict=True)
            )
            for reference in references
            for key, field in (("rate", "rows_per_second"), ("p99", "p99_milliseconds"))
        }
        lines.append({"variant": variant.name, "connections": connections, "rows": variant.rows, **medians, **ratios})
    return lines


def said(line: Line) -> Line:
    """Print a line at once."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
    print(json.dumps(rounded, ensure_ascii=False), flush=True)
    return line


def bench_closed(variants: Sequence[Variant], asked: argparse.Namespace) -> list[Line]:
    """As many as go, at each number of connections."""
    references = ("constant", "constant bytes", "plain executor")
    lines = []
    for connections in asked.connections:
        found = in_turns(variants, connections, closed(asked), asked.rounds, references)
        lines += [said({"part": "closed", **line}) for line in found]
    return lines


def bench_open(variants: Sequence[Variant], asked: argparse.Namespace) -> list[Line]:
    """At shares of what the constant answer can do over as many connections."""
    chosen = [variant for variant in variants if variant.name in OPEN_LOOP]
    lines = []
    for connections in asked.connections:
        most = in_turns(chosen[:1], connections, closed(asked), asked.rounds)[0]["requests_per_second"]
        for share in SHARES:
            found = in_turns(chosen, connections, opened(asked, most * share), asked.rounds, ("constant",))
            lines += [said({"part": "open", "share_of_constant": share, **line}) for line in found]
    return lines


def closed(asked: argparse.Namespace) -> Work:
    """The closed loop for as long as was asked."""
    return lambda client: client.closed_loop(asked.seconds)


def opened(asked: argparse.Namespace, rate: float) -> Work:
    """The open loop for twice as long, since the higher percentiles need more requests."""
    return lambda client: client.open_loop(rate, 2 * asked.seconds)


def bench_batch(server: Server, kept: Sequence[requests.Vector], asked: argparse.Namespace) -> list[Line]:
    """Many rows a request, in each form."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/openapi.json") as answer:
        served = {"/bench/executor-batch", *json.load(answer)["paths"]}
    forms = {name: form for name, form in FORMS.items() if form[0].partition("?")[0] in served}
    lines = []
    for rows, count, connections in BATCHES:
        groups = requests.groups(kept, rows, count)
        variants = [
            Variant(name, server, requests.posts(path, [body(some) for some in groups], kind), rows)
            for name, (path, kind, body) in forms.items()
        ]
        for variant in variants:
            measure(variant, 1, closed(asked))
        for several in connections:
            found = in_turns(variants, several, closed(asked), asked.rounds, ("plain executor",))
            lines += [said({"part": "batch", **line}) for line in found]
    return lines


def table(heads: dict[str, Callable[[Line], str]], lines: Sequence[Line]) -> str:
    """Lines as a Markdown table; the first column is text, the others are numbers."""
    rows = [
        list(heads),
        ["---", *["---:"] * (len(heads) - 1)],
        *([cell(line) for cell in heads.values()] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def number(key: str, pattern: str) -> Callable[[Line], str]:
    """A cell."""
    return lambda line: format(line[key], pattern) if key in line else ""


COLUMNS: dict[str, Callable[[Line], str]] = {
    "p50 ms": number("p50_milliseconds", ".2f"),
    "p99 ms": number("p99_milliseconds", ".2f"),
    "CPU µs": number("server_cpu_microseconds", ",.0f"),
}
HEADS: dict[str, dict[str, Callable[[Line], str]]] = {
    "closed": {
        "closed loop": number("variant", ""),
        "connections": number("connections", ""),
        "requests/s": number("requests_per_second", ",.0f"),
        "of constant": number("rate_of_constant", ".0%"),
        "of constant bytes": number("rate_of_constant_bytes", ".0%"),
        "of plain executor": number("rate_of_plain_executor", ".1f"),
        **COLUMNS,
        "p99 of constant": number("p99_of_constant", ".1f"),
    },
    "open": {
        "open loop": number("variant", ""),
        "of constant's rate": number("share_of_constant", ".0%"),
        "connections": number("connections", ""),
        "came/s": number("offered_per_second", ",.0f"),
        "answered/s": number("requests_per_second", ",.0f"),
        **COLUMNS,
        "unanswered": number("unanswered", ",.0f"),
    },
    "batch": {
        "batches": number("variant", ""),
        "rows": number("rows", ",d"),
        "connections": number("connections", ""),
        "requests/s": number("requests_per_second", ",.1f"),
        "rows/s": number("rows_per_second", ",.0f"),
        "of plain executor": number("rate_of_plain_executor", ".1f"),
        **COLUMNS,
    },
}


def report(lines: Sequence[Line], part: str) -> None:
    """A table of a part, and a warning where the numbers are not to be trusted."""
    chosen = [line for line in lines if line["part"] == part]
    print(f"\n{table(HEADS[part], chosen)}")
    if failed := sum(line["failed"] for line in chosen):
        sys.exit(f"error: {failed:.0f} answers had another status than 200, so the times say nothing")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds model.zip, h2o-genmodel.jar and schema.json")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", choices=["always", "adaptive", "off"], default="adaptive")
    parser.add_argument("--only", choices=list(HEADS), nargs="+", default=list(HEADS))
    parser.add_argument("--quick", action="store_true", help="rounds of 0.3 seconds, 2 of them")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds = 0.3, 2
    lines: list[Line] = []
    with serving(asked.folder, asked.cache) as server:
        at_start = resident_mebibytes(server.pid)
        kept = requests.vectors(asked.folder, example(server))
        bodies = [requests.single(vector) for vector in kept]
        variants = [Variant(name, server, requests.posts(path, bodies)) for name, path in SINGLE.items()]
        for variant in variants:
            measure(variant, 16, lambda client: client.closed_loop(WARM_UP_SECONDS))
        if "closed" in asked.only:
            lines += bench_closed(variants, asked)
        if "open" in asked.only:
            lines += bench_open(variants, asked)
        memory = {"resident_mebibytes_at_start": at_start, "after_single": resident_mebibytes(server.pid)}
        if "batch" in asked.only:
            lines += bench_batch(server, kept, asked)
            memory["after_batches"] = resident_mebibytes(server.pid)
        said({"part": "memory", **memory, "load": os.getloadavg()[0]})
    for part in asked.only:
        report(lines, part)


def example(server: Server) -> requests.Vector:
    """A vector the served model takes."""
    address = f"http://127.0.0.1:{server.port}/v1/models/{requests.USE_CASE}/{requests.REGION}"
    with urllib.request.urlopen(address) as answer:
        return dict(json.load(answer)["example"]["features"])


if __name__ == "__main__":
    main()
