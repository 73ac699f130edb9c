"""The sidecar against its own OpenAPI document: whatever the document lists is asked for, rightly and wrongly.

Schemathesis makes the requests. No answer may be a failure of the sidecar, have a status, a type or a shape that the
document does not name, take a wrong request for a right one, or come without a key.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mage_platform.api_keys import create_key
from mage_platform.local.environments import environments_for
from mage_platform.local.passwords import secrets_folder
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving.sidecar_process import Sidecar, Trained, promote, registered, sidecar
from tests.serving.valkey_process import with_ports

pytestmark = pytest.mark.integration
SEED = 20260101
EXAMPLES = 30
"""Of each kind, for each operation."""
MOST_SECONDS = 200


def schemathesis(served: Sidecar, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = environments_for("test")[-1].folder / "bin" / "schemathesis"
    assert program.is_file(), f"{program} is missing: `make test` installs it"
    return subprocess.run(
        [
            str(program), "run", f"{served.settings.sidecar.url}/openapi.json", "--checks", "all",
            # What features a model wants stands with the model, not in the document.
            "--exclude-checks", "positive_data_acceptance",
            "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--seed", str(SEED),
            "--generation-database", "none", "--continue-on-failure", "--no-color", "--request-timeout", "20",
            *options,
        ],
        cwd=folder, capture_output=True, text=True, timeout=MOST_SECONDS, check=False,
    )  # fmt: skip


def test_every_answer_keeps_the_document(servers: Settings, trained: Trained, tmp_path: Path) -> None:
    for region in ("north", "*"):
        promote(servers, "contract", region, registered(servers, trained, "contract", region, "gbm"))
    secrets = tmp_path / "secrets"
    shutil.copytree(secrets_folder(servers), secrets)
    key, _ = create_key(secrets / "platform_api_keys", "schemathesis", use_cases=("*",), right="admin")
    settings = with_ports(servers, sidecar=free_port())
    with sidecar(
        settings, tmp_path, SECRETS_FOLDER=str(secrets), SIDECAR__REFRESH_SECONDS="0.2", SIDECAR__DOCS="open"
    ) as served:
        document = served.client.get("/openapi.json").json()
        done = schemathesis(served, tmp_path, "--header", f"Authorization: Bearer {key}")
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert served.client.get("/health/ready").status_code == 200
        assert not served.logged("request failed"), json.dumps(served.logged("request failed"))[:5_000]
        assert {"/v1/predict", "/v1/models", "/v1/models/{use_case}/{region}"} <= set(document["paths"])
        assert key not in served.log.read_text()
