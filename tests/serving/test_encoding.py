"""Encoding of feature vectors, against MOJO columns written down by hand."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.errors import ContractViolated
from serving.encoding import Gaps, RowEncoder, VectorRefused, digest, has_gaps

SCHEMA = InputSchema(
    columns={
        "hour": FeatureColumn(type="integer", minimum=0, maximum=23),
        "rate": FeatureColumn(type="number", missing="allowed"),
        "carrier": FeatureColumn(type="category", missing="allowed"),
        "runway": FeatureColumn(type="category"),
        "wet": FeatureColumn(type="boolean", missing="allowed"),
        "constant": FeatureColumn(type="integer"),
    }
)
NAMES = ["carrier", "hour", "rate", "runway", "wet"]
DOMAINS = [["AA", "UA"], None, None, ["1", "2", "10"], ["False", "True"]]
VECTOR: dict[str, Any] = {"hour": 7, "rate": 0.25, "carrier": "UA", "runway": "10", "wet": True, "constant": 3}


def encoder() -> RowEncoder:
    return RowEncoder(SCHEMA, NAMES, DOMAINS)


def row(**changes: Any) -> list[float]:
    return list(struct.unpack("=5d", encoder().encode(VECTOR | changes)))


def test_a_row_is_in_the_mojos_order_with_levels_as_codes() -> None:
    assert row() == [1.0, 7.0, 0.25, 2.0, 1.0]
    assert row(wet=False, carrier="AA", runway="1") == [0.0, 7.0, 0.25, 0.0, 0.0]


def test_missing_values_and_unknown_levels_are_nan() -> None:
    assert all(math.isnan(value) for value in (row(carrier=None)[0], row(carrier="ZZ")[0], row(rate=None)[2]))
    assert math.isnan(row(wet=None)[4])
    left_out = {name: value for name, value in VECTOR.items() if name not in ("carrier", "rate", "wet")}
    assert encoder().encode(left_out) == encoder().encode(VECTOR | {"carrier": None, "rate": None, "wet": None})


def test_equal_vectors_have_one_digest_however_they_are_written() -> None:
    encode = encoder().encode
    same = [VECTOR, dict(reversed(VECTOR.items())), VECTOR | {"hour": 7.0}]
    assert len({digest(encode(vector)) for vector in same}) == 1
    assert encode(VECTOR | {"rate": -0.0}) == encode(VECTOR | {"rate": 0}) == encode(VECTOR | {"rate": 0.0})
    assert encode(VECTOR | {"carrier": "ZZ"}) == encode(VECTOR | {"carrier": None})
    assert digest(encode(VECTOR)) != digest(encode(VECTOR | {"hour": 8}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hour", True),
        ("hour", "7"),
        ("hour", 7.5),
        ("hour", 24),
        ("hour", -1),
        ("hour", None),
        ("rate", False),
        ("rate", "0.25"),
        ("rate", math.nan),
        ("rate", math.inf),
        ("rate", 10**400),
        ("carrier", 1),
        ("carrier", True),
        ("runway", 10),
        ("wet", 1),
        ("wet", "true"),
        ("constant", "3"),
        ("constant", None),
        ("surprise", 1),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(VectorRefused) as refused:
        encoder().encode(VECTOR | {name: value})
    assert [fault.field for fault in refused.value.faults] == [f"features.{name}"]


def test_very_many_unknown_features_are_counted_rather_than_named() -> None:
    faults = encoder().faults(VECTOR | {f"x{number}": number for number in range(5_000)})
    assert len(faults) == 1_001
    assert faults[-1].message == "holds 4000 more that are no features of this model"


def test_all_faults_come_at_once() -> None:
    with pytest.raises(VectorRefused) as refused:
        encoder().encode({"hour": 99, "carrier": 5, "surprise": 0})
    fields = [fault.field for fault in refused.value.faults]
    assert fields == [f"features.{name}" for name in ("hour", "carrier", "runway", "constant", "surprise")]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["AA", "10", "true", ""]),
    st.lists(st.integers(), max_size=1),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(st.sampled_from([*SCHEMA.columns, "surprise"]), values))
def test_the_quick_way_and_the_list_of_faults_always_agree(vector: dict[str, Any]) -> None:
    one = encoder()
    faults = one.faults(vector)
    if faults:
        with pytest.raises(VectorRefused) as refused:
            one.encode(vector)
        assert len(refused.value.faults) == len(faults)
    else:
        assert struct.unpack("=5d", one.encode(vector)) == pytest.approx(by_hand(vector), abs=0, nan_ok=True)


def by_hand(vector: dict[str, Any]) -> list[float]:
    """What the five columns of the MOJO must hold, written without the encoder."""
    levels = {"carrier": ["AA", "UA"], "runway": ["1", "2", "10"], "wet": [False, True]}
    row = []
    for name in NAMES:
        value = vector.get(name)
        known = levels.get(name)
        if value is None or (known is not None and value not in known):
            row.append(math.nan)
        else:
            row.append(float(value if known is None else known.index(value)))
    return row


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*SCHEMA.columns]), values))
def test_a_value_alone_is_encoded_like_one_in_a_vector(vector: dict[str, Any]) -> None:
    one = encoder()
    refused = {fault.field.removeprefix("features.") for fault in one.faults(VECTOR | vector)}
    whole = struct.unpack("=5d", one.encode(VECTOR | {k: v for k, v in vector.items() if k not in refused}))
    for name, value in vector.items():
        alone = one.value(name, value)
        assert (alone is None) == (name in refused)
        if alone is not None and name in NAMES:
            assert alone == pytest.approx(whole[NAMES.index(name)], abs=0, nan_ok=True)


def test_what_a_row_lacks_is_told_apart() -> None:
    one = encoder()
    for changes, expected in (
        ({}, Gaps([], [])),
        ({"carrier": None, "rate": None}, Gaps(["carrier", "rate"], [])),
        ({"carrier": "ZZ", "runway": "\x00", "rate": None}, Gaps(["rate"], ["carrier", "runway"])),
    ):
        vector = VECTOR | changes
        row_of_it = one.encode(vector)
        assert has_gaps(row_of_it) == bool(changes)
        assert one.gaps(vector, row_of_it) == expected
    left_out = {name: value for name, value in VECTOR.items() if name != "rate"}
    assert one.gaps(left_out, one.encode(left_out)) == Gaps(["rate"], [])


def strict_encoder(levels: list[str]) -> RowEncoder:
    column = FeatureColumn(type="category", missing="allowed", unknown="refused")
    return RowEncoder(InputSchema(columns={"carrier": column}), ["carrier"], [levels])


def test_a_column_may_refuse_unknown_levels_and_names_the_nearest_known_ones() -> None:
    one = strict_encoder(["AA", "B6", "DL", "UA", "US", "WN"])
    assert struct.unpack("=d", one.encode({"carrier": "UA"})) == (3.0,)
    assert math.isnan(struct.unpack("=d", one.encode({"carrier": None}))[0])
    with pytest.raises(VectorRefused) as refused:
        one.encode({"carrier": "UX"})
    (fault,) = refused.value.faults
    assert (fault.field, fault.value) == ("features.carrier", "UX")
    assert set(fault.message.removeprefix("must be a level the model knows: ")[:10].split(", ")) == {"'UA'", "'US'"}
    assert fault.message.endswith("and 1 more")
    assert one.value("carrier", "UX") is None


def test_the_refusal_among_very_many_or_very_long_levels_stays_short() -> None:
    one = strict_encoder([f"{number:05}" + "x" * 500 for number in range(20_000)])
    (fault,) = one.faults({"carrier": "12345y"})
    assert "'12345x" in fault.message
    assert len(fault.message) < 400
    assert strict_encoder([]).faults({"carrier": "x" * 100_000})[0].message.endswith("it knows none")


def test_bounds_without_end_refuse_and_take_what_they_say() -> None:
    columns = {
        "low": FeatureColumn(type="number", minimum=-math.inf, maximum=0.5),
        "none": FeatureColumn(type="number", minimum=math.inf),
        "large": FeatureColumn(type="integer", maximum=1e300),
    }
    one = RowEncoder(InputSchema(columns=columns), list(columns), [None] * 3)
    assert one.value("low", -1.5) == -1.5
    assert one.value("low", -math.inf) is None
    assert one.value("none", 1e308) is None
    assert one.value("large", 10**299) == 1e299
    assert one.value("large", 10**301) is None


def test_booleans_a_mojo_keeps_as_numbers_or_as_either_spelling() -> None:
    schema = InputSchema(columns={"wet": FeatureColumn(type="boolean")})
    for domain, expected in ((None, 1.0), (["false", "true"], 1.0), (["0", "1"], 1.0), (["TRUE"], 0.0)):
        encoded = RowEncoder(schema, ["wet"], [domain]).encode({"wet": True})
        assert struct.unpack("=d", encoded) == (expected,)


def test_whole_numbers_a_mojo_keeps_as_levels() -> None:
    schema = InputSchema(columns={"gate": FeatureColumn(type="integer")})
    one = RowEncoder(schema, ["gate"], [["1", "2", "10"]])
    assert one.encode({"gate": 10}) == one.encode({"gate": 10.0}) == struct.pack("=d", 2.0)
    assert math.isnan(struct.unpack("=d", one.encode({"gate": 5}))[0])


@pytest.mark.parametrize(
    ("name", "kind", "domain"), [("other", "number", None), ("x", "category", None), ("x", "number", ["a"])]
)
def test_a_mojo_that_does_not_fit_its_schema_is_refused(name: str, kind: Any, domain: list[str] | None) -> None:
    with pytest.raises(ContractViolated, match=name):
        RowEncoder(InputSchema(columns={"x": FeatureColumn(type=kind)}), [name], [domain])
