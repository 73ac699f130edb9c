"""Settings: from the environment and from secret files, and never silently wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from mage_platform.errors import SettingsInvalid
from mage_platform.local.passwords import keep_passwords
from mage_platform.local.surroundings import setting_variables, without_secrets
from mage_platform.settings import Settings, load_settings, setting_names


def test_a_nested_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SIDECAR__PORT", "8123")
    assert load_settings().sidecar.port == 8123


def test_an_unknown_variable_is_refused_with_the_nearest_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SIDECAR__PROT", "8123")
    with pytest.raises(SettingsInvalid, match="did you mean PLATFORM_SIDECAR__PORT"):
        load_settings()


def test_a_value_out_of_range_names_variable_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_MAGE__PORT", "70000")
    with pytest.raises(SettingsInvalid, match="PLATFORM_MAGE__PORT='70000'"):
        load_settings()


def test_secrets_come_from_files_and_never_show_in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "platform_database_password").write_text("s3cret/with:signs")
    monkeypatch.setenv("PLATFORM_SECRETS_FOLDER", str(tmp_path))
    settings = load_settings()
    assert settings.database_password is not None
    assert settings.database_password.get_secret_value() == "s3cret/with:signs"
    assert "s3cret" not in repr(settings)
    assert settings.database_url() == "postgresql://platform:s3cret%2Fwith%3Asigns@127.0.0.1:15432/platform"


def test_no_secret_reaches_the_environment_of_a_process_or_the_note_of_what_runs(tmp_path: Path) -> None:
    fields = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert {"database_password", "h2o_password", "redis_password", "signing_key"} <= set(fields)
    secret = {name: SecretStr("s3cret") for name in fields}
    settings = load_settings(state_folder=tmp_path, **secret)
    assert "s3cret" not in repr(settings)
    variables = setting_variables(settings)
    assert [name for name in fields if f"PLATFORM_{name}".upper() in variables] == []
    assert [name for name in fields if name in without_secrets(settings)] == []


def test_no_password_is_made_up_for_a_cache_elsewhere(tmp_path: Path) -> None:
    def password(host: str) -> str:
        settings = load_settings(state_folder=tmp_path, redis={"host": host})
        keep_passwords(settings)
        kept = load_settings(state_folder=tmp_path).redis_password
        return kept.get_secret_value() if kept else ""

    assert password("cache.example") == ""
    made_up = password("127.0.0.1")
    assert len(made_up) == 32
    assert password("cache.example") == made_up


def test_a_secret_file_that_is_no_text_is_named_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "platform_database_password").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("PLATFORM_SECRETS_FOLDER", str(tmp_path))
    with pytest.raises(SettingsInvalid, match="database_password") as refused:
        load_settings()
    assert str(tmp_path) in str(refused.value)


def test_a_group_given_as_broken_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_DATABASE", "{")
    with pytest.raises(SettingsInvalid, match="database"):
        load_settings()


def test_production_refuses_direct_database_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_ENVIRONMENT", "production")
    with pytest.raises(SettingsInvalid, match="PgBouncer"):
        load_settings()
    monkeypatch.setenv("PLATFORM_DATABASE__THROUGH_PGBOUNCER", "true")
    assert load_settings().environment == "production"


@pytest.mark.parametrize(("limit", "heap"), [(4, 2867), (5, 3584), (64, 45875)])
def test_the_heap_is_seventy_percent_of_the_limit(limit: float, heap: int) -> None:
    settings = load_settings(h2o={"memory_limit_gib": limit})
    assert settings.h2o.heap_mib == heap
    assert settings.h2o.heap_mib <= 0.70 * limit * 1024


def test_every_setting_has_a_sentence() -> None:
    import ast
    import inspect

    from mage_platform import settings, watch_settings

    trees = [ast.parse(inspect.getsource(module)) for module in (settings, watch_settings)]
    for node in (each for tree in trees for each in tree.body if isinstance(each, ast.ClassDef)):
        body = node.body
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                name = ast.unparse(field.target)
                assert documented or (
                    name in {"model_config", *Settings.model_fields} and "Settings()" in ast.unparse(field)
                ), f"{node.name}.{name} has no docstring"


def test_the_names_of_all_settings_are_known() -> None:
    names = setting_names()
    assert len(names) == len(set(names)) > 30
    assert "PLATFORM_DATABASE__THROUGH_PGBOUNCER" in names
