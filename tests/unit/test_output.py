"""What commands print for people."""

from __future__ import annotations

import pytest

from mage_platform.command_line.output import print_table


def test_a_cell_is_printed_as_it_is_and_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    pattern = 'match_regex(column="code", regex="^[a-z]{3}$")'
    print_table(["rule", "value"], [[pattern, "[red]LAX[/red]"]], empty="none")
    printed = capsys.readouterr().out
    assert pattern in printed
    assert "[red]LAX[/red]" in printed
