"""Rules about Mage pipelines: their declarations and the code of their blocks."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.located_yaml import Located
from mage_platform.decisions.project import Project, calls_in, name_of
from mage_platform.decisions.python_checks import is_block

_TRAINS = re.compile(r"^(train|fit|H2OAutoML$|H2O\w+Estimator$)")
_POOLS = {"ThreadPoolExecutor", "ProcessPoolExecutor", "Pool", "ThreadPool", "Parallel"}


def fan_outs(project: Project) -> Iterator[Finding]:
    """Trainings that fan out in a loop or a pool of a block, or in copies of a block."""
    for path, tree in project.python.items():
        if is_block(path):
            yield from _in_code(path, tree)
    for path, documents in project.yaml.items():
        if Path(path).name == "metadata.yaml" and "pipelines" in Path(path).parts:
            for document in documents:
                yield from _in_declaration(path, document)


def _in_code(path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(
            node, (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
        ):
            trained = [name_of(call.func) for call in calls_in(node) if _TRAINS.match(name_of(call.func))]
            if trained:
                message = f"{trained[0]}() is called in a loop: its items are not children of a dynamic block"
                yield Finding(path, node.lineno, "dynamic-fan-out", message)
        elif isinstance(node, ast.Call) and name_of(node.func) in ("map", "submit", "starmap", "apply_async"):
            trained = [name_of(each) for each in node.args[:1] if _TRAINS.match(name_of(each))]
            if trained and _POOLS & {name_of(each) for each in ast.walk(tree)}:
                message = f"{trained[0]} is handed to a pool: its items are not children of a dynamic block"
                yield Finding(path, node.lineno, "dynamic-fan-out", message)


def _in_declaration(path: str, document: Located) -> Iterator[Finding]:
    siblings: dict[tuple[str, ...], list[Located]] = defaultdict(list)
    dynamic = {block["uuid"].text for block in document["blocks"] if block["configuration"]["dynamic"].value is True}
    for block in document["blocks"]:
        if block["uuid"].text.startswith("train"):
            siblings[tuple(sorted(each.text for each in block["upstream_blocks"]))].append(block)
    for upstream, blocks in siblings.items():
        if len(blocks) > 1 and not dynamic & set(upstream):
            names = ", ".join(block["uuid"].text for block in blocks)
            message = f"{names} stand side by side: one training each, written by hand"
            yield Finding(path, blocks[1].line, "dynamic-fan-out", message)
