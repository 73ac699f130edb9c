"""`mage-platform use-case new` as a person and as a script use it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mage_platform.command_line.program import program
from mage_platform.database import connect
from mage_platform.local.surroundings import block_environment
from mage_platform.proposal import creating
from mage_platform.settings import PROJECT, Settings, load_settings
from mage_platform.use_cases import load_use_case
from tests import demo_use_case as demo


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLATFORM_USE_CASES_FOLDER", str(tmp_path / "use_cases"))
    monkeypatch.setenv("PLATFORM_STATE_FOLDER", str(tmp_path / "state"))
    demo.ride_rows().to_csv(tmp_path / "rides.csv", index=False)
    return tmp_path


def new(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(program, ["use-case", "new", *arguments])


def test_a_script_gets_json_and_a_folder_that_is_whole_in_itself(folder: Path) -> None:
    done = new("rides", "--from", f"{folder}/rides.csv", "--target", "late", "--event-time", "booked_at", "--json")
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["declaration"]["entity"] == {"key": ["ride"]}
    assert (answer["vectors"], answer["refused"], answer["complete"]) == (1_200, 0, True)
    place = folder / "use_cases/rides"
    assert sorted(path.name for path in place.iterdir()) == ["rides.csv", "use_case.yaml"]
    assert (place / "rides.csv").read_bytes() == (folder / "rides.csv").read_bytes()
    assert [path.name for path in (folder / "use_cases").iterdir()] == ["rides"]
    assert CliRunner().invoke(program, ["use-case", "check", "rides"]).exit_code == 0


def test_a_large_file_is_read_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "COPIED_BYTES", 10)
    done = new("rides", "--from", f"{folder}/rides.csv", "--target", "late", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "rides.csv is read where it lies" in done.stdout
    assert [path.name for path in (folder / "use_cases/rides").iterdir()] == ["use_case.yaml"]
    settings = load_settings()
    assert load_use_case(settings, "rides").source.file == str(folder / "rides.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "late"], "--event-time is needed"),
        (["--event-time", "booked_at"], "--target is needed"),
        (["--target", "late", "--event-time", "arrived"], "no column 'arrived': did you mean 'arrived_at'"),
        (["--target", "ride", "--yes"], "'ride' cannot be predicted: it holds 1,200 different texts"),
        (["--target", "late", "--yes", "--entity", "city,carrier,rid"], "no column 'rid': did you mean 'ride'"),
        (["--target", "late", "--yes", "--drop", "carrier", "--drop", "rain_millimetres"], "no column is left"),
        (["--target", "late", "--yes", "--connection", "shop"], "--connection is for a query"),
    ],
)
def test_what_is_missing_or_wrong_is_exit_code_2_and_leaves_nothing(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = new("rides", "--from", f"{folder}/rides.csv", *arguments)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert not (folder / "use_cases").exists()


def test_a_name_or_an_origin_that_cannot_be_is_explained(folder: Path) -> None:
    assert "such as my_rides" in new("My Rides", "--from", f"{folder}/rides.csv").stderr
    assert "there is no such file" in new("rides", "--from", f"{folder}/ride.csv").stderr
    assert "neither a file (.parquet, .csv" in new("rides", "--from", f"{folder}/rides.xlsx").stderr
    (folder / "empty.csv").write_text("")
    assert "it is empty" in new("rides", "--from", f"{folder}/empty.csv").stderr
    (folder / "head.csv").write_text("a,b\n")
    assert "the table has no rows" in new("rides", "--from", f"{folder}/head.csv").stderr


def test_on_a_terminal_only_what_cannot_be_known_is_asked(folder: Path) -> None:
    ours, theirs = pty.openpty()
    # event time: as proposed; target: a slip, then right; known at: as proposed; region: none
    os.write(ours, b"\nlat\nlate\n\nnone\n")
    done = subprocess.run(
        [sys.executable, "-m", "mage_platform", "use-case", "new", "rides", "--from", str(folder / "rides.csv")],
        stdin=theirs, capture_output=True, text=True, cwd=PROJECT, timeout=200,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0, done.stderr
    asked = re.findall(r"at which moment|which column \w+", done.stderr)
    assert asked == [
        "at which moment",
        "which column is",
        "which column is",
        "which column says",
        "which column splits",
    ]
    assert "'lat' is none of" in done.stderr
    use_case = load_use_case(load_settings(), "rides")
    assert (use_case.event_time, use_case.target.column, use_case.region) == ("booked_at", "late", None)
    assert use_case.target.known_at == "arrived_at"


@pytest.mark.integration
def test_a_query_becomes_a_file_of_the_use_case(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = settings.state_folder / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "platform_database_password").write_text(
        settings.database_password.get_secret_value() if settings.database_password else ""
    )
    for name, value in block_environment(settings).items():
        if name.startswith("PLATFORM_"):
            monkeypatch.setenv(name, value)
    with connect(settings) as connection:
        connection.execute("CREATE TABLE sales (id int, at timestamptz, amount numeric, won boolean)")
        connection.execute(
            "INSERT INTO sales SELECT n, timestamptz '2024-01-01Z' + n * interval '1 hour', n % 7, n % 3 = 0 "
            "FROM generate_series(1, 900) AS n"
        )
    done = new("sales", "--from", "select * from sales where at < %(end)s", "--target", "won", "--json")
    assert done.exit_code == 0, done.stderr
    place = settings.use_cases_folder / "sales"
    assert (place / "rows.sql").read_text() == "select * from sales where at < %(end)s\n"
    use_case = load_use_case(settings, "sales")
    assert (use_case.source.query, use_case.entity.key) == ("rows.sql", ["id"])
    assert use_case.features.columns["amount"].type == "number"
    # the 541st of 900 rows is on 23 January
    assert use_case.training.train_until == datetime(2024, 1, 23, tzinfo=UTC)
    refused = new("sales2", "--from", "select * from sale", "--target", "won")
    assert (refused.exit_code, 'relation "sale" does not exist' in refused.stderr) == (2, True)
