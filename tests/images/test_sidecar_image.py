"""The sidecar from its image, as a pod runs it: read-only, no capabilities, secrets as files, through PgBouncer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from mage_platform.api_keys import create_key
from mage_platform.local.passwords import secrets_folder
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.images.conftest import Images, Pooler, mounted_secrets
from tests.images.container_engine import Container
from tests.serving.sidecar_process import ENTITY, Trained, promote, registered, sidecar

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
MEMORY = "512m"


@pytest.fixture(scope="module")
def champion(stack: Settings, trained: Trained) -> None:
    promote(stack, "delays", "north", registered(stack, trained, "delays", "north", "gbm"))


@pytest.fixture(scope="module")
def asked(
    images: Images, pooler: Pooler, stack: Settings, champion: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Container, httpx.Client]]:
    """The container, and a client with a key."""
    folder, port = tmp_path_factory.mktemp("contained"), free_port()
    key, _ = create_key(folder / "platform_api_keys", "test", use_cases=("*",))
    names = ("platform_database_password", "platform_verification_keys")
    files = {name: (secrets_folder(stack) / name).read_text() for name in names}
    files["platform_api_keys"] = (folder / "platform_api_keys").read_text()
    secrets = mounted_secrets(folder / "secrets", files)
    variables = {
        "ENVIRONMENT": "production",
        "DATABASE__HOST": "127.0.0.1",
        "DATABASE__PORT": str(pooler.port),
        "DATABASE__THROUGH_PGBOUNCER": "true",
        "REDIS__HOST": "127.0.0.1",
        "REDIS__PORT": str(stack.redis.port),
        "SIDECAR__HOST": "127.0.0.1",
        "SIDECAR__PORT": str(port),
        "SIDECAR__PREDICTION_CACHE": "off",
    }
    options = [f"--env=PLATFORM_{name}={value}" for name, value in variables.items()]
    options += ["--network=host", f"--memory={MEMORY}", f"--volume={secrets}:/run/secrets/platform:ro"]
    with (
        images.engine.running(images.tag("sidecar"), options=options) as container,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}) as client,
    ):
        container.await_that(lambda: _ready(client), "ready")
        yield container, client


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_it_answers_what_the_sidecar_answers_outside_of_a_container(
    asked: tuple[Container, httpx.Client], stack: Settings, trained: Trained, tmp_path: Path
) -> None:
    _, client = asked
    bodies = [
        {"use_case": "delays", "region": "north", "entity_id": ENTITY, "features": features}
        for features in trained.vectors()[:50]
    ]
    inside = [client.post("/v1/predict", json=body).raise_for_status().json() for body in bodies]
    outside_settings = stack.model_copy(update={"sidecar": stack.sidecar.model_copy(update={"port": free_port()})})
    with sidecar(outside_settings, tmp_path, SIDECAR__PREDICTION_CACHE="off") as outside:
        expected = [outside.client.post("/v1/predict", json=body).raise_for_status().json() for body in bodies]
    for answer in (*inside, *expected):
        assert answer.pop("latency_ms", 0) >= 0
    assert inside == expected
    h2o_says = [answer["probabilities"] for answer in trained.predictions("gbm")[:50]]
    assert [answer["probabilities"] for answer in inside] == h2o_says


def test_it_reads_and_writes_arrow_and_explains(asked: tuple[Container, httpx.Client], trained: Trained) -> None:
    _, client = asked
    vectors = trained.vectors()[:20]
    sink = io.BytesIO()
    table = pa.Table.from_pylist(vectors)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    arrow = "application/vnd.apache.arrow.stream"
    answer = client.post(
        "/v1/predict/batch?use_case=delays&region=north",
        content=sink.getvalue(),
        headers={"content-type": arrow, "accept": arrow},
    )
    assert answer.status_code == 200, answer.text
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == len(vectors)
    body = {"use_case": "delays", "region": "north", "entity_id": ENTITY, "features": vectors[0]}
    assert client.post("/v1/explain", json=body).status_code == 200


def test_it_asks_for_a_key_and_passes_its_own_health_check(
    asked: tuple[Container, httpx.Client], images: Images
) -> None:
    container, client = asked
    assert client.get("/v1/models", headers={"authorization": "Bearer none"}).status_code == 401
    check = images.engine.inspect(images.tag("sidecar"))["Healthcheck"]["Test"]
    assert container.exec(*check[1:]) == (0, "")
    assert container.exec("sh", "-c", "kill -0 1 && readlink /proc/1/exe")[1] == "/usr/bin/tini"
