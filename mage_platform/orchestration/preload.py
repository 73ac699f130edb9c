"""What blocks import, imported once by the process that blocks are forked from.

Mage forks a process for each block and each child of a fan-out. Whatever the parent has imported is there at once;
the rest is imported anew in every one of them, at the same time and on the same cores. For the training blocks that is
a second and a half each.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

PACKAGE = "mage_platform"
FOLDERS = ("data_loaders", "transformers", "data_exporters", "custom")

log = structlog.get_logger()


def preload_blocks(project: Path, blocks: Iterable[str] | None = None) -> list[str]:
    """Import the platform's modules that blocks name at their top.

    A file that cannot be read or a module that cannot be imported is left to its block, whose error says more.

    Args:
        project: Folder of the Mage project.
        blocks: Names of the blocks; None takes all of the project.

    Returns:
        The imported modules, in order.
    """
    wanted = None if blocks is None else set(blocks)
    names: dict[str, None] = {}
    for file in sorted(each for folder in FOLDERS for each in (project / folder).glob("*.py")):
        if wanted is None or file.stem in wanted:
            names.update(dict.fromkeys(_platform_modules(file)))
    loaded = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # the block that needs it fails with the whole story
            log.debug("not imported ahead", module=name, reason=str(error))
        else:
            loaded.append(name)
    return loaded


def _platform_modules(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.partition(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            assert node.module is not None
            yield node.module
            # `from package import module` names a module as well
            package = file.parents[1].joinpath(*node.module.split("."))
            yield from (f"{node.module}.{each.name}" for each in node.names if (package / f"{each.name}.py").is_file())
