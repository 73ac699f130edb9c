"""Whole columns of feature values to columns of float64: what `RowEncoder` does to each value, done to all at once.

What a value means is settled in `serving.encoding` alone. Here a column is converted as a whole where that is certain
to give the same numbers; in every other case (a value of an unexpected type, out of range, too large to be exact) each
of its values goes through the very converter that single predictions use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mage_platform.contracts import FeatureColumn
from serving.encoding import Fault, RowEncoder
from serving.problems import MOST_FAULTS
from serving.row_code import LARGEST

Floats = npt.NDArray[np.float64]
EXACT = float(1 << 53)
"""Up to here every whole number is a float64."""


RowFault = tuple[int, Fault]
"""Number of the row, and what is wrong with it."""


@dataclass
class Column:
    """One encoded column.

    Args:
        values: One for each row, as a row of the model holds it; NaN where the value was refused.
        refused: Numbers of the rows whose value was refused.
        faults: What is wrong with them; the first `MOST_FAULTS`.
    """

    values: Floats
    refused: list[int] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)


class ColumnEncoder:
    """Encodes the columns of one model.

    Args:
        encoder: Of its rows.
        levels: The levels of its categories, in the order of their codes.
    """

    def __init__(self, encoder: RowEncoder, levels: Mapping[str, Sequence[str]]) -> None:
        self._encoder = encoder
        self.schema = encoder.schema
        self._integers_as_levels = {name for name in levels if self.schema.columns[name].type == "integer"}
        self._codes: dict[str, dict[str, float]] = {}
        for name, column in self.schema.columns.items():
            if column.type == "category":
                known = {level: encoder.value(name, level) for level in levels.get(name, ())}
                self._codes[name] = {level: code for level, code in known.items() if code is not None}

    def from_values(self, name: str, values: Sequence[Any], first_row: int = 0) -> Column:
        """Encode values as JSON gives them.

        Args:
            name: A feature of the schema.
            values: One for each row.
            first_row: Number of the first of these rows in the batch.
        """
        column = self.schema.columns[name]
        kinds = set(map(type, values))
        missing = type(None) in kinds
        kinds.discard(type(None))
        if missing and column.missing != "allowed":
            encoded = None
        elif column.type == "category":
            encoded = self._categories(name, values) if kinds <= {str} else None
        elif column.type == "boolean":
            encoded = self._booleans(name, np.array(values, np.float64)) if kinds <= {bool} else None
        elif kinds <= {int, float}:
            gaps = values.count(None) if missing else 0
            encoded = self._numbers_from_values(name, values, gaps, whole=int in kinds)
        else:
            encoded = None
        return self._one_by_one(name, values, first_row) if encoded is None else Column(encoded)

    def from_numbers(self, name: str, numbers: Floats, missing: int, *, whole: bool) -> Floats | None:
        """Encode a column of numbers.

        Args:
            name: A feature of the schema: a number or a whole number.
            numbers: Its values, NaN where one is missing.
            missing: How many are missing.
            whole: Whether they come from integers, which may have been rounded on the way.

        Returns:
            None where a value is refused, or not certain to be exact.
        """
        column = self.schema.columns[name]
        gaps = np.isnan(numbers)
        if np.count_nonzero(gaps) != missing or (missing and column.missing != "allowed"):
            return None
        present = numbers[~gaps] if missing else numbers
        if present.size == 0:
            return numbers
        low = -LARGEST if column.minimum is None else column.minimum
        high = LARGEST if column.maximum is None else column.maximum
        least, greatest = float(present.min()), float(present.max())
        if least < low or greatest > high or (whole and max(-least, greatest) >= EXACT):
            return None
        if column.type == "integer" and not np.array_equal(np.floor(present), present):
            return None
        # Whole numbers on which the model was trained as on a category are levels.
        if name in self._integers_as_levels:
            return self._codes_of_integers(name, numbers)
        return numbers + 0.0  # minus zero becomes zero

    def booleans(self, name: str, ones: Floats) -> Floats | None:
        """Encode a column of booleans given as 1, 0, and NaN where one is missing."""
        return self._booleans(name, ones)

    def code(self, name: str, level: Any) -> float | None:
        """Code of one level of a category; None where it is refused."""
        known = self._codes[name].get(level)
        return self._encoder.value(name, level) if known is None else known

    def fault(self, name: str, value: Any, row: int) -> Fault:
        """What is wrong with a value that was refused."""
        found = next(fault for fault in self._encoder.faults({name: value}) if fault.field == f"features.{name}")
        return Fault(f"columns.{name}.{row}", found.message, value)

    def _numbers_from_values(self, name: str, values: Sequence[Any], missing: int, *, whole: bool) -> Floats | None:
        try:
            numbers = np.array(values, np.float64)
        except OverflowError:  # an integer of hundreds of digits
            return None
        return self.from_numbers(name, numbers, missing, whole=whole)

    def _codes_of_integers(self, name: str, numbers: Floats) -> Floats | None:
        levels, places = np.unique(numbers, return_inverse=True)
        codes = [math.nan if level != level else self._encoder.value(name, level) for level in levels.tolist()]
        return None if any(code is None for code in codes) else np.array(codes, np.float64)[places]

    def _categories(self, name: str, values: Sequence[Any]) -> Floats | None:
        codes: dict[Any, float | None] = {level: self.code(name, level) for level in set(values)}
        if any(code is None for code in codes.values()):
            return None
        return np.fromiter(map(codes.__getitem__, values), np.float64, len(values))

    def _booleans(self, name: str, ones: Floats) -> Floats | None:
        false, true = (self._encoder.value(name, value) for value in (False, True))
        if false is None or true is None:  # a level that the model was not trained on, and that is refused
            return None
        return np.where(ones == 1.0, true, np.where(ones == 0.0, false, math.nan)).astype(np.float64)

    def _one_by_one(self, name: str, values: Sequence[Any], first_row: int) -> Column:
        column = Column(np.full(len(values), math.nan))
        for index, value in enumerate(values):
            if (converted := self._encoder.value(name, value)) is not None:
                column.values[index] = converted
            else:
                row = first_row + index
                column.refused.append(row)
                if len(column.faults) < MOST_FAULTS:
                    column.faults.append((row, self.fault(name, value, row)))
        return column


def missing_column(column: FeatureColumn, rows: int) -> Floats | None:
    """A feature that no row has; None where it may not be missing."""
    return np.full(rows, math.nan) if column.missing == "allowed" else None
