"""A branch of the fan-out as a Kubernetes job: Mage's own executor and client, metadata in PostgreSQL through PgBouncer
where it is installed, and the command of the job really run. Only the cluster is played, see `kubernetes_api.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mage_platform.local.mage import mage_environment
from mage_platform.local.passwords import keep_passwords
from mage_platform.orchestration.follow import run_and_follow
from mage_platform.orchestration.progress import RunResult, RunStatus
from mage_platform.settings import PROJECT, Settings
from tests.orchestration.kubernetes_api import KubernetesApi
from tests.orchestration.real_mage import free_port, mage_of_tests

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

NAMESPACE, SERVER = "ml-us", "mage-0"
EXECUTOR = PROJECT / "k8s" / "components" / "branches-as-jobs" / "executor.yaml"


@dataclass(frozen=True)
class Done:
    """A run whose branch was a job."""

    result: RunResult
    api: KubernetesApi
    written: Any
    password: str

    @property
    def branch(self) -> str:
        """Name of the job of the only branch; the job before it only created the branches."""
        return max(self.api.created, key=lambda name: int(name.rsplit("-", 1)[1]))


def server_pod(variables: dict[str, str]) -> dict[str, Any]:
    """The pod of the Mage server, as its manifest and Kubernetes make it."""
    mounts = [{"name": "state", "mountPath": "/app/.platform"}, {"name": "secrets", "mountPath": "/run/secrets"}]
    container = {
        "name": "mage",
        "image": "registry.example/platform-mage:0.1.0",
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": mounts,
        "securityContext": {"runAsNonRoot": True},
    }
    volumes: list[dict[str, Any]] = [
        {"name": "state", "persistentVolumeClaim": {"claimName": "platform-state"}},
        {"name": "secrets", "secret": {"secretName": "platform", "defaultMode": 0o444}},
        {"name": "not-mounted", "emptyDir": {}},
    ]
    spec = {"containers": [container], "volumes": volumes, "serviceAccountName": "mage"}
    return {"kind": "Pod", "metadata": {"name": SERVER, "namespace": NAMESPACE}, "spec": spec}


@pytest.fixture(scope="module")
def done(database_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("jobs")
    passwords = keep_passwords(database_server)
    address = mage_environment(database_server, passwords)["MAGE_DATABASE_CONNECTION_URL"]
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "mage_database_url").write_text(address)
    mage = mage_of_tests(folder, free_port())
    variables = {
        "KUBE_NAMESPACE": NAMESPACE,
        "K8S_CONFIG_FILE": str(EXECUTOR),
        "PLATFORM_TRAINING__EXECUTOR": "k8s",
        "PLATFORM_SECRETS_FOLDER": str(secrets),
        "MAGE_REPO_PATH": str(mage.project),
        "MAGE_DATA_DIR": ".mage_data",
        "PYTHONPATH": str(PROJECT),
    }
    with KubernetesApi(NAMESPACE, server_pod(variables), folder) as api:
        environment = {name: value for name, value in (mage.environment or {}).items() if "_proxy" not in name.lower()}
        environment |= {**variables, "HOSTNAME": SERVER, "KUBECONFIG": str(api.kubeconfig())}
        environment["MAGE_DATABASE_CONNECTION_URL"] = address
        written = folder / "candidates.json"
        asked = {"factor": 2, "regions": ["EWR"], "write_to": str(written)}
        result = run_and_follow(replace(mage, environment=environment), "fan_out", asked, lambda progress: None)
        assert mage.log_file is not None
        said = mage.log_file.read_text()[-3000:] + "".join(api.output(name) for name in api.created)
        assert result.status is RunStatus.COMPLETED, f"{result}\n{said}"
        password = passwords.mage_database.get_secret_value()
        yield Done(result, api, json.loads(written.read_text()), password)


def test_a_branch_runs_to_its_end_as_a_job_and_its_result_reaches_the_next_block(done: Done) -> None:
    assert done.written == [{"region": "EWR", "score": 6}]
    assert "a block prints what it likes" in done.api.output(done.branch)


def test_only_the_fan_out_becomes_jobs(done: Done) -> None:
    commands = [job["spec"]["template"]["spec"]["containers"][0]["command"] for job in done.api.created.values()]
    blocks = [command[command.index("--block-uuid") + 1] for command in commands]
    assert blocks == ["train_region", "train_region:train_EWR"]
    assert all(command[:3] == ["/app/run_app.sh", "mage", "run"] for command in commands)


def test_a_job_is_as_the_shipped_file_says_with_the_image_and_the_mounts_of_the_server(done: Done) -> None:
    job = done.api.created[done.branch]
    assert job["metadata"]["name"].startswith("mage-train-region-block-")
    assert job["metadata"]["labels"] == {"app": "mage-branch"}
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 14400, 600)
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "mage-branch")
    assert [volume["name"] for volume in pod["volumes"]] == ["state", "secrets"]
    [container] = pod["containers"]
    assert container["image"] == "registry.example/platform-mage:0.1.0"
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "state": "/app/.platform", "secrets": "/run/secrets",
    }  # fmt: skip
    declared = yaml.safe_load(EXECUTOR.read_text())
    assert container["resources"] == declared["container"]["resources"]
    assert container["securityContext"] == declared["container_config"]["security_context"]


def test_no_secret_stands_in_a_job(done: Done) -> None:
    assert done.password not in json.dumps(done.api.created)
    assert "MAGE_DATABASE_CONNECTION_URL" not in json.dumps(done.api.created)


ASK = """
from mage_ai.settings.repo import set_repo_path
set_repo_path({project!r})
from mage_ai.data_preparation.executors.executor_factory import ExecutorFactory
from mage_ai.data_preparation.models.pipeline import Pipeline
import json
pipeline = Pipeline.get("train_regional_models", repo_path={project!r})
print(json.dumps({{block: str(each.get_executor_type()) for block, each in pipeline.blocks_by_uuid.items()}}))
"""


@pytest.mark.parametrize(("setting", "expected"), [(None, "local_python"), ("k8s", "k8s")])
def test_the_setting_moves_the_branches_of_the_shipped_pipeline_and_nothing_else(
    setting: str | None, expected: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PLATFORM_", "MAGE_"))}
    environment |= {"MAGE_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}
    if setting:
        environment["PLATFORM_TRAINING__EXECUTOR"] = setting
    command = [sys.executable, "-c", ASK.format(project=str(PROJECT))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert kinds.pop("train_region") == expected
    assert set(kinds.values()) == {"local_python"}
