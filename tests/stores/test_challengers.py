"""Challengers in the registry: how they take part, who changed that when and why, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from mage_platform.contracts.use_case import Retention
from mage_platform.database import connect
from mage_platform.errors import ContractViolated, ModelNotFound
from mage_platform.local.surroundings import platform_environment
from mage_platform.registry import (
    alias_history,
    challenger_history,
    challengers,
    champions_marker,
    deployments,
    drop_artifacts,
    end_challenger,
    move_alias,
    register,
    set_challenger,
    signing_key,
)
from mage_platform.settings import PROJECT, Settings
from tests.stores.registry_samples import a_version

pytestmark = pytest.mark.integration
PLACE = {"use_case": "rides", "region": "Bern"}
BY = {"changed_by": "anna", "reason": "a try"}


@pytest.fixture
def three(settings: Settings, tmp_path: Path) -> Settings:
    """Versions 1 to 3 of one region; 1 is champion."""
    genmodel = tmp_path / "h2o-genmodel.jar"
    genmodel.write_bytes(b"jar")
    with connect(settings) as connection:
        for number in (1, 2, 3):
            mojo = tmp_path / f"{number}.zip"
            mojo.write_bytes(f"model {number}".encode())
            key = signing_key(settings)
            register(connection, a_version(run=str(number)), mojo=mojo, genmodel=genmodel, signing_key=key)
        move_alias(connection, **PLACE, version=1, moved_by="anna", reason="first")
    return settings


def test_every_change_of_a_challenger_is_kept_with_who_and_why(three: Settings) -> None:
    with connect(three) as connection:
        markers = [champions_marker(connection)]
        steps = ((2, "canary", 0.1), (2, "canary", 0.1), (2, "canary", 0.5), (2, "shadow", 1.0), (3, "canary", 0.2))
        for version, mode, share in steps:
            set_challenger(connection, **PLACE, version=version, mode=mode, share=share, **BY)  # type: ignore[arg-type]
            markers.append(champions_marker(connection))
        now = challengers(connection)
        assert [(each.model.version, each.mode, each.share) for each in now] == [(3, "canary", 0.2)]
        end_challenger(connection, **PLACE, **BY)
        markers.append(champions_marker(connection))
        assert challengers(connection) == []
        history = challenger_history(connection, **PLACE)
        moves = alias_history(connection, **PLACE)
    assert [(each.version, each.mode, each.share) for each in history] == [
        (3, None, None), (3, "canary", 0.2), (2, "shadow", 1.0), (2, "canary", 0.5), (2, "canary", 0.1),
    ]  # fmt: skip
    assert {(each.changed_by, each.reason) for each in history} == {("anna", "a try")}
    assert [(each.alias, each.to_version) for each in moves] == [("challenger", 3), ("challenger", 2), ("champion", 1)]
    grown = [before < after for before, after in pairwise(markers)]
    assert grown == [True, False, True, True, True, True], "it grows with each change, and with nothing else"


def test_a_challenger_that_becomes_champion_is_one_no_more(three: Settings) -> None:
    with connect(three) as connection:
        set_challenger(connection, **PLACE, version=2, mode="canary", share=0.1, **BY)
        move_alias(connection, **PLACE, version=3, moved_by="anna", reason="another")
        assert [each.model.version for each in challengers(connection)] == [2]
        move_alias(connection, **PLACE, version=2, moved_by="bert", reason="it did well")
        assert challengers(connection) == []
        last = challenger_history(connection)[0]
        assert (last.version, last.mode, last.changed_by, last.reason) == (
            2, None, "bert", "became champion: it did well",
        )  # fmt: skip
        assert [each.champion.model.version for each in deployments(connection)] == [2]


def test_what_cannot_take_part_is_refused(three: Settings) -> None:
    with connect(three) as connection:
        with pytest.raises(ContractViolated, match="version 1 is the champion"):
            set_challenger(connection, **PLACE, version=1, mode="canary", share=0.1, **BY)
        with pytest.raises(ModelNotFound, match="no version 9"):
            set_challenger(connection, **PLACE, version=9, mode="canary", share=0.1, **BY)
        with pytest.raises(ModelNotFound, match="has no champion"):
            set_challenger(connection, use_case="rides", region="Chur", version=1, mode="shadow", share=1.0, **BY)
        assert end_challenger(connection, **PLACE, **BY) is None
    for share in (0.0, 1.5):
        with pytest.raises(psycopg.errors.CheckViolation), connect(three) as connection:
            set_challenger(connection, **PLACE, version=2, mode="canary", share=share, **BY)


def test_retention_keeps_the_bytes_of_a_challenger(three: Settings) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    rule = Retention(keep_versions=1, keep_days=1)
    with connect(three) as connection:
        set_challenger(connection, **PLACE, version=2, mode="shadow", share=1.0, **BY)
        assert drop_artifacts(connection, "rides", rule, later)[0] == []
        end_challenger(connection, **PLACE, **BY)
        assert [each.version for each in drop_artifacts(connection, "rides", rule, later)[0]] == [2]


def test_what_is_known_of_versions_is_read_once(three: Settings) -> None:
    with connect(three) as connection:
        set_challenger(connection, **PLACE, version=2, mode="canary", share=0.1, **BY)
        (first,) = deployments(connection)
        assert first.challenger is not None
        assert (first.champion.model.version, first.challenger.model.version, first.challenger.share) == (1, 2, 0.1)
        (again,) = deployments(connection, [first.champion.model, first.challenger.model])
        assert again == first
        assert again.champion.model is first.champion.model
        unsigned = first.champion.model.model_copy(update={"signature": None})
        (fresh,) = deployments(connection, [unsigned])
        assert fresh == first, "a version that was signed meanwhile is read again"


def test_a_move_that_is_committed_after_a_later_one_changes_the_marker(three: Settings, tmp_path: Path) -> None:
    with connect(three) as connection:
        key, genmodel = signing_key(three), tmp_path / "h2o-genmodel.jar"
        mojo = tmp_path / "1.zip"
        register(connection, a_version(region="Chur"), mojo=mojo, genmodel=genmodel, signing_key=key)
    with connect(three) as slow:
        move_alias(slow, **PLACE, version=2, moved_by="slow", reason="has the lower number")
        with connect(three) as quick:
            move_alias(quick, use_case="rides", region="Chur", version=1, moved_by="quick", reason="commits first")
        with connect(three) as reader:
            between = champions_marker(reader)
    with connect(three) as reader:
        assert champions_marker(reader) > between


def test_the_commands_set_show_and_end_a_challenger(three: Settings, database_server: Settings) -> None:
    shutil.copytree(database_server.state_folder / "secrets", three.state_folder / "secrets")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mage_platform", "models", *arguments],
            env={**os.environ, **platform_environment(three)}, cwd=PROJECT, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    why = ("--reason", "a try")
    done = command("canary", "rides", "Bern", "2", "--share", "0.125", *why, "--json")
    assert done.returncode == 0, done.stderr
    change = json.loads(done.stdout)
    assert (change["version"], change["mode"], change["share"], change["reason"]) == (2, "canary", 0.125, "a try")
    assert change["changed_by"]
    assert "so already" in command("canary", "rides", "Bern", "2", "--share", "0.125", *why).stdout
    assert "2 canary 12.5 %" in command("list").stdout
    listed = {each["version"]: each for each in json.loads(command("list", "--json").stdout)}
    assert {version: each["champion"] for version, each in listed.items()} == {1: True, 2: False}
    assert (listed[1]["challenger"], listed[2]["challenger"]["share"]) == (None, 0.125)

    assert command("shadow", "rides", "Bern", "3", *why).stdout == "rides/Bern: version 3 shadow 100 %\n"
    assert command("withdraw", "rides", "Bern", *why).stdout == "rides/Bern: version 3 takes part no more\n"
    shown = json.loads(command("show", "rides", "Bern", "--json").stdout)["challenger_history"]
    assert [(each["version"], each["mode"]) for each in shown] == [(3, None), (3, "shadow"), (2, "canary")]

    nobody = command("withdraw", "rides", "Bern", *why)
    assert (nobody.returncode, "neither canary nor shadow" in nobody.stderr) == (3, True)
    wrong = command("canary", "rides", "Bern", "2", "--share", "12", *why)
    assert (wrong.returncode, "above 0 and at most 1" in wrong.stderr) == (2, True)
    assert command("canary", "rides", "Bern", "1", "--share", "0.1", *why).returncode == 2
    with connect(three) as connection:
        connection.execute("UPDATE platform.model_versions SET signature = NULL, signed_by = NULL WHERE version = 2")
    unsigned = command("canary", "rides", "Bern", "2", "--share", "0.1", *why)
    assert (unsigned.returncode, "is not signed" in unsigned.stderr) == (2, True)
