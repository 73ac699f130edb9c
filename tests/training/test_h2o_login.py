"""H2O asks for a login, keeps its machine's files to itself, and the password shows nowhere. Real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import h2o
import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from mage_platform.errors import H2OUnavailable, SettingsInvalid
from mage_platform.h2o_login import credentials
from mage_platform.local import state_folder
from mage_platform.local.embedded import running
from mage_platform.local.h2o_server import h2o_service
from mage_platform.local.java import find_java
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from mage_platform.training.h2o_connection import await_whole_cloud, h2o_server
from tests.h2o_requests import h2o_json

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
DISTINCT = "distinct-word-of-this-test"


def _with_password(settings: Settings, password: str | None) -> Settings:
    return settings.model_copy(update={"h2o_password": SecretStr(password) if password else None})


@pytest.mark.parametrize("path", ["/", "/3/Cloud", "/3/Frames", "/3/ImportFiles?path=/", "/flow/index.html", "/3/Logs"])
def test_nothing_is_answered_without_a_login(training_server: Settings, path: str) -> None:
    url = f"{training_server.h2o.url}{path}"
    right = credentials(training_server.h2o_password)
    assert right is not None
    for login in (None, ("platform", ""), ("platform", right[1][:8]), ("admin", right[1])):
        assert httpx.get(url, auth=login, timeout=10).status_code == 401
    assert httpx.get(url, auth=right, timeout=10, follow_redirects=True).status_code != 401


def test_a_wrong_password_is_refused_at_once_with_the_file_to_mend(training_server: Settings, tmp_path: Path) -> None:
    settings = _with_password(training_server, DISTINCT).model_copy(update={"secrets_folder": tmp_path})
    clock = time.monotonic()
    with capture_logs() as events, pytest.raises(SettingsInvalid) as refused, h2o_server(settings):
        pass
    assert time.monotonic() - clock < settings.h2o.connect_timeout_seconds / 2
    said = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + repr(events)
    assert f"refuses the login 'platform' with the password of the secret file {tmp_path}/platform_h2o_password" in said
    assert refused.value.field == "h2o_password"
    assert DISTINCT not in said


def test_a_password_that_is_missing_is_said_to_be(training_server: Settings, tmp_path: Path) -> None:
    settings = _with_password(training_server, None).model_copy(update={"secrets_folder": tmp_path})
    with pytest.raises(SettingsInvalid) as refused:
        await_whole_cloud(settings)
    assert f"asks for a login, and the secret file {tmp_path}/platform_h2o_password is missing" in str(refused.value)


def test_a_client_cannot_have_the_server_read_or_write_files_of_its_machine(
    training_server: Settings, tmp_path: Path
) -> None:
    outside = tmp_path / "rows.csv"
    outside.write_text("a,b\n1,2\n3,4\n")
    exported = tmp_path / "exported.csv"
    with h2o_server(training_server):
        frame = h2o.upload_file(str(outside), destination_frame="uploaded")
        assert (frame.nrow, frame.ncol) == (2, 2)
        for reach in (
            lambda: h2o.import_file(str(outside)),
            lambda: h2o.api(f"GET /3/ImportFiles?path={outside}"),
            lambda: h2o.import_file(outside.as_uri()),
            lambda: h2o.export_file(frame, str(exported), force=True),
        ):
            with pytest.raises(h2o.exceptions.H2OResponseError, match="access denied"):
                reach()
        h2o.remove("uploaded")
    assert not exported.exists()


def test_no_error_or_log_of_a_lost_connection_tells_the_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens; then a server dies in the middle of the client's work."""
    asked = Settings(state_folder=tmp_path / "state", h2o={"memory_limit_gib": 1, "threads": 1})
    (tmp_path / "state" / "secrets").mkdir(parents=True)
    (tmp_path / "state" / "secrets" / "platform_h2o_password").write_text(DISTINCT)
    caplog.set_level(0)
    said = ""
    with capture_logs() as events:
        with running(asked, ("h2o",)) as started:
            assert started.h2o_password == SecretStr(DISTINCT)
            settings = started.model_copy(
                update={"h2o": started.h2o.model_copy(update={"connect_timeout_seconds": 1.0})}
            )
            note = state_folder.read_note(started.state_folder)
            assert note is not None
            server = next(each.pid for each in note.services if each.name == "h2o")
            with pytest.raises(H2OUnavailable) as lost, h2o_server(settings):
                with pytest.raises(h2o.exceptions.H2OResponseError) as wrong:
                    h2o.api("GET /3/Models/none")
                said += "".join(traceback.format_exception(wrong.value)) + repr(vars(wrong.value))
                os.kill(server, signal.SIGKILL)
                while True:
                    h2o.ls()
        with pytest.raises(H2OUnavailable) as silent, h2o_server(settings):
            pass
    for error in (lost.value, silent.value):
        said += "".join(traceback.format_exception(error)) + repr(error)
    said += repr(events) + caplog.text + "".join(capfd.readouterr())
    said += "".join(file.read_text() for file in (tmp_path / "state" / "logs").rglob("*") if file.is_file())
    assert "H2O" in said
    assert DISTINCT not in said


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[Settings]:
    """A server as those before this login were: it asks nobody for one."""
    settings = Settings(state_folder=tmp_path, h2o={"port": free_port(), "memory_limit_gib": 1, "threads": 1})
    settings = _with_password(settings, DISTINCT)
    service = h2o_service(settings, find_java(), SecretStr(DISTINCT))
    place = service.argv.index("-hash_login")
    argv = [*service.argv[:place], *service.argv[place + 3 :]]
    log = tmp_path / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(argv, cwd=service.folder, env=service.environment, stdout=output, stderr=output)
    try:
        yield settings
    finally:
        process.kill()
        process.wait()


def test_a_server_that_asks_nobody_for_a_login_is_used_with_a_warning(open_server: Settings) -> None:
    with capture_logs() as events, h2o_server(open_server):
        assert h2o_json(open_server, "/3/Cloud")["cloud_size"] == 1
    (warning,) = [event for event in events if event["log_level"] == "warning"]
    assert "asks nobody for a login" in warning["event"]
    assert warning["address"] == open_server.h2o.url
    assert "docs/security.md" in warning["remedy"]


def test_a_server_with_a_login_is_used_without_a_warning(training_server: Settings) -> None:
    with capture_logs() as events, h2o_server(training_server):
        pass
    assert [event for event in events if event["log_level"] == "warning"] == []
