"""The files of a project, each read and parsed once."""

from __future__ import annotations

import ast
import configparser
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml
from dockerfile_parse import DockerfileParser

from mage_platform.decisions.located_yaml import Located, documents_of

LEFT_OUT = {".git", ".venv", "venv", "node_modules", "__pycache__", ".platform", "site-packages"}
OUTPUT = {"build", "dist"}
"""Folders at the root that hold what was made of the project, where no git tells so."""
LARGEST_BYTES = 2_000_000


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    line: int
    name: str
    """In capitals."""
    value: str


@dataclass
class Project:
    """A folder with whatever a data engineer keeps in it.

    Args:
        root: The folder.
    """

    root: Path
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that could not be parsed, with the parser's reason; filled as they are read."""

    @cached_property
    def files(self) -> list[str]:
        """Paths relative to the root: what git knows or would add, else everything below that is no environment."""
        try:
            command = ["git", "-C", str(self.root), "ls-files", "-co", "--exclude-standard", "-z", "."]
            listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            found = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
            listed = [str(path) for path in found if path.parts[0] not in OUTPUT]
        return sorted(path for path in listed if path and self._looked_at(path))

    def _looked_at(self, path: str) -> bool:
        file = self.root / path
        parts = Path(path).parts
        if any(part in LEFT_OUT or part.startswith(".venv") for part in parts):
            return False
        return file.is_file() and not file.is_symlink() and file.stat().st_size <= LARGEST_BYTES

    def text(self, path: str) -> str:
        """Content of a file; what is no UTF-8 is replaced."""
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    @cached_property
    def python(self) -> dict[str, ast.Module]:
        """Syntax trees of the Python files."""
        trees = {}
        for path in self.files:
            if path.endswith(".py"):
                try:
                    trees[path] = ast.parse(self.text(path))
                except (SyntaxError, ValueError) as error:
                    self.unreadable[path] = f"no Python: {error}"
        return trees

    @cached_property
    def yaml(self) -> dict[str, list[Located]]:
        """Documents of the YAML files."""
        found = {}
        for path in self.files:
            if path.endswith((".yaml", ".yml")):
                try:
                    found[path] = documents_of(self.text(path))
                except (yaml.YAMLError, ValueError) as error:
                    self.unreadable[path] = f"no YAML: {str(error).splitlines()[0]}"
        return found

    @cached_property
    def dockerfiles(self) -> dict[str, list[Instruction]]:
        """Instructions of the Dockerfiles, arguments put in."""
        found = {}
        for path in self.files:
            name = Path(path).name.lower()
            if (
                name in ("dockerfile", "containerfile")
                or name.startswith("dockerfile.")
                or name.endswith(".dockerfile")
            ):
                found[path] = list(self._instructions(path))
        return found

    def _instructions(self, path: str) -> Iterator[Instruction]:
        with (self.root / path).open("rb") as file:
            parsed = DockerfileParser(fileobj=file, env_replace=False)
            arguments: dict[str, str] = {}
            for each in parsed.structure:
                value = str(each["value"])
                if each["instruction"] == "ARG" and "=" in value:
                    key, _, given = value.partition("=")
                    arguments[key.strip()] = given.strip().strip("\"'")
                if each["instruction"] == "FROM":
                    for key, given in arguments.items():
                        value = value.replace(f"${{{key}}}", given).replace(f"${key}", given)
                if each["instruction"] != "COMMENT":
                    yield Instruction(int(each["startline"]) + 1, str(each["instruction"]).upper(), value)

    @cached_property
    def requirements(self) -> list[str]:
        """Files of resolved requirements; their sources end with `.in`."""
        return [path for path in self.files if Path(path).name.startswith("requirements") and path.endswith(".txt")]

    @cached_property
    def pgbouncers(self) -> dict[str, configparser.RawConfigParser]:
        """Configuration files of PgBouncer."""
        found = {}
        for path in self.files:
            if path.endswith(".ini"):
                parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"), delimiters=("=",))
                try:
                    parser.read_string(self.text(path))
                except configparser.Error as error:
                    self.unreadable[path] = f"no INI file: {str(error).splitlines()[0]}"
                    continue
                if parser.has_section("pgbouncer"):
                    found[path] = parser
        return found

    def line_of(self, path: str, start: str) -> int:
        """Number of the first line that starts so, spaces aside; 1 where none does."""
        for number, line in enumerate(self.text(path).splitlines(), 1):
            if line.strip().lower().startswith(start.lower()):
                return number
        return 1


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call of a syntax tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(node: ast.AST) -> str:
    """Last part of a name: `predict` of `self.model.predict`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST | None) -> str | None:
    """The value of a text constant; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def imports(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
