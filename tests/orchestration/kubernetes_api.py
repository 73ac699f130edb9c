"""The part of Kubernetes' API that Mage's job executor uses, on loopback, with a machine behind it that runs the jobs.

A job's container is a process: it gets the command and the variables of its specification and nothing else, and finds
in the "image" the programs of this environment, the project, and `k8s/images/mage/run_app.sh` as /app/run_app.sh.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import yaml

from mage_platform.settings import PROJECT

RUN_APP = PROJECT / "k8s" / "images" / "mage" / "run_app.sh"
_JOBS = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+))?")
_POD = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)")


class KubernetesApi:
    """A namespace with the pod of the Mage server in it, and the jobs that are created there.

    Args:
        namespace: Its name.
        server_pod: The pod of the Mage server, as the API tells it.
        folder: Where the jobs write what they print.
    """

    def __init__(self, namespace: str, server_pod: dict[str, Any], folder: Path) -> None:
        self.namespace, self.server_pod, self.folder = namespace, server_pod, folder
        self.created: dict[str, dict[str, Any]] = {}
        """Every job that was asked for, by name, as Mage sent it."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))

    def __enter__(self) -> KubernetesApi:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        for process in self._running.values():
            process.kill()
            process.wait()

    def kubeconfig(self) -> Path:
        """A file that leads clients here."""
        path = self.folder / "kubeconfig.yaml"
        context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
        cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{self._http.server_port}"}}
        users = [{"name": "test", "user": {}}]
        content = {"contexts": [context], "clusters": [cluster], "users": users, "current-context": "test"}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
        return path

    def output(self, name: str) -> str:
        """What a job has printed."""
        return (self.folder / f"{name}.log").read_text()

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Keep a job and start its container."""
        name = job["metadata"]["name"]
        self.created[name] = job
        [container] = job["spec"]["template"]["spec"]["containers"]
        [program, *arguments] = container["command"]
        assert program == "/app/run_app.sh"
        variables = {each["name"]: each["value"] for each in container["env"]}
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [str(RUN_APP), *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
                env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(self.folder), **variables},
            )  # fmt: skip
        return self.read(name)

    def read(self, name: str) -> dict[str, Any]:
        """A job with its status."""
        code = self._running[name].poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**self.created[name], "status": status}

    def delete(self, name: str) -> dict[str, Any]:
        """Forget a job."""
        self._running.pop(name).kill()
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def has(self, name: str) -> bool:
        return name in self._running


class _Handler(BaseHTTPRequestHandler):
    api: KubernetesApi

    def do_GET(self) -> None:
        pod, job = _POD.fullmatch(self.path), _JOBS.fullmatch(self.path)
        if pod and pod["namespace"] == self.api.namespace and pod["name"] == self.api.server_pod["metadata"]["name"]:
            self._answer(200, self.api.server_pod)
        elif job and job["namespace"] == self.api.namespace and self.api.has(job["name"]):
            self._answer(200, self.api.read(job["name"]))
        else:
            self._answer(404, {"kind": "Status", "status": "Failure", "reason": "NotFound"})

    def do_POST(self) -> None:
        job = _JOBS.fullmatch(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert job and job["namespace"] == self.api.namespace
        self._answer(201, self.api.create(body))

    def do_DELETE(self) -> None:
        job = cast("re.Match[str]", _JOBS.fullmatch(self.path.partition("?")[0]))
        self._answer(200, self.api.delete(job["name"]))

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""
