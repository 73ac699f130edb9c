"""`use_case.yaml` as it is written: its values, the line of each, and what YAML itself cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mage_platform.errors import UseCaseInvalid

Location = tuple[int | str, ...]
"""Way to a value: keys, and places in lists from 0."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing to mend in a declaration."""

    line: int
    """From 1."""
    field: str
    """Dotted way to the value; empty where there is none."""
    message: str
    """What is wrong, with the value, then what to write instead."""


class Declaration:
    """One `use_case.yaml`.

    Args:
        path: The file.

    Raises:
        UseCaseInvalid: It is no YAML mapping, or a key stands twice; names the line and what to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UseCaseInvalid(f"{path}: not UTF-8 (byte {error.start}): save the file as UTF-8") from None
        self._lines = text.splitlines()
        if tab := next((n for n, each in enumerate(self._lines, 1) if re.match(r" *\t[\t ]*\S", each)), None):
            raise self.invalid(
                [Mistake(tab, "", "not valid YAML: the line is indented by a tab character: YAML wants spaces")]
            )
        try:
            tree = yaml.compose(text, Loader=_Loader)
            self.data: Any = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise self.invalid([self._unreadable(error)]) from None
        self._tree = tree
        if not isinstance(self.data, dict):
            found = "is empty" if self.data is None else f"is a {type(self.data).__name__}"
            raise self.invalid([Mistake(1, "", f"a use case is a mapping that starts with `name:`, this {found}")])
        if twice := list(_twice(tree)):
            raise self.invalid(twice)

    def invalid(self, mistakes: list[Mistake]) -> UseCaseInvalid:
        """All mistakes as one error, a line each, in the order of the file."""
        ordered = sorted(set(mistakes))
        return UseCaseInvalid(
            "\n".join(
                f"{self.path}:{each.line}: {each.field + ': ' if each.field else ''}{each.message}" for each in ordered
            ),
            field=ordered[0].field or None,
        )

    def mistake(self, location: Location, message: str) -> Mistake:
        """A mistake at a place, with its line."""
        return Mistake(self.line_of(location), ".".join(map(str, location)), message)

    def line_of(self, location: Location) -> int:
        """Line (from 1) of the deepest part of the way that is really written in the file."""
        return _deepest(self._tree, location)[0]

    def text_of(self, location: Location) -> str | None:
        """A value as it is written, such as `yes` where YAML reads true; None where there is no single word."""
        line, node = _deepest(self._tree, location)
        return node.value if isinstance(node, yaml.ScalarNode) and node.style is None and line else None

    def key_at(self, location: Location) -> str | None:
        """The key of a mapping as it is written, by its place in the mapping."""
        _, node = _deepest(self._tree, location[:-1])
        place = location[-1]
        if isinstance(node, yaml.MappingNode) and isinstance(place, int) and place < len(node.value):
            return str(node.value[place][0].value)
        return None

    def _unreadable(self, error: yaml.YAMLError) -> Mistake:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        begun = getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else 1
        context = str(getattr(error, "context", None) or "")
        if begun is not None and ("flow" in context or "quoted" in context):
            closing = {"sequence": "`]`", "mapping": "`}`"}.get(context.rsplit(" ", 1)[-1], "quotation mark")
            return Mistake(begun.line + 1, "", f"not valid YAML: what begins here lacks its closing {closing}")
        if "found '-'" in problem:
            return Mistake(
                line, "", f"not valid YAML: {self._line(line).strip()!r} begins a list's entry where none may stand: "
                "begin every entry of the list by `- `, all indented alike",
            )  # fmt: skip
        if "another document" in problem:
            return Mistake(line, "", "not valid YAML: a second document begins here: take away the line `---`")
        if "mapping values are not allowed" in problem or "block" in problem:
            return Mistake(line, "", f"not valid YAML: {self._about_indentation(line)}")
        if "could not find expected ':'" in problem:
            line = begun.line + 1 if begun is not None else line
            shown = self._line(line).strip()
            return Mistake(line, "", f"not valid YAML: {shown!r} is no `key: value`: write a colon and a space")
        if "cannot start any token" in problem or "undefined alias" in problem:
            return Mistake(
                line, "", f"not valid YAML: {problem}: put the value of {self._line(line).strip()!r} in quotes"
            )
        return Mistake(line, "", f"not valid YAML: {problem}: look at {self._line(line).strip()!r}")

    def _about_indentation(self, line: int) -> str:
        text = self._line(line)
        before = [each for each in self._lines[: line - 1] if each.strip() and not each.lstrip().startswith("#")]
        own, depths = _depth(text), [_depth(each) for each in before]
        if re.match(r"\s*-?\s*[^\s:{]+: [^{]*: ", text) and own <= (depths[-1] if depths else 0):
            return f"{text.strip()!r} holds a second colon: put the value in quotes"
        near = sorted(sorted({*depths} - {own}, key=lambda each: abs(each - own))[:2])
        return (
            f"{text.strip()!r} is indented by {own}, and its neighbours are not: indent it by as many spaces as the "
            f"entries it belongs to ({' or '.join(map(str, near)) or '0'})"
        )

    def _line(self, number: int) -> str:
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


def _depth(text: str) -> int:
    return len(text) - len(text.lstrip())


class _Loader(yaml.SafeLoader):
    """SafeLoader that hands on a day which is not in the calendar as text, so that the contract can name it."""

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        """A date or a time, or the text of one that cannot be."""
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            return node.value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)


def _twice(node: yaml.Node | None, way: Location = ()) -> Iterator[Mistake]:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = ".".join(map(str, (*way, name)))
                yield Mistake(line, where, f"stands twice, on lines {lines[name]} and {line}: keep one of them")
            lines.setdefault(name, line)
            yield from _twice(value, (*way, name))
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield from _twice(value, (*way, place))


def _deepest(node: yaml.Node | None, location: Location) -> tuple[int, yaml.Node | None]:
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for place, (key, value) in enumerate(node.value):
                if key.value == str(part) or (isinstance(part, int) and place == part):
                    found, line = value, key.start_mark.line + 1
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line, node
