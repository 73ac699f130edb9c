"""The shape of the code: layers, doors, sizes, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mage_platform.settings import PROJECT

PRODUCT = (
    "mage_platform",
    "serving",
    "use_cases",
    "data_loaders",
    "transformers",
    "data_exporters",
    "custom",
    "charts",
)
GRAB_BAGS = {"util", "utils", "helper", "helpers", "common", "misc", "shared", "base", "core", "manager", "handler"}
MODULE_LINES, FUNCTION_LINES = 320, 60


def modules() -> list[Path]:
    return sorted(path for folder in PRODUCT for path in (PROJECT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_the_layers_hold() -> None:
    # `sys.executable -m` keeps this on the environment under test
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_module_is_small_well_named_and_says_what_it_is(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert path.stem not in GRAB_BAGS
    assert len(source.splitlines()) <= MODULE_LINES
    too_long = {
        each.name: each.end_lineno - each.lineno + 1
        for each in functions(path)
        if each.end_lineno is not None and each.end_lineno - each.lineno + 1 > FUNCTION_LINES
    }
    assert not too_long
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), "a module starts with a sentence"


def test_every_public_function_of_the_platform_has_a_docstring() -> None:
    nameless = [
        f"{path.relative_to(PROJECT)}:{node.name}"
        for path in modules()
        if path.parts[-2] not in {"data_loaders", "transformers", "data_exporters", "custom", "charts"}
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not nameless


def test_sql_lives_in_sql_files() -> None:
    """No statement is put together from pieces of text."""
    statement = re.compile(r"\b(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b", re.DOTALL)
    found = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        and statement.search("".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
    ]
    assert not found


def test_pojos_are_never_exported() -> None:
    calls = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and "pojo" in node.attr.lower()
    ]
    assert not calls


def test_exceptions_are_caught_whole_only_where_a_comment_says_why() -> None:
    bare = []
    for path in modules():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"except (Base)?Exception|suppress\(Exception\)", line) and "#" not in line:
                bare.append(f"{path.relative_to(PROJECT)}:{number}")
    assert not bare


def test_no_database_server_or_password_is_named_in_a_pipeline() -> None:
    for path in (PROJECT / "pipelines").rglob("*.yaml"):
        assert not re.search(r"password|token: \w|postgresql://", path.read_text()), path


def test_every_requirement_is_pinned_with_hashes() -> None:
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-bootstrap.txt",
        "serving/requirements.txt",
        "tests/serving/schemathesis-requirements.txt",
        "tests/manifests/tools-requirements.txt",
        "benchmarks/feast-requirements.txt",
        "benchmarks/peers-requirements.txt",
    ):
        text = (PROJECT / name).read_text()
        entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text).strip())
        for entry in entries:
            assert re.match(r"[A-Za-z0-9._\-\[\]]+==\S+", entry), f"{name}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{name}: {entry[:60]}"
        assert not re.search(r"https?://|--index-url|--find-links", text), name
