"""From the row of float64 a model scored back to the vector it stands for, for whoever keeps what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from serving.encoding import RowEncoder

Decode = Callable[[float], Any]


class RowDecoder:
    """Undoes what `RowEncoder` does, as far as the model can tell values apart.

    A missing value and a level that the model does not know are both null afterwards, and features that the model has
    no column for are left out: they decided nothing.

    Args:
        encoder: Of the model.
        levels: The levels of its categories by feature, in the order of their codes.
    """

    def __init__(self, encoder: RowEncoder, levels: dict[str, list[str]]) -> None:
        self._decode = [(name, _decoder(encoder, name, levels.get(name))) for name in encoder.names]

    def vector(self, row: Sequence[float]) -> dict[str, Any]:
        """The vector of a row, as JSON would give it."""
        return {
            name: None if value != value else decode(value)
            for (name, decode), value in zip(self._decode, row, strict=True)
        }


def _decoder(encoder: RowEncoder, name: str, levels: list[str] | None) -> Decode:
    kind = encoder.schema.columns[name].type
    if kind == "boolean":
        true = encoder.value(name, True)
        return lambda value: value == true
    if kind == "category":
        known = levels or []
        return lambda value: known[int(value)]
    if kind == "integer":
        return int if levels is None else lambda value: int(levels[int(value)])
    return lambda value: value
