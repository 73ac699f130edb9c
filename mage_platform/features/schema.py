"""Holding a whole frame of features against the schema its vectors must keep."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pandas as pd

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import FeaturesInvalid


def conform(features: pd.DataFrame, schema: InputSchema) -> pd.DataFrame:
    """Check every value and give each column the one pandas type of its declaration.

    Args:
        features: One row a vector, one column a feature.
        schema: What the columns must be.

    Returns:
        The columns in declared order: integer as Int64, number as float64, category as object of str,
        boolean as boolean. Missing is NA, NaN or None.

    Raises:
        FeaturesInvalid: Names the feature, the value, the rule and how many vectors break it.
    """
    missing = [name for name in schema.names if name not in features.columns]
    unknown = [str(name) for name in features.columns if name not in schema.columns]
    if missing or unknown:
        parts = [f"without {missing}"] * bool(missing) + [f"with the undeclared {unknown}"] * bool(unknown)
        raise FeaturesInvalid(
            f"the feature code returned vectors {' and '.join(parts)}; declare them under features.columns of "
            "use_case.yaml, or mend the code",
            field=f"features.{(missing or unknown)[0]}",
        )
    columns = {name: _conform_column(name, features[name], column) for name, column in schema.columns.items()}
    return pd.DataFrame(columns, index=features.index)


def _conform_column(name: str, values: pd.Series[Any], column: FeatureColumn) -> pd.Series[Any]:
    absent = values.isna()
    if column.missing == "refused" and absent.any():
        _refuse(name, values, absent, "is missing, and `missing: allowed` is not declared")
    if column.type == "category":
        return _conform_text(name, values, absent)
    if column.type == "boolean":
        if not pd.api.types.is_bool_dtype(values.dtype):
            wrong = ~absent & ~values.map(lambda value: isinstance(value, (bool, np.bool_)))
            if wrong.any():
                _refuse(name, values, wrong, "is not true or false, but declared as boolean")
        return values.astype("boolean")
    return _conform_number(name, values, absent, column)


def _conform_text(name: str, values: pd.Series[Any], absent: pd.Series[bool]) -> pd.Series[Any]:
    text = values.astype(object)
    if pd.api.types.infer_dtype(text, skipna=True) not in ("string", "empty"):
        wrong = ~absent & ~text.map(lambda value: isinstance(value, str))
        if wrong.any():
            _refuse(name, values, wrong, "is not text, but declared as category")
    text = text.where(~absent, None) if absent.any() else text
    levels = text.unique()
    if any("\x00" in level for level in levels if level is not None):
        nul = ~absent & text.map(lambda value: "\x00" in str(value))
        _refuse(name, values, nul, "holds a NUL character, which PostgreSQL cannot store")
    halves = [level for level in levels if level is not None and not _is_unicode(level)]
    if halves:
        _refuse(name, values, text.isin(halves), "holds half a surrogate pair, which is no character")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _conform_number(
    name: str, values: pd.Series[Any], absent: pd.Series[bool], column: FeatureColumn
) -> pd.Series[Any]:
    if values.dtype == object or not pd.api.types.is_numeric_dtype(values.dtype):
        numbers = pd.to_numeric(values, errors="coerce") if values.dtype == object else pd.Series(np.nan, values.index)
        if (wrong := ~absent & numbers.isna()).any():
            _refuse(name, values, wrong, f"is not a number, but declared as {column.type}")
    else:
        numbers = values
    floats = numbers if numbers.dtype == np.float64 else numbers.astype("Float64").astype("float64")
    if (infinite := pd.Series(np.isinf(floats), values.index)).any():
        _refuse(name, values, infinite, "is infinite, which JSON cannot hold")
    if column.minimum is not None and (low := floats < column.minimum).any():
        _refuse(name, values, low, f"is below the declared minimum {column.minimum:g}")
    if column.maximum is not None and (high := floats > column.maximum).any():
        _refuse(name, values, high, f"is above the declared maximum {column.maximum:g}")
    if column.type == "integer":
        if (broken := ~absent & (floats != floats.round())).any():
            _refuse(name, values, broken, "is not whole, but declared as integer")
        if (vast := floats.abs() >= 2.0**63).any():
            _refuse(name, values, vast, "has more than 64 bits, but is declared as integer")
        return numbers.astype("Int64")
    return floats


def _refuse(name: str, values: pd.Series[Any], wrong: pd.Series[bool], rule: str) -> NoReturn:
    first = values[wrong].iloc[0]
    count = int(wrong.sum())
    raise FeaturesInvalid(
        f"feature {name}: {first!r} {rule} ({count:,} of {len(values):,} vectors). Mend the feature code, refuse the "
        "source rows by an expectation, or widen the declaration in use_case.yaml",
        field=f"features.{name}",
    )
