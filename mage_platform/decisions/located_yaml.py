"""YAML with the line each value stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Located:
    """A value of a YAML document: a mapping or list of further ones, or a scalar.

    Args:
        value: `dict[str, Located]`, `list[Located]`, or a scalar.
        line: From 1.
    """

    value: Any
    line: int

    def __getitem__(self, key: str | int) -> Located:
        """A member; an empty one on this line where there is none, so that paths can be followed."""
        if isinstance(self.value, dict) and isinstance(key, str):
            member: Located = self.value.get(key, Located(None, self.line))
            return member
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            found: Located = self.value[key]
            return found
        return Located(None, self.line)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __iter__(self) -> Iterator[Located]:
        """Items of a list; none of anything else."""
        return iter(self.value if isinstance(self.value, list) else ())

    def items(self) -> list[tuple[str, Located]]:
        """Members of a mapping; none of anything else."""
        return list(self.value.items()) if isinstance(self.value, dict) else []

    @property
    def text(self) -> str:
        """A scalar as text; empty for anything else and for null."""
        return "" if self.value is None or isinstance(self.value, (dict, list)) else str(self.value)

    def walk(self) -> Iterator[Located]:
        """This and everything below."""
        yield self
        if isinstance(self.value, dict):
            for _, each in self.items():
                yield from each.walk()
        for each in self:
            yield from each.walk()


class _Loader(yaml.SafeLoader):
    """Safe, and it leaves tags it does not know alone."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: None)


def documents_of(text: str) -> list[Located]:
    """Every document of a YAML file that is not empty.

    Raises:
        yaml.YAMLError: It is none.
    """
    loader = _Loader(text)
    try:
        found = []
        while loader.check_node():
            found.append(_located(loader, loader.get_node()))
        return [each for each in found if each.value is not None]
    finally:
        loader.dispose()


def _located(loader: yaml.SafeLoader, node: Any) -> Located:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        return Located({str(key.value): _located(loader, value) for key, value in node.value}, line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(loader, each) for each in node.value], line)
    return Located(loader.construct_object(node), line)
