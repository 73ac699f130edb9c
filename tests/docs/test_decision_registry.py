"""This project keeps the rules it holds others to; `make check` asks the same by the command."""

from __future__ import annotations

from click.testing import CliRunner

from mage_platform.command_line.decisions import decisions
from mage_platform.decisions import RULES


def test_this_project_keeps_every_rule() -> None:
    done = CliRunner().invoke(decisions, ["check"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{len(RULES)} rules: all kept")
