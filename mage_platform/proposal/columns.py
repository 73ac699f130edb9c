"""What each column of a table holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mage_platform.errors import SourceInvalid
from mage_platform.sources.moments import dated_text, zoned_text

Kind = Literal["empty", "boolean", "integer", "number", "text", "time", "local time", "other"]
"""`time` has a zone; `local time` has none (in all its values, or in some); `other` is what no feature can be."""
_ID_NAME = re.compile(r"(?:^|[_\- .])(?:id|uuid|guid|key)$|[a-z](?:Id|ID|Key)$", re.IGNORECASE)
_NUMBER_NAME = re.compile(r"(?:^|[_\- .])(?:number|no|nr|code|ref|reference|name)$", re.IGNORECASE)


@dataclass(frozen=True)
class Profile:
    """What one column holds."""

    name: str
    kind: Kind
    rows: int
    missing: int
    distinct: int
    """Different values, missing not counted."""
    minimum: float | None = None
    maximum: float | None = None
    """Of numbers only."""
    finite: bool = True
    sorted: bool = False
    """Of integers: each greater than the one before, as counters are."""

    @property
    def present(self) -> int:
        """Rows that hold a value."""
        return self.rows - self.missing

    @property
    def unique(self) -> bool:
        """Whether no value comes twice and none is missing."""
        return self.missing == 0 and self.distinct == self.rows

    @property
    def named_like_id(self) -> bool:
        """Whether the name says that it identifies something: `id`, `customer_id`, `userId`."""
        return _ID_NAME.search(self.name) is not None

    @property
    def named_like_number(self) -> bool:
        """Whether the name says that it names something: `flight_number`, `order no`, `store_code`."""
        return _NUMBER_NAME.search(self.name) is not None


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every column in one of the forms that `profiles_of` knows; values are the same.

    Raises:
        SourceInvalid: It has no rows, or a column whose name is no text.
    """
    if not len(table):
        raise SourceInvalid("the table has no rows: nothing can be proposed", field="source")
    if odd := [name for name in table.columns if not isinstance(name, str) or not name.strip()]:
        raise SourceInvalid(f"the column {odd[0]!r} has no name: give every column a name that is text", field="source")
    return pd.DataFrame({name: _plain(column) for name, column in table.items()})


def profiles_of(table: pd.DataFrame) -> dict[str, Profile]:
    """A profile of each column, in the order of the table."""
    return {str(name): _profile(column) for name, column in table.items()}


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object)
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "decimal":
        return column.astype("float64")
    return column


def _profile(column: pd.Series[Any]) -> Profile:
    name, rows, missing = str(column.name), len(column), int(column.isna().sum())
    kind = _kind(column, missing)
    if kind in ("other", "empty"):
        return Profile(name, kind, rows, missing, 0)
    distinct = int(column.nunique())
    if kind not in ("integer", "number"):
        return Profile(name, kind, rows, missing, distinct)
    values = column.dropna().to_numpy("float64")
    finite = values[np.isfinite(values)]
    lowest, highest = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    counting = kind == "integer" and missing == 0 and bool((np.diff(values) > 0).all())
    return Profile(name, kind, rows, missing, distinct, lowest, highest, len(finite) == len(values), counting)


def _kind(column: pd.Series[Any], missing: int) -> Kind:
    dtype = column.dtype
    if missing == len(column):
        return "empty"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "time"
    if pd.api.types.is_datetime64_dtype(dtype):
        return "local time"
    if pd.api.types.is_integer_dtype(dtype):
        return "integer"
    if pd.api.types.is_float_dtype(dtype):
        return "integer" if missing and _whole(column) else "number"
    return _kind_of_objects(column)


def _whole(column: pd.Series[Any]) -> bool:
    """Whether floats are integers that became floats because some are missing."""
    values = column.dropna().to_numpy("float64")
    return bool(np.isfinite(values).all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all())


def _kind_of_objects(column: pd.Series[Any]) -> Kind:
    held = pd.api.types.infer_dtype(column, skipna=True)
    if held == "boolean":
        return "boolean"
    if held in ("date", "datetime", "datetime64", "string"):
        if zoned_text(column):
            return "time"
        if dated_text(column):
            return "local time"
        return "text" if held == "string" else "other"
    return "other"
