"""The jobs that Mage starts for the branches of the fan-out: in no manifest, and pods of the namespace all the same.

Mage's own code makes them, from the executor's file and from the pod of the server.
"""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import yaml

from tests.manifests.admission.documents import Document, Rendered, Workload

_COMMAND = "/app/run_app.sh mage run /app train_regional_models --block-uuid train_region"


def job_of_a_branch(rendered: Rendered) -> list[Document]:
    """One such job; none where branches stay in the server.

    Args:
        rendered: An overlay. The variable K8S_CONFIG_FILE of the Mage server names the executor's file, which one of
            its ConfigMaps holds.
    """
    for workload in rendered.workloads:
        for container in workload.containers:
            variables = rendered.variables(container)
            if "K8S_CONFIG_FILE" in variables and not container.begins:
                text = _mounted_file(rendered, workload, container.spec, PurePosixPath(variables["K8S_CONFIG_FILE"]))
                return [_job(yaml.safe_load(text), workload)]
    return []


def _job(executor: dict[str, Any], server: Workload) -> Document:
    client, job_manager, config = _mage()
    # not its constructor: it asks the API server for the pod that it runs in
    manager = object.__new__(job_manager.JobManager)
    manager.job_name, manager.namespace, manager.api_version = "mage-train-region-block-1", server.namespace, "batch/v1"
    manager.container_name, manager.logger, manager.logging_tags = "", None, {}
    manager.pod_config = SimpleNamespace(spec=_pod_spec(client, server.pod))
    job = manager.create_job_object(_COMMAND, config.K8sExecutorConfig.load(config=executor))
    document: Document = client.ApiClient().sanitize_for_serialization(job)
    document["metadata"]["namespace"] = server.namespace
    return document


def _pod_spec(client: Any, pod: Document) -> Any:
    import json

    class Answer:
        data = json.dumps(pod)

    try:
        return client.ApiClient().deserialize(Answer, "V1PodSpec")
    except TypeError:  # newer clients want bytes and a type
        return client.ApiClient().deserialize(json.dumps(pod), "V1PodSpec", "application/json")


def _mounted_file(rendered: Rendered, server: Workload, container: Document, path: PurePosixPath) -> str:
    for mount in container.get("volumeMounts") or []:
        folder, volume = PurePosixPath(mount["mountPath"]), server.volumes.get(mount["name"], {})
        if path.parent == folder or path == folder:
            sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
            for name in (each["configMap"]["name"] for each in sources if "configMap" in each):
                document = rendered.find("ConfigMap", name, server.namespace) or {}
                if path.name in document.get("data", {}):
                    return str(document["data"][path.name])
    raise AssertionError(f"K8S_CONFIG_FILE={path}: no ConfigMap that the Mage server mounts holds it")


@cache
def _mage() -> tuple[Any, Any, Any]:
    from kubernetes import client
    from mage_ai.services.k8s import config, job_manager

    return client, job_manager, config
