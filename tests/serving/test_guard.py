"""Who is let in: keys, what they are for, how often they may ask, and what happens when their file changes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mage_platform.api_keys import create_key, revoke_key, write_secret
from mage_platform.command_line.first_run import ask_when_served
from mage_platform.command_line.predictions import ask
from mage_platform.contracts.keys import ApiKeys
from mage_platform.errors import ContractViolated, SettingsInvalid, SidecarUnavailable
from mage_platform.local.passwords import secrets_folder
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings, load_settings
from serving.keys import keyring
from serving.rate_limit import Bucket
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar

GUARDED = ("/v1/models", "/v1/models/guard_a/r", "/v1/models/guard_a/r/report", "/docs", "/openapi.json", "/nowhere")


@dataclass
class Guarded:
    """A sidecar that asks for keys."""

    sidecar: Sidecar
    settings: Settings
    file: Path
    features: dict[str, Any]

    def create(self, name: str, *use_cases: str, **more: Any) -> str:
        """Make a key and wait until it counts."""
        key, _ = create_key(self.file, name, use_cases=use_cases or ("*",), **more)
        await_that(lambda: self.get("/v1/models", key).status_code != 401)
        return key

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        return self.sidecar.client.get(path, headers=headers | bearer(key))

    def predict(self, use_case: str, key: str | None = None, **headers: str) -> httpx.Response:
        body = {"use_case": use_case, "region": "r", "entity_id": ENTITY, "features": self.features}
        return self.sidecar.client.post("/v1/predict", json=body, headers=headers | bearer(key))


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def await_that(holds: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def guarded_sidecar(servers: Settings, trained: Trained, folder: Path, **variables: str) -> Iterator[Guarded]:
    secrets = folder / "secrets"
    shutil.copytree(secrets_folder(servers), secrets)
    file = secrets / "platform_api_keys"
    key, _ = create_key(file, "platform", use_cases=("*",), right="admin")
    write_secret(secrets / "platform_api_key", key)
    port = servers.sidecar.model_copy(update={"port": free_port()})
    settings = servers.model_copy(update={"sidecar": port, "secrets_folder": secrets})
    variables = {"SECRETS_FOLDER": str(secrets), "SIDECAR__REFRESH_SECONDS": "0.2", **variables}
    with sidecar(settings, folder, **variables) as started:
        yield Guarded(started, settings, file, trained.vectors()[0])


@pytest.fixture(scope="module")
def guarded(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    for use_case in ("guard_a", "guard_b"):
        promote(servers, use_case, "r", registered(servers, trained, use_case, "r", "glm"))
    with guarded_sidecar(servers, trained, tmp_path_factory.mktemp("guarded")) as started:
        yield started


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


@pytest.mark.integration
def test_without_a_key_or_with_an_unknown_one_nothing_but_health_is_answered(guarded: Guarded) -> None:
    for key, error in ((None, ""), ("mp_unknown", ', error="invalid_token"'), ("?", "")):
        for path in GUARDED:
            answer = guarded.get(path, key)
            assert problem(answer) == (401, "key-refused"), path
            if key is not None:
                assert answer.headers["www-authenticate"].startswith('Bearer realm="predictions"' + error)
        assert problem(guarded.predict("guard_a", key)) == (401, "key-refused")
        for path in ("/health/live", "/health/ready"):
            assert guarded.get(path, key).status_code == 200


@pytest.mark.integration
@pytest.mark.parametrize("form", ["bearer", "BEARER", "x-api-key", "basic"])
def test_a_key_is_sent_in_any_usual_way(guarded: Guarded, form: str) -> None:
    key = guarded.create(f"form-{form}")
    headers = {
        "bearer": {"authorization": f"Bearer {key}"},
        "BEARER": {"authorization": f"BEARER {key}"},
        "x-api-key": {"x-api-key": key, "authorization": "Negotiate of-somebody-else"},
        "basic": {"authorization": "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()},
    }[form]
    assert guarded.predict("guard_a", **headers).status_code == 200
    assert guarded.get("/v1/models", **headers).status_code == 200


@pytest.mark.integration
def test_a_browser_is_asked_for_a_key_and_another_site_cannot_use_it(guarded: Guarded) -> None:
    asked = guarded.get("/docs", accept="text/html,*/*").headers.get_list("www-authenticate")
    assert any(each.startswith("Basic ") for each in asked)
    key = guarded.create("browser")
    login = {"authorization": "Basic " + base64.b64encode(f":{key}".encode()).decode()}
    own = guarded.settings.sidecar.url
    assert guarded.predict("guard_a", origin=own, **login).status_code == 200
    for origin in ("https://elsewhere.example", "null", "http://["):
        assert guarded.predict("guard_a", origin=origin, **login).status_code == 401


@pytest.mark.integration
def test_a_key_is_held_to_its_use_cases(guarded: Guarded) -> None:
    key = guarded.create("only-a", "guard_a")
    assert guarded.predict("guard_a", key).status_code == 200
    refused = guarded.predict("guard_b", key)
    assert problem(refused) == (403, "not-allowed")
    assert refused.json()["errors"][0] == {
        "field": "use_case", "message": "is not what this key is for", "value": "guard_b",
    }  # fmt: skip
    for path in ("/v1/models/guard_b/r", "/v1/models/guard_b/r/report", "/v1/models/unheard_of/r"):
        assert problem(guarded.get(path, key)) == (403, "not-allowed")
    assert guarded.get("/v1/models/guard_a/r", key).status_code == 200
    listed = {model["use_case"] for model in guarded.get("/v1/models", key).json()["models"]}
    assert listed == {"guard_a"}
    # Nor does an error tell what features the model of another use case has.
    body = {"use_case": "guard_b", "region": "r", "entity_id": "?", "features": {"month": "May"}}
    answer = guarded.sidecar.client.post("/v1/predict", json=body, headers=bearer(key))
    assert problem(answer) == (403, "not-allowed")
    absent = guarded.create("absent", "not_served")
    answer = guarded.predict("not_served", absent)
    assert answer.status_code == 404
    assert "guard_" not in answer.text


@pytest.mark.integration
def test_what_tells_of_all_use_cases_needs_the_right_admin(guarded: Guarded) -> None:
    reader, admin = guarded.create("reader"), guarded.create("admin", right="admin")
    for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/metrics"):
        refused = guarded.get(path, reader)
        assert problem(refused) == (403, "not-allowed")
        assert "admin" in refused.json()["detail"]
    for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
        assert guarded.get(path, admin).status_code == 200
    document = guarded.get("/openapi.json", admin).json()
    predict = document["paths"]["/v1/predict"]["post"]
    assert predict["security"] == [{"bearer": []}, {"header": []}]
    assert {"401", "403", "429"} <= set(predict["responses"])


@pytest.mark.integration
def test_a_revoked_key_an_ended_one_and_a_new_one_count_without_a_restart(guarded: Guarded) -> None:
    key = guarded.create("short", expires=datetime.now(UTC) + timedelta(seconds=4))
    other = guarded.create("other")
    await_that(lambda: guarded.predict("guard_a", key).status_code == 401)
    assert "'short' ended at" in guarded.predict("guard_a", key).json()["detail"]
    assert guarded.predict("guard_a", other).status_code == 200
    revoke_key(guarded.file, "other")
    await_that(lambda: guarded.predict("guard_a", other).status_code == 401)


@pytest.mark.integration
def test_a_broken_or_lost_file_leaves_the_keys_and_is_told(guarded: Guarded) -> None:
    key = guarded.create("steady")
    right = guarded.file.read_bytes()
    for wrong in (b'{"keys": [', b'{"keys": [{"name": "x", "sha256": "mp_plaintextkey"}]}', None):
        if wrong is None:
            guarded.file.unlink()
        else:
            guarded.file.write_bytes(wrong)
        await_that(lambda: guarded.sidecar.readiness()["api_keys"] != "")
        reason = guarded.sidecar.readiness()["api_keys"]
        assert str(guarded.file) in reason
        assert "plaintextkey" not in guarded.sidecar.log.read_text() + reason
        assert guarded.predict("guard_a", key).status_code == 200
        assert guarded.predict("guard_a").status_code == 401
        write_secret(guarded.file, right.decode())
        await_that(lambda: guarded.sidecar.readiness()["api_keys"] == "")
    assert guarded.sidecar.logged("api keys not read")


@pytest.mark.integration
def test_a_swapped_link_is_followed_as_kubernetes_swaps_it(guarded: Guarded) -> None:
    folder = guarded.file.parent
    right = guarded.file.read_text()
    for generation in ("one", "two"):
        (folder / generation).mkdir()
        write_secret(folder / generation / guarded.file.name, right)
    stamp = (folder / "one" / guarded.file.name).stat()
    key, _ = create_key(folder / "two" / guarded.file.name, "second-generation", use_cases=("*",))
    os.utime(folder / "two" / guarded.file.name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    def lead_to(generation: str) -> None:
        (folder / "..data_new").symlink_to(generation)
        (folder / "..data_new").rename(folder / "..data")

    lead_to("one")
    guarded.file.unlink()
    guarded.file.symlink_to(Path("..data") / guarded.file.name)
    assert guarded.predict("guard_a", key).status_code == 401
    lead_to("two")
    await_that(lambda: guarded.predict("guard_a", key).status_code == 200)
    guarded.file.unlink()
    write_secret(guarded.file, right)
    await_that(lambda: guarded.predict("guard_a", key).status_code == 401)


@pytest.mark.integration
def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_the_others_are_not_slowed(guarded: Guarded) -> None:
    hasty = guarded.create("hasty", requests_per_second=0.01, burst=5)
    other = guarded.create("calm")
    answers = [guarded.predict("guard_a", hasty) for _ in range(8)]
    # One of the five was spent on finding out that the key counts.
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 4
    assert problem(answers[-1]) == (429, "too-many-requests")
    assert 60 < int(answers[-1].headers["retry-after"]) <= 100
    assert "'hasty' may make 0.01 requests a second, 5 at once" in answers[-1].json()["detail"]
    assert guarded.get("/v1/models", hasty).status_code == 429
    assert guarded.get("/health/ready", hasty).status_code == 200
    assert guarded.predict("guard_a", other).status_code == 200
    # A file that is written anew gives nobody a full bucket.
    guarded.create("newcomer")
    assert guarded.predict("guard_a", hasty).status_code == 429


@pytest.mark.integration
def test_the_platforms_own_commands_find_their_key(guarded: Guarded, tmp_path: Path) -> None:
    request = {"use_case": "guard_a", "region": "r", "entity_id": ENTITY, "features": guarded.features}
    assert ask(guarded.settings, request)["model"]["use_case"] == "guard_a"
    version = guarded.get("/v1/models/guard_a/r", guarded.create("looks")).json()["model"]["version"]
    assert ask_when_served(guarded.settings, request, version=version)["model"]["version"] == version
    without = guarded.settings.model_copy(update={"secrets_folder": tmp_path})
    for ask_without in (ask, lambda *given: ask_when_served(*given, version=version)):
        with pytest.raises(ContractViolated, match="platform_api_key"):
            ask_without(without, request)
    with pytest.raises(SidecarUnavailable, match="requests a second"):
        slow = tmp_path / "platform_api_key"
        slow.write_text(guarded.create("slow", requests_per_second=0.01, burst=1))
        ask(without, request)


@pytest.mark.integration
def test_no_key_stands_in_the_log_or_in_an_answer(guarded: Guarded) -> None:
    keys = [guarded.create("discreet"), guarded.create("discreet-too", "guard_b"), "mp_" + "stranger" * 5]
    answers = [guarded.predict("guard_a", key) for key in keys]
    answers += [guarded.get(f"/v1/models/{key}/r", key) for key in keys[:1]]
    answers += [guarded.get("/nowhere", key) for key in keys]
    log = guarded.sidecar.log.read_text()
    assert not any(key in log for key in keys)
    # What was asked for is named to whoever asked; a key that was sent as a key never is.
    assert not any(key in answer.text or key in str(answer.headers) for answer in answers for key in keys[1:])
    assert (guarded.settings.secrets_folder / "platform_api_key").read_text() not in guarded.sidecar.log.read_text()  # type: ignore[operator]


@pytest.mark.integration
def test_anonymous_lets_everybody_in_but_holds_a_key_to_its_word(
    servers: Settings, trained: Trained, tmp_path: Path, guarded: Guarded
) -> None:
    more = {"SIDECAR__ANONYMOUS": "true", "SIDECAR__REQUESTS_PER_SECOND": "0.01", "SIDECAR__REQUEST_BURST": "3"}
    with guarded_sidecar(servers, trained, tmp_path, SIDECAR__DOCS="off", **more) as open_door:
        assert [open_door.predict("guard_a").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        assert open_door.predict("guard_a", "mp_unknown").status_code == 401
        scoped = open_door.create("scoped", "guard_b")
        assert open_door.predict("guard_a", scoped).status_code == 403
        admin = open_door.create("admin-too", right="admin")
        assert open_door.get("/docs", admin).status_code == 404
        assert open_door.get("/openapi.json", admin).status_code == 404


@pytest.mark.integration
def test_every_answer_carries_security_headers(guarded: Guarded) -> None:
    key = guarded.create("headers", right="admin")
    for answer in (guarded.predict("guard_a", key), guarded.predict("guard_a"), guarded.predict("unheard_of", key)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    for path in (*GUARDED, "/health/ready", "/docs/assets/swagger-ui.css"):
        for answer in (guarded.get(path, key), guarded.get(path)):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert len(answer.headers.get_list("content-security-policy")) == 1
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert guarded.get("/v1/models", key).headers["cache-control"] == "no-store"
    assert "cache-control" not in guarded.get("/docs/assets/swagger-ui.css", key).headers
    page = guarded.get("/docs", key)
    assert "'unsafe-inline'" not in page.headers["content-security-policy"].partition("script-src")[2].partition(";")[0]


def test_a_bucket_gives_what_its_rate_and_its_burst_allow() -> None:
    now = 0.0
    bucket = Bucket(2.0, 3, clock=lambda: now)
    assert [bucket.take() for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    now = 0.25
    assert bucket.take() == 0.25
    now = 0.5
    assert (bucket.take(), bucket.take()) == (0.0, 0.5)
    now = 1000.0
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def settings_without_keys(folder: Path, environment: str, host: str, **door: Any) -> Settings:
    base = load_settings(state_folder=folder)
    side = base.sidecar.model_copy(update={"host": host, **door})
    return base.model_copy(update={"environment": environment, "sidecar": side})


@pytest.mark.parametrize(
    ("environment", "host"), [("production", "127.0.0.1"), ("local", "0.0.0.0"), ("local", "::"), ("local", "a.b")]
)
def test_a_start_without_keys_is_refused_in_production_and_beyond_this_machine(
    tmp_path: Path, environment: str, host: str
) -> None:
    with pytest.raises(SettingsInvalid, match=r"PLATFORM_SIDECAR__ANONYMOUS=true") as refused:
        keyring(settings_without_keys(tmp_path, environment, host))
    assert str(tmp_path / "secrets" / "platform_api_keys") in str(refused.value)
    assert keyring(settings_without_keys(tmp_path, environment, host, anonymous=True)).holders is None
    create_key(tmp_path / "secrets" / "platform_api_keys", "one", use_cases=("*",))
    assert len(keyring(settings_without_keys(tmp_path, environment, host)).holders or {}) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_a_local_start_on_loopback_needs_no_keys(tmp_path: Path, host: str) -> None:
    assert keyring(settings_without_keys(tmp_path, "local", host)).holders is None


def test_a_start_with_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "platform_api_keys").write_text(json.dumps({"keys": [{"name": "x"}]}))
    with pytest.raises(SettingsInvalid, match=r"keys\.0\.sha256"):
        keyring(settings_without_keys(tmp_path, "local", "127.0.0.1"))


def test_keys_that_share_a_name_or_a_digest_are_refused() -> None:
    one = {"name": "x", "sha256": "0" * 64, "use_cases": ["*"], "created": "2026-01-01T00:00:00Z"}
    for other in ({"name": "y"}, {"sha256": "1" * 64}):
        with pytest.raises(ValueError, match="stands there twice"):
            ApiKeys.model_validate({"keys": [one, one | other]})
