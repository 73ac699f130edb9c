"""Other model servers beside the sidecar, with the same MOJO, the same vectors and the same load, in one run.

    make bench-peers                                  with a model it trains for this; needs no running stack
    make bench-peers ARGUMENTS=--quick                a tenth as long

Each server is a process of its own; MLServer's and MLflow's run in an environment of their own
(`peers-requirements.txt`; they cannot share ours), with uvloop and httptools as the sidecar has them. All score through
the same Java, a whole batch in one crossing (`peers/mojo.py`). Each is asked in its own protocol.

predict                   the sidecar
plain executor            FastAPI with one `run_in_executor` a request, as in `benchmarks/serving.py`
MLServer, data frames     as it comes: one parallel worker, access log, metrics; the runtime with its codecs and pandas
MLServer                  as it comes, but the runtime takes the values out of the request by hand
MLServer, tuned           that, no parallel worker, no access log, no metrics, no gzip, and requests of two tensors, one
                          of all numbers and one of all text, instead of one tensor a feature
MLServer, tuned, batches  the same with adaptive batching of up to 64 requests that come within a millisecond
MLflow                    `mlflow models serve` with a pyfunc, one worker

Answers of all are compared first, and any difference ends the program with code 1. Prints one JSON line for each server
and number of connections (medians of the rounds, ratios within a round), then a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks import serving_requests as requests
from benchmarks.load import resident_mebibytes
from benchmarks.serving import (
    COLUMNS,
    PROJECT,
    Line,
    Server,
    Variant,
    await_answer,
    closed,
    example,
    in_turns,
    measure,
    number,
    said,
    serving,
    table,
)
from mage_platform.local.environments import environments_for
from mage_platform.local.java import find_java

PEERS = Path(__file__).parent / "peers"
COMPARED = 50
WARM_UP_SECONDS = 3.0
TUNED = {"debug": False, "parallel_workers": 0, "metrics_endpoint": None, "gzip_enabled": False}
MLSERVERS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "MLServer, data frames": ("AsDocumented", {}, {}),
    "MLServer": ("Bare", {}, {}),
    "MLServer, tuned": ("Packed", TUNED, {}),
    "MLServer, tuned, batches": ("Packed", TUNED, {"max_batch_size": 64, "max_batch_time": 0.001}),
}
"""Runtime, settings of the server, settings of the model."""

Probability = Callable[[dict[str, Any]], float]
"""The probability of the second class in an answer."""


@contextmanager
def _process(words: Sequence[str], folder: Path, address: str) -> Iterator[int]:
    """A peer's process, once it answers; its words go into a file."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    surroundings |= {"JAVA_HOME": str(find_java().home), "PYTHONPATH": str(PEERS)}
    # What MLflow tells its makers of each use stays here.
    surroundings |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    surroundings["PATH"] = f"{Path(words[0]).parent}{os.pathsep}{surroundings.get('PATH', '')}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, env=surroundings, stdout=log, stderr=log, start_new_session=True)
    try:
        try:
            await_answer(process, address)
        except SystemExit:
            print((folder / "log").read_text()[-3000:], file=sys.stderr)
            raise
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def mlserver(python: Path, model: Path, folder: Path, name: str) -> Iterator[Server]:
    """MLServer in one of the three ways."""
    runtime, settings, model_settings = MLSERVERS[name]
    place = folder / name
    place.mkdir()
    http, grpc, metrics = _free_ports(3)
    ports = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (place / "settings.json").write_text(json.dumps({**ports, **settings}))
    declared = {"name": "mojo", "implementation": f"mlserver_runtimes.{runtime}", "parameters": {"uri": str(model)}}
    (place / "model-settings.json").write_text(json.dumps({**declared, **model_settings}))
    words = [str(python.with_name("mlserver")), "start", str(place)]
    with _process(words, place, f"http://127.0.0.1:{http}/v2/models/mojo/ready") as pid:
        yield Server(http, pid)


@contextmanager
def mlflow(python: Path, model: Path, folder: Path) -> Iterator[Server]:
    """MLflow's scoring server."""
    place = folder / "MLflow"
    place.mkdir()
    saved = place / "model"
    surroundings = {**os.environ, "PYTHONPATH": str(PEERS), "MLFLOW_DISABLE_TELEMETRY": "true"}
    words = [str(python), str(PEERS / "mlflow_model.py"), str(model), str(saved)]
    done = subprocess.run(words, cwd=place, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: MLflow did not save the model: {done.stderr[-2000:]}")
    (port,) = _free_ports(1)
    words = [str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(saved), "--env-manager", "local"]
    with _process([*words, "--port", str(port)], place, f"http://127.0.0.1:{port}/ping") as pid:
        yield Server(port, pid)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_ones:
        probes = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _of_v2(answer: dict[str, Any]) -> float:
    return float(answer["outputs"][-1]["data"][0])


def _of_mlflow(answer: dict[str, Any]) -> float:
    return float(list(answer["predictions"][0].values())[-1])


def _of_ours(answer: dict[str, Any]) -> float:
    return float(list(answer["probabilities"].values())[-1])


def variants(asked: argparse.Namespace, kept: list[requests.Vector], servers: Mapping[str, Server]) -> list[Variant]:
    """Each server's requests."""
    schema = json.loads((asked.folder / "schema.json").read_text())
    v2, two_tensors = requests.open_inference(schema), requests.packed(schema)
    ours = [requests.single(vector) for vector in kept]
    theirs, packed = [v2([vector]) for vector in kept], [two_tensors([vector]) for vector in kept]
    made = {
        "predict": ("/v1/predict", ours),
        "plain executor": ("/bench/executor", ours),
        **{
            name: ("/v2/models/mojo/infer", packed if runtime == "Packed" else theirs)
            for name, (runtime, *_) in MLSERVERS.items()
        },
        "MLflow": ("/invocations", [requests.mlflow([vector]) for vector in kept]),
    }
    return [Variant(name, servers[name], requests.posts(path, bodies)) for name, (path, bodies) in made.items()]


def compare(chosen: Sequence[Variant]) -> None:
    """Hold the first answers of all servers against the sidecar's."""
    reads: dict[str, Probability] = {"predict": _of_ours, "plain executor": _of_ours, "MLflow": _of_mlflow}
    answers = {variant.name: _answers(variant, reads.get(variant.name, _of_v2)) for variant in chosen}
    for name, theirs in answers.items():
        wrong = [
            (mine, other)
            for mine, other in zip(answers["predict"], theirs, strict=True)
            if not math.isclose(mine, other, rel_tol=1e-12)
        ]
        if wrong:
            sys.exit(f"error: {len(wrong)} of {COMPARED} answers of {name} differ from the sidecar's: {wrong[:3]}")


def _answers(variant: Variant, read: Probability) -> list[float]:
    found = []
    for request in variant.requests[:COMPARED]:
        head, body = request.split(b"\r\n\r\n", 1)
        path = head.split()[1].decode()
        asked = Request(f"http://127.0.0.1:{variant.server.port}{path}", body, {"content-type": "application/json"})
        with urlopen(asked) as answer:
            found.append(read(json.load(answer)))
    return found


HEADS: dict[str, Callable[[Line], str]] = {
    "server": number("variant", ""),
    "connections": number("connections", ""),
    "requests/s": number("requests_per_second", ",.0f"),
    "predict is so many times as fast": lambda line: format(1 / line["rate_of_predict"], ".1f"),
    **COLUMNS,
    "memory, MiB": number("resident_mebibytes", ",.0f"),
}


def main() -> None:
    """Start all servers, compare their answers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds model.zip, h2o-genmodel.jar and schema.json")
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="rounds of 0.5 seconds, 2 of them")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds = 0.5, 2
    python = environments_for("bench-peers")[-1].python
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="peers-") as name, ExitStack() as running:
        folder = Path(name)
        model = folder / "model"
        shutil.copytree(asked.folder, model)
        shutil.copy(PROJECT / "serving" / "java" / "batch_scorer.jar", model)
        servers = {
            "predict": running.enter_context(serving(asked.folder, alone=True)),
            "plain executor": running.enter_context(serving(asked.folder)),
        }
        for way in MLSERVERS:
            servers[way] = running.enter_context(mlserver(python, model, folder, way))
        servers["MLflow"] = running.enter_context(mlflow(python, model, folder))
        kept = requests.vectors(asked.folder, example(servers["predict"]))
        chosen = variants(asked, kept, servers)
        compare(chosen)
        for variant in chosen:
            measure(variant, 16, lambda client: client.closed_loop(WARM_UP_SECONDS))
        for connections in asked.connections:
            found = in_turns(chosen, connections, closed(asked), asked.rounds, ("predict",))
            for line in found:
                memory = resident_mebibytes(servers[line["variant"]].pid)
                lines.append(said({"part": "peers", **line, "resident_mebibytes": memory, "load": os.getloadavg()[0]}))
    print(f"\n{table(HEADS, lines)}")
    if failed := sum(line["failed"] for line in lines):
        sys.exit(f"error: {failed:.0f} answers had another status than 200, so the times say nothing")


if __name__ == "__main__":
    main()
