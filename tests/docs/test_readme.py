"""What the documents say is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mage_platform.command_line.program import program
from mage_platform.settings import PROJECT, setting_names

README = (PROJECT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (PROJECT / "docs").rglob("*.md")
)


def commands(group: click.Group = program, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", sorted(commands()), ids=" ".join)
def test_a_command_says_what_it_does_and_takes_json_where_it_prints_data(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(program, [*path, "--help"])
    assert done.exit_code == 0
    sentence = done.output.splitlines()[2].strip()
    assert sentence.endswith((".", ":")) or len(sentence) > 40
    assert "--json" in done.output or path == ("up",)


def groups(group: click.Group = program, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, (*path, name))


@pytest.mark.parametrize("path", sorted(groups()), ids=" ".join)
def test_the_list_of_commands_says_what_each_does_in_a_whole_sentence(path: tuple[str, ...]) -> None:
    listed = CliRunner().invoke(program, [*path, "--help"]).output.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_every_group_of_commands_is_mentioned_in_the_readme() -> None:
    missing = [name for name in program.commands if f"mage-platform {name}" not in README and name != "up"]
    assert not missing


def test_every_command_in_the_readme_exists() -> None:
    known = {" ".join(path) for path in commands()}
    for line in re.findall(r"mage-platform ([a-z][a-z -]*[a-z])", README):
        words = line.split()
        assert any(" ".join(words[:length]) in known for length in (1, 2)) or words[0] in program.commands, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_and_target_and_link_in_a_document_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    makefile = (PROJECT / "Makefile").read_text()
    for name in re.findall(r"PLATFORM_[A-Z0-9_]+[A-Z0-9]", text):
        assert name in setting_names() or any(each.startswith(name) for each in setting_names()), name
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / link).exists(), link


def test_a_decision_fits_on_a_screen_and_has_a_number_of_its_own() -> None:
    records = sorted((PROJECT / "docs/decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert numbers == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for record in records:
        lines = record.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 40, record.name
        assert lines[0].startswith(f"# {int(record.name[:4])}. "), record.name


def test_nothing_committed_names_a_registry_host_or_a_path_of_a_machine() -> None:
    import subprocess

    files = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True).stdout.split()
    hosts = re.compile(
        r"pypi\." r"org|registry\.npmjs|files\.python" r"hosted|/home/(?!user/\.local/share/buildkit)\w+/|/roo" r"t/"
    )
    for name in files:  # BuildKit's rootless image has its own user's home, at the place exempted above
        path = PROJECT / name
        if path.suffix in {".py", ".md", ".txt", ".in", ".yaml", ".toml", ".sql", ".sh", ""} and path.is_file():
            found = hosts.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{name}: {found and found.group()}"
