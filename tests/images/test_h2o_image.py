"""H2O from its image: hash login, heap by the memory limit, and the probe that tells a whole cluster's leader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.conftest import Images, mounted_secrets
from tests.images.container_engine import Container

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
PROBE = "/app/whole_cloud_leader.sh"
PASSWORD = 'with "quotes" and \\ backslash'
# `printf '%s' "$PASSWORD" | md5sum`, as Jetty's hash login wants it
REALM = "platform: MD5:{digest},user\n"
MEMORY_MIB = 1024


@pytest.fixture(scope="module")
def node(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A cluster of one, with the command line of the StatefulSet."""
    import hashlib

    digest = hashlib.md5(PASSWORD.encode()).hexdigest()
    folder = tmp_path_factory.mktemp("h2o")
    own = mounted_secrets(folder / "platform", {"platform_h2o_password": PASSWORD})
    realm = mounted_secrets(folder / "h2o", {"realm.properties": REALM.format(digest=digest)})
    command = images.engine.inspect(images.tag("h2o"))["Config"]["Cmd"]
    options = [
        "--network=none", f"--memory={MEMORY_MIB}m", "--env=H2O_KUBERNETES_SERVICE_DNS=h2o.test.svc.cluster.local",
        "--env=H2O_NODE_EXPECTED_COUNT=1", "--env=H2O_NODE_LOOKUP_TIMEOUT=2", "--env=H2O_KUBERNETES_API_PORT=8081",
        f"--volume={own}:/run/secrets/platform:ro", f"--volume={realm}:/run/secrets/h2o:ro",
    ]  # fmt: skip
    login = ["-hash_login", "-login_conf", "/run/secrets/h2o/realm.properties"]
    with images.engine.running(images.tag("h2o"), *command, *login, options=options) as container:
        container.await_that(lambda: container.exec(PROBE)[0] == 0, "ready", 90)
        yield container


def test_the_probe_asks_for_as_many_nodes_as_are_expected(node: Container) -> None:
    assert node.exec(PROBE) == (0, "")
    assert node.exec("env", "H2O_NODE_EXPECTED_COUNT=2", PROBE) == (1, "the cloud has not 2 nodes")
    assert node.exec("env", "H2O_KUBERNETES_API_PORT=1", PROBE) == (1, "not the leader")
    code, said = node.exec("env", "-u", "H2O_NODE_EXPECTED_COUNT", PROBE)
    assert (code, "H2O_NODE_EXPECTED_COUNT: is to say how many nodes" in said) == (1, True)


def test_nobody_gets_in_without_the_password(node: Container) -> None:
    status = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    address = "http://127.0.0.1:54321/3/Cloud"
    assert node.exec(*status, address) == (0, "401")
    assert node.exec(*status, "--user", "platform:wrong", address) == (0, "401")
    code, said = node.exec("env", "PLATFORM_SECRETS_FOLDER=/nowhere", PROBE)
    assert (code, "/3/Cloud did not answer" in said) == (1, True)


def test_the_heap_follows_the_memory_limit_and_xgboost_is_there(node: Container) -> None:
    answer = ["curl", "--silent", "--user", f"platform:{PASSWORD}"]
    cloud = json.loads(node.exec(*answer, "http://127.0.0.1:54321/3/Cloud")[1])
    assert cloud["version"] == "3.46.0.11"
    heap_mib = cloud["nodes"][0]["max_mem"] / 2**20
    assert 0.6 * MEMORY_MIB < heap_mib <= 0.7 * MEMORY_MIB
    builder = json.loads(node.exec(*answer, "http://127.0.0.1:54321/3/ModelBuilders/xgboost")[1])
    assert builder["model_builders"]["xgboost"]["can_build"]
    assert Path(node.exec("readlink", "/proc/1/exe")[1]).name == "tini"
