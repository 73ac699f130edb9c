"""Rules about SQL: `.sql` files, and statements that Python hands to a database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pglast
from pglast.enums import AlterTableType, ConstrType, PartitionStrategy

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.project import Project, calls_in, name_of, text_of

_nodes: Any = pglast.ast
REQUIRED = {"entity_id": "uuid", "event_time": "timestamptz", "feature_vector": "jsonb"}
_RUNS_SQL = {
    "execute",
    "executemany",
    "execute_batch",
    "SQL",
    "text",
    "read_sql",
    "read_sql_query",
    "copy",
    "exec_driver_sql",
}
_NAMED = re.compile(r"^--\s*name:.*$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"%\(\w+\)[sbt]|%[sbt]|(?<![:\w]):[a-z_]\w*|\$\w+\$(?=\s)")
_HOLE = re.compile(r"\{\w*\}")
_STATEMENT = re.compile(r"^\s*(CREATE|ALTER)\s", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """One parsed statement."""

    path: str
    line: int
    node: Any
    text: bytes
    """As it was parsed,"""
    ahead: int
    """with so many bytes before its first word."""


def statements(project: Project) -> list[Statement]:
    """Every statement of the project that defines a table or an index, parsed by PostgreSQL's own grammar."""
    kept: list[Statement] | None = project.__dict__.get("_statements")
    if kept is None:
        kept = [each for path in project.files if path.endswith(".sql") for each in _of_file(project, path)]
        kept += [each for path, tree in project.python.items() for each in _of_python(path, tree)]
        project.__dict__["_statements"] = kept
    return kept


def json_columns(project: Project) -> Iterator[Finding]:
    """Columns of type json, new or changed."""
    for statement in statements(project):
        for column, kind, line in _typed_columns(statement):
            if kind in ("json", "_json"):
                yield Finding(statement.path, line, "jsonb-not-json", f"column {column} is of type json")
    for path, tree in project.python.items():
        for call in calls_in(tree):
            if name_of(call.func) in ("Column", "mapped_column"):
                for argument in [*call.args, *(each.value for each in call.keywords)]:
                    declared = argument.func if isinstance(argument, ast.Call) else argument
                    if name_of(declared) == "JSON":
                        yield Finding(path, call.lineno, "jsonb-not-json", "a column is declared as JSON")


def range_partitions(project: Project) -> Iterator[Finding]:
    """Tables partitioned by range."""
    for statement in statements(project):
        node = statement.node
        split = node.partspec if isinstance(node, _nodes.CreateStmt) else None
        if split is not None and split.strategy == PartitionStrategy.PARTITION_STRATEGY_RANGE:
            message = f"{node.relation.relname} is partitioned by range"
            yield Finding(statement.path, statement.line, "no-range-partitions", message)


def feature_table(project: Project) -> Iterator[Finding]:
    """Tables named features that lack a required column, its type or the key."""
    for statement in statements(project):
        node = statement.node
        if not isinstance(node, _nodes.CreateStmt) or node.relation.relname != "features" or node.partbound:
            continue
        elements = node.tableElts or ()
        types = {column: kind for column, kind, _ in _typed_columns(statement)}
        for column, kind in REQUIRED.items():
            if types.get(column) != kind:
                found = f"is {types[column]}" if column in types else "is missing"
                message = f"features.{column} {found}, not {kind}"
                yield Finding(statement.path, statement.line, "feature-table", message)
        keys = [_names(each.keys) for each in elements if getattr(each, "contype", None) == ConstrType.CONSTR_PRIMARY]
        if keys != [["entity_id", "event_time"]]:
            message = (
                f"features has the primary key {keys[0] if keys else 'of no columns'}, not (entity_id, event_time)"
            )
            yield Finding(statement.path, statement.line, "feature-table", message)


def feature_index(project: Project) -> Iterator[Finding]:
    """A table features without a GIN index on its vectors anywhere in the project."""
    tables = [
        each for each in statements(project)
        if isinstance(each.node, _nodes.CreateStmt) and each.node.relation.relname == "features"
        and not each.node.partbound
    ]  # fmt: skip
    indexed = any(
        isinstance(each.node, _nodes.IndexStmt)
        and each.node.relation.relname == "features"
        and each.node.accessMethod == "gin"
        and any(part.name == "feature_vector" for part in each.node.indexParams)
        for each in statements(project)
    )
    if not indexed:
        for table in tables:
            message = "features has no GIN index on feature_vector in this project"
            yield Finding(table.path, table.line, "feature-index", message)


def _typed_columns(statement: Statement) -> Iterator[tuple[str, str, int]]:
    """Column, type without schema (arrays with a leading underscore), and line."""
    node = statement.node
    definitions: list[tuple[str, Any]] = []
    if isinstance(node, _nodes.CreateStmt):
        definitions = [(e.colname, e) for e in node.tableElts or () if isinstance(e, _nodes.ColumnDef)]
    elif isinstance(node, _nodes.AlterTableStmt):
        changing = (AlterTableType.AT_AddColumn, AlterTableType.AT_AlterColumnType)
        definitions = [(e.def_.colname or e.name, e.def_) for e in node.cmds if e.subtype in changing]
    for name, definition in definitions:
        kind = definition.typeName
        array = "_" if kind.arrayBounds else ""
        below = statement.text.count(b"\n", statement.ahead, max(definition.location or 0, statement.ahead))
        yield name, array + kind.names[-1].sval, statement.line + below


def _names(values: Any) -> list[str]:
    return [each.sval for each in values or ()]


def _of_file(project: Project, path: str) -> Iterator[Statement]:
    text = project.text(path)
    starts = [0, *(match.end() for match in _NAMED.finditer(text)), len(text)]
    for start, end in pairwise(starts):
        yield from _parsed(project, path, text[start:end], text.count("\n", 0, start) + 1)


def _of_python(path: str, tree: ast.Module) -> Iterator[Statement]:
    for call in calls_in(tree):
        if name_of(call.func) in _RUNS_SQL and call.args:
            text = text_of(call.args[0])
            if text is not None and _STATEMENT.match(text):
                yield from _parsed(None, path, text, call.args[0].lineno)


def _parsed(project: Project | None, path: str, text: str, line: int) -> Iterator[Statement]:
    try:
        parts = pglast.split(text, with_parser=False, only_slices=True)
    except pglast.Error:
        parts = (slice(0, len(text)),)
    for part in parts:
        piece = text[part]
        ahead = len(piece) - len(_without_comments(piece))
        here = line + text.count("\n", 0, part.start + ahead)
        try:
            parsed = pglast.parse_sql(piece)
        except pglast.Error:
            parsed = _with_holes_filled(piece)
            if parsed is None:
                if project is not None and _STATEMENT.match(piece[ahead:]):
                    project.unreadable[f"{path}:{here}"] = "a statement that PostgreSQL's grammar does not take"
                continue
        for each in parsed:
            yield Statement(path, here, each.stmt, piece.encode(), len(piece[:ahead].encode()))


def _with_holes_filled(text: str) -> Any:
    """Templates hold placeholders and names that are put in later; a name stands in for each."""
    filled = _HOLE.sub("a_name", _PLACEHOLDER.sub("NULL", text)).replace("%%", "%")
    try:
        return pglast.parse_sql(filled)
    except pglast.Error:
        return None


def _without_comments(text: str) -> str:
    return re.sub(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)+", "", text, flags=re.DOTALL)
