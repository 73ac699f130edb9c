"""Contracts refuse what does not fit, and name it."""

from __future__ import annotations

import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from mage_platform import contracts, errors
from mage_platform.contracts import FeatureColumn, FeatureVector, PredictRequest, TrainingWindow, entity_id_of


def test_every_contract_is_frozen_and_refuses_unknown_fields() -> None:
    classes = [value for value in vars(contracts).values() if isinstance(value, type)]
    assert len(classes) > 15
    for contract in classes:
        assert contract.model_config["frozen"], contract
        assert contract.model_config["extra"] == "forbid", contract


def test_a_feature_vector_has_the_fields_the_registry_names_and_an_aware_time_by_default() -> None:
    vector = FeatureVector(entity_id="e", features={"a": 1})
    assert list(FeatureVector.model_fields) == ["entity_id", "features", "event_time"]
    assert vector.event_time.tzinfo is not None


def test_a_naive_event_time_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="event_time"):
        FeatureVector(entity_id="e", features={}, event_time=datetime(2024, 1, 1))


def test_the_entity_id_is_the_uuid5_of_the_canonical_key() -> None:
    expected = uuid.uuid5(uuid.UUID("388aaa70-94b2-518a-98b6-b1ef7e808341"), '["rides","A-1","7"]')
    assert entity_id_of("rides", ["A-1", 7]) == expected


@pytest.mark.parametrize("seven", [7, 7.0, "7"])
def test_a_key_is_the_same_whichever_type_a_producer_reads_it_as(seven: object) -> None:
    assert entity_id_of("rides", [seven]) == entity_id_of("rides", [7])


def test_a_key_time_counts_in_utc() -> None:
    utc = datetime(2024, 1, 1, 12, tzinfo=UTC)
    tokyo = utc.astimezone(timezone(timedelta(hours=9)))
    assert entity_id_of("rides", [utc]) == entity_id_of("rides", [tokyo])


@pytest.mark.parametrize("value", [None, float("nan"), datetime(2024, 1, 1)])
def test_a_missing_or_naive_key_value_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="natural key"):
        entity_id_of("rides", [value])


def test_use_cases_never_share_entity_ids() -> None:
    assert entity_id_of("a", ["x"]) != entity_id_of("b", ["x"])
    assert entity_id_of("a", ["x", "y"]) != entity_id_of("a", ["xy"])


def test_a_range_on_a_category_or_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError, match="no minimum or maximum"):
        FeatureColumn(type="category", minimum=0)
    with pytest.raises(ValidationError, match="minimum 2 is above maximum 1"):
        FeatureColumn(type="number", minimum=2, maximum=1)


def test_only_categories_may_refuse_unknown_levels() -> None:
    assert FeatureColumn(type="category", unknown="refused").unknown == "refused"
    for kind in ("number", "integer", "boolean"):
        with pytest.raises(ValidationError, match="only a category has levels"):
            FeatureColumn(type=kind, unknown="refused")


@pytest.mark.parametrize("moment", [1700000000, "1700000000", "17.5", "-17", "1e9", "1700000000000", "", "2026"])
def test_a_number_is_no_moment_of_a_prediction(moment: object) -> None:
    request = {"use_case": "rides", "region": "Bern", "entity_id": "7cf06540-e6e0-54cb-8483-c525c4b50d97"}
    PredictRequest(**request, event_time="2026-01-31T12:00:00+01:00")
    with pytest.raises(ValidationError, match="event_time"):
        PredictRequest(**request, event_time=moment)


def test_a_window_must_be_in_order_and_have_test_rows() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    moments = dict(train_until=day, validate_until=day + timedelta(1), blend_until=day + timedelta(2))
    TrainingWindow(**moments, test_until=day + timedelta(3))
    with pytest.raises(ValidationError, match="in order"):
        TrainingWindow(**{**moments, "validate_until": day}, test_until=day + timedelta(3))
    with pytest.raises(ValidationError, match="test_until is .* must be in order"):
        TrainingWindow(**moments, test_until=day + timedelta(2))


def test_a_request_names_its_bad_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        PredictRequest(use_case="Flight Delays", region="a/b", entity_id="1", event_time=datetime(2024, 1, 1))
    assert {error["loc"][0] for error in caught.value.errors()} == {"use_case", "region", "entity_id", "event_time"}


def test_every_error_stands_in_the_drawn_tree_and_survives_pickling() -> None:
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.PlatformError)
    ]
    assert errors.__doc__ is not None
    for kind in classes:
        assert kind.__name__ in errors.__doc__, f"{kind.__name__} is missing in the tree of errors.py"
        error = kind("what happened", field="a.b") if kind is not errors.TrainingFailed else kind("m", regions=["JFK"])
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (kind, str(error), vars(error))


def test_each_error_belongs_to_one_family() -> None:
    families = (errors.ContractViolated, errors.NotFound, errors.Unavailable)
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.PlatformError) and value is not errors.PlatformError:
            assert sum(issubclass(value, family) for family in families) == 1, value
