"""A frame of features either keeps its declaration, or is refused with feature, value and count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import FeaturesInvalid
from mage_platform.features.schema import conform

SCHEMA = InputSchema(
    columns={
        "hour": FeatureColumn(type="integer", minimum=0, maximum=23),
        "rain": FeatureColumn(type="number", minimum=0, missing="allowed"),
        "carrier": FeatureColumn(type="category"),
        "weekend": FeatureColumn(type="boolean", missing="allowed"),
    }
)


def _frame(**replaced: list[object]) -> pd.DataFrame:
    columns = {"hour": [0, 23], "rain": [0.5, np.nan], "carrier": ["a", "b"], "weekend": [True, None]}
    return pd.DataFrame({**columns, **replaced})


def test_a_good_frame_gets_one_type_for_each_declaration_in_declared_order() -> None:
    frame = conform(_frame()[["weekend", "carrier", "rain", "hour"]], SCHEMA)
    assert list(frame.columns) == SCHEMA.names
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "float64", "object", "boolean"]


def test_whole_floats_are_integers_and_numeric_text_is_a_number() -> None:
    assert conform(_frame(hour=[1.0, 2.0]), SCHEMA)["hour"].tolist() == [1, 2]
    assert conform(_frame(rain=["0.25", None]), SCHEMA)["rain"].iloc[0] == 0.25


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"hour": [1, 24]}, r"feature hour: 24 is above the declared maximum 23 \(1 of 2 vectors\)"),
        ({"hour": [-1, -2]}, r"feature hour: -1 is below the declared minimum 0 \(2 of 2 vectors\)"),
        ({"hour": [1.5, 2.0]}, r"feature hour: .*1\.5.* is not whole"),
        ({"hour": [1, None]}, r"feature hour: .* is missing"),
        ({"rain": [np.inf, 1.0]}, r"feature rain: .*inf.* is infinite"),
        ({"rain": ["wet", 1.0]}, r"feature rain: 'wet' is not a number"),
        ({"carrier": [7, "a"]}, r"feature carrier: 7 is not text"),
        ({"carrier": ["a\x00", "b"]}, r"feature carrier: .* holds a NUL character"),
        ({"weekend": ["yes", True]}, r"feature weekend: 'yes' is not true or false"),
    ],
)
def test_a_bad_value_is_refused_by_name(replaced: dict[str, list[object]], message: str) -> None:
    with pytest.raises(FeaturesInvalid, match=message) as caught:
        conform(_frame(**replaced), SCHEMA)
    assert caught.value.field == f"features.{next(iter(replaced))}"


def test_missing_and_undeclared_features_are_named() -> None:
    with pytest.raises(FeaturesInvalid, match=r"without \['hour'\] and with the undeclared \['minute'\]"):
        conform(_frame().rename(columns={"hour": "minute"}), SCHEMA)
