"""Use cases on disk: reading the declaration, and the functions that lie beside it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from mage_platform.contracts import UseCase
from mage_platform.errors import UseCaseInvalid, UseCaseNotFound
from mage_platform.settings import Settings
from mage_platform.use_cases.declaration import Declaration
from mage_platform.use_cases.mistakes import explain

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
    return parse(declaration_of(settings, name))


def declaration_of(settings: Settings, name: str) -> Declaration:
    """What is written of one use case, before it is checked.

    Raises:
        UseCaseNotFound, UseCaseInvalid: See `load_use_case`.
    """
    path = settings.use_cases_folder / name / FILE
    if not path.is_file():
        known = ", ".join(use_case_names(settings)) or "none"
        raise UseCaseNotFound(f"there is no use case {name!r}: no file {path}. Declared are: {known}", field="use_case")
    declaration = Declaration(path)
    if isinstance(written := declaration.data.get("name"), str) and written != name:
        sentence = f"name is {written!r} but the folder is {name!r}: give them the same name"
        raise declaration.invalid([declaration.mistake(("name",), sentence)])
    return declaration


def read_declaration(path: Path) -> UseCase:
    """Parse and check one `use_case.yaml`.

    Raises:
        UseCaseInvalid: See `load_use_case`.
    """
    return parse(Declaration(path))


def parse(declaration: Declaration) -> UseCase:
    """Check what is written against the contract.

    Raises:
        UseCaseInvalid: See `load_use_case`.
    """
    try:
        return UseCase.model_validate(declaration.data)
    except ValidationError as error:
        raise declaration.invalid(explain(declaration, error)) from None


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
        raise UseCaseInvalid(
            f"use case {use_case.name}: {reference} asks for {path}, which does not exist: write it, with a function "
            f"{function_name!r}"
        )
    module = _import(f"use_cases.{use_case.name}.{module_name}", path)
    function = getattr(module, function_name, None)
    if not callable(function):
        there = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
        near = get_close_matches(function_name, there, n=1)
        raise UseCaseInvalid(
            f"use case {use_case.name}: {path} has no function {function_name!r}; it has {', '.join(there) or 'none'}"
            + (f". Did you mean {near[0]!r}?" if near else "")
        )
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
