"""The worked example of docs/your_own_table.md, command by command, with the whole local stack already up."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from mage_platform.database import connect
from mage_platform.local.embedded import running
from mage_platform.local.lookup import ALL
from mage_platform.local.surroundings import block_environment
from mage_platform.registry import champions
from mage_platform.settings import PROJECT, Settings, load_settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
PAGE = (PROJECT / "docs/your_own_table.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ \.venv/bin/mage-platform (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("own")
    asked = load_settings(
        state_folder=folder / "state", use_cases_folder=folder / "use_cases", h2o={"memory_limit_gib": 2, "threads": 2}
    )
    with running(asked, ALL, migrate=True) as started:
        yield started


def command(settings: Settings, line: str) -> subprocess.CompletedProcess[str]:
    """As it stands on the page, with this Python's own program and no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "mage_platform", *shlex.split(line)], env={**os.environ, **block_environment(settings)},
        cwd=PROJECT, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_commands_of_the_page_lead_from_a_file_to_a_prediction(settings: Settings) -> None:
    new, check, ingest, train, predict = COMMANDS
    done = command(settings, new)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = re.findall(r"^  mage-platform (.+)$", done.stdout, re.MULTILINE)
    assert printed == [ingest, train, predict], "the page shows what the command prints"
    for line in (check, ingest, train):
        done = command(settings, line)
        assert done.returncode == 0, done.stderr[-3000:]
    with connect(settings) as connection:
        (champion,) = champions(connection)
        assert connection.execute("SELECT count(*) FROM platform.features").fetchone() == (1200,)
        newest = connection.execute("SELECT max(event_time) FROM platform.features").fetchone()
    last = pd.read_csv(PROJECT / "docs/examples/parcels.csv")["handed_in"].max()
    assert newest == (pd.Timestamp(last, tz="Europe/Zurich").to_pydatetime(),)
    assert champion.model.region == "all"
    assert champion.model.metrics.auc > champion.model.naive_metrics.auc
    answer = predicted(settings, predict)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert (answer["model"]["region"], answer["model"]["version"]) == ("all", 1)


def predicted(settings: Settings, line: str) -> dict[str, Any]:
    """The sidecar picks a new champion up within seconds."""
    from mage_platform.command_line.first_run import ask_when_served

    _, use_case, region, entity = shlex.split(line)
    ask_when_served(settings, {"use_case": use_case, "region": region, "entity_id": entity}, version=1)
    done = command(settings, f"{line} --json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_an_existing_use_case_is_never_overwritten(settings: Settings) -> None:
    folder = settings.use_cases_folder / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    done = command(settings, COMMANDS[0].replace("new parcels", "new mine"))
    assert (done.returncode, "exists already and is left as it is" in done.stderr) == (2, True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
