"""Use cases on disk: reading the declaration, and the functions that lie beside it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import ValidationError

from mage_platform.contracts import UseCase
from mage_platform.errors import UseCaseInvalid, UseCaseNotFound
from mage_platform.settings import Settings

FILE = "use_case.yaml"


def use_case_names(settings: Settings) -> list[str]:
    """Names of all declared use cases, sorted."""
    return sorted(path.parent.name for path in settings.use_cases_folder.glob(f"*/{FILE}"))


def load_use_case(settings: Settings, name: str) -> UseCase:
    """The declaration of one use case, checked.

    Raises:
        UseCaseNotFound: There is no `use_cases/<name>/use_case.yaml`; names those there are.
        UseCaseInvalid: The file is not what the contract says; one line for each mistake, with its line number.
    """
    path = settings.use_cases_folder / name / FILE
    if not path.is_file():
        known = ", ".join(use_case_names(settings)) or "none"
        raise UseCaseNotFound(f"there is no use case {name!r}: no file {path}. Declared are: {known}", field="use_case")
    use_case = read_declaration(path)
    if use_case.name != name:
        raise UseCaseInvalid(
            f"{path}: name is {use_case.name!r} but the folder is {name!r}: give them the same name",
            field="name",
        )
    return use_case


def read_declaration(path: Path) -> UseCase:
    """Parse and check one `use_case.yaml`.

    Raises:
        UseCaseInvalid: See `load_use_case`.
    """
    text = path.read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UseCaseInvalid(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UseCaseInvalid(f"{path}: a use case is a mapping that starts with `name:`, this is {type(data).__name__}")
    try:
        return UseCase.model_validate(data)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        lines = [_mistake(path, tree, mistake["loc"], mistake["msg"], mistake["input"]) for mistake in mistakes]
        field = ".".join(map(str, mistakes[0]["loc"]))
        raise UseCaseInvalid("\n".join(lines), field=field) from None


def use_case_function(settings: Settings, use_case: UseCase, reference: str) -> Callable[..., Any]:
    """A function of the use case's own folder.

    Args:
        settings: Where use cases lie.
        use_case: Whose folder.
        reference: `module:function`.

    Raises:
        UseCaseInvalid: There is no such module or function, or the module cannot be imported.
    """
    module_name, function_name = reference.split(":")
    path = settings.use_cases_folder / use_case.name / f"{module_name}.py"
    if not path.is_file():
        raise UseCaseInvalid(f"use case {use_case.name}: {reference} asks for {path}, which does not exist")
    function = getattr(_import(f"use_cases.{use_case.name}.{module_name}", path), function_name, None)
    if not callable(function):
        raise UseCaseInvalid(f"use case {use_case.name}: {path} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the use case's own code may raise anything at import
        del sys.modules[name]
        raise UseCaseInvalid(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _mistake(path: Path, tree: yaml.Node | None, location: tuple[int | str, ...], message: str, value: Any) -> str:
    line = _line_of(tree, location)
    shown = "" if isinstance(value, (dict, list)) else f" (found {value!r})"
    return (
        f"{path}:{line}: {'.'.join(map(str, location)) or 'use case'}: {message.removeprefix('Value error, ')}{shown}"
    )


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line (from 1) of the deepest node on the way to `location` that is really written in the file."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
