"""What is not what was signed is refused by a running sidecar, and the champion before goes on answering."""

from __future__ import annotations

import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mage_platform.database import connect
from mage_platform.local.embedded import on_free_ports
from mage_platform.local.surroundings import platform_environment
from mage_platform.registry import model_version, sign_registered, signing_key, verification_keys
from mage_platform.settings import PROJECT, Settings
from serving.load_faults import RETRY_SECONDS
from tests.serving.sidecar_process import INTERPRETER, Sidecar, Trained, promote, registered, sidecar
from tests.stores.registry_samples import stranger

pytestmark = pytest.mark.integration
USE_CASE = "refused"


def _change(settings: Settings, statement: str, *values: object) -> None:
    with connect(settings) as connection:
        assert connection.execute(statement, values).rowcount > 0  # type: ignore[arg-type]


def _mojo_sha256(settings: Settings, region: str) -> str:
    with connect(settings) as connection:
        return model_version(connection, USE_CASE, region, 2).mojo_sha256


WHERE = "WHERE use_case = 'refused' AND region = %s AND version = 2"


def _alter(settings: Settings, region: str) -> None:
    _change(
        settings, "UPDATE platform.artifact_chunks SET chunk = set_byte(chunk, 40, 255 - get_byte(chunk, 40)) "
        "WHERE sha256 = %s AND number = 0", _mojo_sha256(settings, region),
    )  # fmt: skip


def _truncate(settings: Settings, region: str) -> None:
    _change(
        settings, "UPDATE platform.artifact_chunks SET chunk = substr(chunk, 1, length(chunk) - 1) "
        "WHERE sha256 = %s AND number = 0", _mojo_sha256(settings, region),
    )  # fmt: skip


def _unsign(settings: Settings, region: str) -> None:
    _change(settings, f"UPDATE platform.model_versions SET signature = NULL, signed_by = NULL {WHERE}", region)


def _sign_by_another_key(settings: Settings, region: str) -> None:
    with connect(settings) as connection:
        foreign = stranger(settings).sign(model_version(connection, USE_CASE, region, 2))
    _change(
        settings, f"UPDATE platform.model_versions SET signature = %s, signed_by = %s {WHERE}",
        foreign.signature, foreign.signed_by, region,
    )  # fmt: skip


def _point_at_another_regions(settings: Settings, region: str) -> None:
    """The good, signed version 2 of `donor`, with its signature."""
    _change(
        settings, "UPDATE platform.model_versions v SET mojo_sha256 = d.mojo_sha256, signature = d.signature, "
        "signed_by = d.signed_by FROM platform.model_versions d WHERE d.use_case = 'refused' AND d.region = 'donor' "
        "AND d.version = 2 AND v.use_case = 'refused' AND v.region = %s AND v.version = 2", region,
    )  # fmt: skip


DAMAGES: dict[str, tuple[Callable[[Settings, str], None], str]] = {
    "altered": (_alter, "does not match its SHA-256"),
    "truncated": (_truncate, "does not match its SHA-256"),
    "unsigned": (_unsign, "is not signed"),
    "foreign": (_sign_by_another_key, "signed by the unknown key"),
    "moved": (_point_at_another_regions, "does not fit it"),
}


def _with_own_bytes(trained: Trained, model: str, region: str, folder: Path) -> Trained:
    """The same model with a comment at the end of the zip: equal bytes would be kept once for all regions."""
    place = folder / region
    place.mkdir()
    shutil.copy(trained.mojo(model), place / f"{model}.zip")
    shutil.copy(trained.genmodel, place / "h2o-genmodel.jar")
    with zipfile.ZipFile(place / f"{model}.zip", "a") as archive:
        archive.comment = region.encode()
    return Trained(place)


def _await_fault(served: Sidecar, region: str) -> dict[str, Any]:
    until = time.monotonic() + 15
    while True:
        for fault in served.readiness()["not_loaded"]:
            if (fault["use_case"], fault["region"]) == (USE_CASE, region):
                return dict(fault)
        assert time.monotonic() < until
        time.sleep(0.1)


def test_what_is_not_what_was_signed_is_refused_once_in_the_log_while_the_champion_before_answers(
    served: Sidecar, servers: Settings, trained: Trained, tmp_path: Path
) -> None:
    for region in (*DAMAGES, "donor"):
        promote(servers, USE_CASE, region, registered(servers, trained, USE_CASE, region, "gbm", "run_1"))
        registered(servers, _with_own_bytes(trained, "gbm_two", region, tmp_path), USE_CASE, region, "gbm_two", "run_2")
    for region in DAMAGES:
        served.await_version(USE_CASE, region, 1)
        DAMAGES[region][0](servers, region)
        promote(servers, USE_CASE, region, 2)
    promote(servers, USE_CASE, "donor", 2)
    served.await_version(USE_CASE, "donor", 2)  # the sixth is good, and the faulty ones do not keep it back

    for region, (_, sentence) in DAMAGES.items():
        fault = _await_fault(served, region)
        assert (fault["version"], fault["served_version"]) == (2, 1)
        assert sentence in fault["reason"]
    assert served.readiness()["status"] == "ready"

    time.sleep(RETRY_SECONDS + 2)  # it is tried again, and still refused
    vector = trained.vectors()[0]
    for region in DAMAGES:
        answer = served.predict(USE_CASE, region, vector).json()
        assert (answer["model"]["version"], answer["probabilities"]) == (
            1, trained.predictions("gbm")[0]["probabilities"],
        )  # fmt: skip
        lines = [line for line in served.logged("model refused") if line["region"] == region]
        assert len(lines) == 1
        assert (lines[0]["audit"], lines[0]["use_case"], lines[0]["version"]) == (True, USE_CASE, 2)
        assert (lines[0]["keeps_serving"], len(lines[0]["mojo_sha256"])) == (1, 64)
        assert DAMAGES[region][1] in lines[0]["reason"]

    # An explicit act makes the unsigned one good; the sidecar takes it up by itself.
    key, keys = signing_key(servers), verification_keys(servers)
    with connect(servers) as connection:
        signings = list(sign_registered(connection, key, keys, use_case=USE_CASE))
    assert [(each.model.region, each.refused) for each in signings] == [("unsigned", "")]
    served.await_version(USE_CASE, "unsigned", 2, seconds=40)
    for region in DAMAGES:
        promote(servers, USE_CASE, region, 1)
    until = time.monotonic() + 10
    while any(fault["use_case"] == USE_CASE for fault in served.readiness()["not_loaded"]):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_champion_that_lies_on_the_disk_is_verified_again_at_the_next_start(
    servers: Settings, trained: Trained, tmp_path: Path
) -> None:
    """Loaded and kept on the disk by one sidecar, then re-pointed: the next one refuses it, from the same disk."""
    place = on_free_ports(servers)
    own = servers.model_copy(update={"sidecar": place.sidecar})
    promote(servers, "on_disk", "r", registered(servers, trained, "on_disk", "r", "glm"))
    with sidecar(own, tmp_path, SIDECAR__REFRESH_SECONDS="0.2") as first:
        first.await_version("on_disk", "r", 1)
    with connect(servers) as connection:
        model = model_version(connection, "on_disk", "r", 1)
        assert (servers.state_folder / "serving" / f"{model.mojo_sha256}.zip").is_file()
        other = stranger(servers).sign(model)
        forge = "UPDATE platform.model_versions SET signature = %s, signed_by = %s WHERE use_case = 'on_disk'"
        connection.execute(forge, [other.signature, other.signed_by])
    try:
        with sidecar(own, tmp_path, SIDECAR__REFRESH_SECONDS="0.2") as second:
            answer = second.predict("on_disk", "r", trained.vectors()[0])
            assert answer.status_code == 503
            assert "unknown key" in answer.json()["detail"]
    finally:
        with connect(servers) as connection:
            connection.execute(forge, [model.signature, model.signed_by])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [(None, "there is no key to verify models with"), ("nonsense", "holds no PEM block")],
)
def test_a_sidecar_without_a_good_key_does_not_start_and_says_why(
    servers: Settings, tmp_path: Path, keys: str | None, sentence: str
) -> None:
    (tmp_path / "secrets").mkdir()
    if keys is not None:
        (tmp_path / "secrets" / "platform_verification_keys").write_text(keys)
    elsewhere = servers.model_copy(update={"state_folder": tmp_path})
    done = subprocess.run(
        [str(INTERPRETER), "-m", "serving"], cwd=PROJECT, env=platform_environment(elsewhere),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("the sidecar cannot start: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
