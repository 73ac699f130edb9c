"""Ten thousand requests through swapped models and lost servers: none fails, none is wrong, memory stays flat."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mage_platform.local.embedded import running
from mage_platform.local.ports import free_port
from mage_platform.settings import load_settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import valkey, with_ports

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
REQUESTS, CLIENTS = 12_000, 8
LEAK_MIB = 24
"""Growth from the second quarter of the run to its end that would be a leak of about 4 KiB a request."""


@dataclass
class Load:
    """Clients that ask one after the other, and check each answer against H2O's own for the version it names."""

    url: str
    vectors: list[dict[str, Any]]
    expected: dict[int, list[dict[str, Any]]]
    answered: int = 0
    cached: int = 0
    wrong: list[str] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until it is stopped."""
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(CLIENTS)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        row = number * 37
        while not self.stop.is_set():
            row = (row + 1) % len(self.vectors)
            body = {"use_case": "soak", "region": "r", "entity_id": ENTITY, "features": self.vectors[row]}
            answer = await client.post("/v1/predict", json=body)
            self.answered += 1
            self._check(row, answer)

    def _check(self, row: int, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.wrong.append(answer.text)
            return
        said = answer.json()
        version = said["model"]["version"]
        self.versions.add(version)
        self.cached += said["cached"]
        if said["probabilities"] != self.expected[version][row]["probabilities"]:
            self.wrong.append(f"row {row} by version {version}: {answer.text}")


def resident_mib(served: Sidecar) -> float:
    """Memory of the sidecar that is not shared or swapped."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_ten_thousand_requests_through_swaps_and_lost_servers(trained: Trained, tmp_path: Path) -> None:
    ports = {"database": free_port(), "redis": free_port(), "sidecar": free_port()}
    settings = with_ports(load_settings(state_folder=tmp_path / "state"), **ports)
    settings = settings.model_copy(update={"database_password": None})
    with ExitStack() as leaving:
        database = leaving.enter_context(ExitStack())
        effective = database.enter_context(running(settings, ("postgres",), migrate=True, free_ports=False))
        cache = leaving.enter_context(ExitStack())
        cache.enter_context(valkey(ports["redis"], tmp_path, effective))
        models = {1: "gbm", 2: "gbm_two"}
        for version, name in models.items():
            assert registered(effective, trained, "soak", "r", name, f"run_{version}") == version
        promote(effective, "soak", "r", 1)
        variables = {"SIDECAR__REFRESH_SECONDS": "0.2", "SIDECAR__PREDICTION_CACHE": "always"}
        served = leaving.enter_context(sidecar(effective, tmp_path, **variables))
        expected = {version: trained.predictions(name) for version, name in models.items()}
        load = Load(served.settings.sidecar.url, trained.vectors(), expected)
        thread = threading.Thread(target=load.run, daemon=True)
        thread.start()

        def answered(count: int) -> None:
            until = time.monotonic() + 60
            while load.answered < count:
                assert not load.wrong, load.wrong[:3]
                assert thread.is_alive() and time.monotonic() < until
                time.sleep(0.02)

        step = REQUESTS // 8
        answered(step)
        promote(effective, "soak", "r", 2)
        served.await_version("soak", "r", 2)
        answered(2 * step)
        before = resident_mib(served)
        cache.close()  # Redis is killed
        answered(3 * step)
        cache.enter_context(valkey(ports["redis"], tmp_path, effective))
        answered(4 * step)
        database.close()  # PostgreSQL stops
        answered(5 * step)
        database.enter_context(running(settings, ("postgres",), free_ports=False))
        answered(6 * step)
        promote(effective, "soak", "r", 1)
        served.await_version("soak", "r", 1, seconds=30)
        answered(7 * step)
        promote(effective, "soak", "r", 2)
        served.await_version("soak", "r", 2)
        answered(REQUESTS)
        after = resident_mib(served)
        load.stop.set()
        thread.join(timeout=30)
    assert not load.wrong, load.wrong[:3]
    assert load.answered >= REQUESTS
    assert load.versions == {1, 2}
    assert load.cached > 0
    assert after - before < LEAK_MIB
