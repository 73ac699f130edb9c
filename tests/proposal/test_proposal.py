"""What is proposed for small tables; every expected value can be seen in the table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import yaml

from mage_platform.command_line.questions import Questions
from mage_platform.command_line.roles_of_columns import Given, settle_roles
from mage_platform.contracts import UseCase
from mage_platform.errors import ContractViolated, SourceInvalid
from mage_platform.proposal import Proposal, profiles_of, propose, readable, written
from mage_platform.proposal.alone import alone
from mage_platform.proposal.roles import entities, positive_of

SCRIPT = Questions(terminal=False, yes=False)


def hours(count: int = 1_000) -> pd.DataFrame:
    """One row an hour from midnight of 1 January 2024, UTC; `late` says yes in every third row."""
    return pd.DataFrame(
        {
            "order_id": range(100, 100 + count),
            "at": pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC"),
            "amount": np.tile([1.5, 2.5, 4.0, 2.0, 3.0], count // 5),
            "late": np.tile(["yes", "no", "no"], count // 3 + 1)[:count],
        }
    )


def proposed(table: pd.DataFrame, *, questions: Questions = SCRIPT, **given: Any) -> Proposal:
    table = readable(table)
    profiles = profiles_of(table)
    table, roles = settle_roles(table, profiles, questions, Given(**{"target": "late", **given}))
    return propose("trades", table, profiles, roles, {"file": "t.parquet"}, complete=True)


def declared(proposal: Proposal) -> UseCase:
    return UseCase.model_validate(yaml.safe_load(written(proposal)))


def test_the_plain_table_is_understood_without_a_question() -> None:
    use_case = declared(proposed(hours()))
    assert use_case.entity.key == ["order_id"]
    assert (use_case.event_time, use_case.region, use_case.target.known_at) == ("at", None, None)
    assert (use_case.target.kind, use_case.target.positive) == ("binary", "yes")
    assert list(use_case.features.columns) == ["amount"]
    amount = use_case.features.columns["amount"]
    # 1.5 to 4.0 is a span of 2.5: a span more gives 6.5, in round numbers 7; it is never negative
    assert (amount.type, amount.minimum, amount.maximum, amount.missing) == ("number", 0, 7, "refused")


def test_the_window_is_cut_at_midnight_near_60_75_and_85_percent() -> None:
    window = declared(proposed(hours(1_000))).training.window
    # row 600 is hour 0 of day 25, 26 January; row 750 hour 6 of day 31; row 850 hour 10 of day 35; row 999 is in day 41
    assert window.train_until == datetime(2024, 1, 26, tzinfo=UTC)
    assert window.validate_until == datetime(2024, 2, 1, tzinfo=UTC)
    assert window.blend_until == datetime(2024, 2, 5, tzinfo=UTC)
    assert window.test_until == datetime(2024, 2, 12, tzinfo=UTC)


def test_rows_of_each_part_are_counted() -> None:
    assert proposed(hours(1_000)).part_rows == {"train": 600, "validate": 144, "blend": 96, "test": 160}


def test_an_all_null_column_and_a_constant_are_left_out_with_the_reason() -> None:
    table = hours().assign(nothing=None, currency="CHF")
    left_out = proposed(table).left_out
    assert left_out["nothing"] == "every value is missing"
    assert left_out["currency"] == "constant: every value is the same"


def test_high_cardinality_text_is_left_out_and_text_that_repeats_is_a_category() -> None:
    table = hours().assign(
        note=[f"call {number} back" for number in range(1_000)], carrier=np.resize(["UA", "DL"], 1_000)
    )
    proposal = proposed(table)
    assert proposal.left_out["note"] == "text that hardly repeats (1,000 values in 1,000 rows)"
    assert proposal.features["carrier"] == {"type": "category"}


def test_booleans_with_gaps_and_integers_with_gaps_keep_their_type() -> None:
    table = hours()
    table["express"] = np.where(np.arange(1_000) % 10 == 0, None, np.arange(1_000) % 4 == 0)
    table["age"] = np.where(np.arange(1_000) % 10 == 0, np.nan, np.arange(1_000) % 7 + 30)
    features = proposed(table).features
    assert features["express"] == {"type": "boolean", "missing": "allowed"}
    # 30 to 36 is a span of 6: 42, in round numbers 50
    assert features["age"] == {"type": "integer", "minimum": 0, "maximum": 50, "missing": "allowed"}


def test_integer_codes_are_features_and_ids_are_not() -> None:
    table = hours().assign(
        store_code=np.resize([3, 7, 12, 40], 1_000),
        customer_id=np.resize(np.arange(5_000, 5_300), 1_000),
        row=range(1_000),
    )
    proposal = proposed(table)
    assert proposal.features["store_code"]["type"] == "integer"
    assert proposal.left_out["customer_id"].startswith("an id: it numbers things")
    assert proposal.left_out["row"].startswith("an id: every row has its own")


def test_a_column_that_tells_the_target_is_suspect_and_one_that_hints_is_not() -> None:
    table = hours()
    late = table["late"] == "yes"
    table["minutes_late"] = np.where(late, 20.0, 0.0) + np.arange(1_000) % 5
    table["refund"] = np.where(late, "paid", "none")
    table["hint"] = np.where(late & (np.arange(1_000) % 2 == 0), "a", "b")
    proposal = proposed(table)
    assert "suspect of a leak" in proposal.left_out["minutes_late"]
    assert "suspect of a leak" in proposal.left_out["refund"]
    assert proposal.features["hint"] == {"type": "category"}
    assert proposal.naive_baseline == ["hint"]


def test_dates_as_text_need_a_zone_and_then_are_midnights_there() -> None:
    table = hours().assign(order_id=range(1_000))
    table["at"] = [f"{moment:%Y-%m-%d}" for moment in pd.date_range("2024-01-01", periods=1_000)]
    with pytest.raises(ContractViolated, match="--time-zone is needed: in which time zone are the times of at meant?"):
        proposed(table)
    use_case = declared(proposed(table, time_zone="Europe/Zurich"))
    assert use_case.source.time_zone == "Europe/Zurich"
    # day 600 after 1 January 2024 is 23 August 2025, where clocks are two hours ahead
    assert use_case.training.train_until == datetime(2025, 8, 23, tzinfo=ZoneInfo("Europe/Zurich"))
    assert use_case.training.train_until.utcoffset() == pd.Timedelta("2h")


def test_mixed_zones_are_instants_and_one_time_without_a_zone_asks_for_one() -> None:
    table = hours()
    moments = table["at"]
    table["at"] = [
        moment.tz_convert(zone).isoformat()
        for moment, zone in zip(moments, np.resize(["Asia/Tokyo", "America/New_York", "UTC"], 1_000), strict=True)
    ]
    assert declared(proposed(table)).training.train_until == datetime(2024, 1, 26, tzinfo=UTC)
    table.loc[5, "at"] = "2024-01-01 05:00:00"
    with pytest.raises(ContractViolated, match="--time-zone is needed"):
        proposed(table)


def test_thirty_rows_over_one_day_are_split_by_the_hour_without_a_blending_part() -> None:
    table = hours(30).assign(at=pd.date_range("2024-01-01", periods=30, freq="30min", tz="UTC"))
    proposal = proposed(table)
    # row 18 is at 9:00, row 24 at 12:00, the last at 14:30
    assert [moment.hour for moment in proposal.window.values()] == [9, 12, 12, 15]
    assert proposal.part_rows == {"train": 18, "validate": 6, "blend": 0, "test": 6}
    assert proposal.minimum_rows == 14  # eight tenths of 18
    assert declared(proposal).training.minimum_rows == 14


def test_one_moment_for_all_rows_cannot_be_split() -> None:
    table = hours(30).assign(at=pd.Timestamp("2024-01-01", tz="UTC"))
    with pytest.raises(SourceInvalid, match="at has 1 different times"):
        proposed(table)


def test_a_key_that_comes_twice_goes_to_quarantine_within_the_allowed_share() -> None:
    table = pd.concat([hours(), hours().iloc[:20]], ignore_index=True)
    proposal = proposed(table)
    assert proposal.roles.entity == ("order_id",)
    assert proposal.refused == {"expect_compound_columns_to_be_unique(order_id, at)": 40}
    # 40 of 1,020 rows are 3.9 %: about twice that is allowed
    assert 0.05 < proposal.maximum_bad_share < 0.1
    assert "# 40 of 1,020 rows break" in written(proposal)


def test_a_key_of_two_columns_is_found_where_none_alone_names_a_row() -> None:
    moments = pd.date_range("2024-01-01", periods=20, freq="D", tz="UTC")
    table = pd.MultiIndex.from_product([moments, ["UA", "DL"], [7, 8]], names=["at", "carrier", "flight"]).to_frame(
        index=False
    )
    table["late"] = np.resize([0, 1, 1], len(table))
    assert entities(table, profiles_of(table), "at", "late") == [("carrier", "flight")]


def test_two_candidate_times_are_a_question_that_names_the_option() -> None:
    table = hours().assign(arrived_at=lambda rows: rows["at"] + pd.Timedelta("2h"))
    with pytest.raises(ContractViolated, match="--event-time is needed.*it could be at, arrived_at; --yes takes at"):
        proposed(table)
    roles = proposed(table, event_time="at").roles
    assert (roles.event_time, roles.known_at) == ("at", "arrived_at")
    assert proposed(table, questions=Questions(terminal=False, yes=True)).roles.event_time == "at"


def test_labels_known_later_move_the_end_of_the_test_part() -> None:
    table = hours().assign(arrived_at=lambda rows: rows["at"] + pd.Timedelta("5d"))
    # the last row is in day 41, 11 February; its label is known on the 16th
    assert proposed(table, event_time="at").window["test_until"] == datetime(2024, 2, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", ["größe (m²)", "load %", "select", "yes", "a: b", 'it\'s "so"', "#1", "日本", "%(start)s"]
)
def test_any_name_of_a_column_comes_back_from_the_yaml(name: str) -> None:
    table = hours().rename(columns={"amount": name})
    table[f"{name} 2"] = np.resize([f"{name}, x", "no", "3", "y"], 1_000)
    use_case = declared(proposed(table))
    assert list(use_case.features.columns) == [name, f"{name} 2"]
    columns = [next(iter(rule.values())).get("column") for rule in use_case.expectations.rows]
    assert name in columns


def test_a_name_that_no_feature_may_have_is_left_out() -> None:
    table = hours().assign(_label=1.5, **{"x" * 64: 2.5})
    table["_label"] = table["amount"]
    proposal = proposed(table)
    assert "rename it in the source" in proposal.left_out["_label"]
    assert "longer than 63 characters" in proposal.left_out["x" * 64]


@pytest.mark.parametrize(
    ("values", "positive", "sure"),
    [
        (["yes", "no"], "yes", True),
        ([0, 1], None, True),
        ([0.0, 1.0, np.nan], None, True),
        ([True, False], None, True),
        (["churned", "not churned"], "churned", True),
        (["a", "b", "b"], "a", False),
        ([2, 2, 1], 1, False),
    ],
)
def test_the_positive_of_two_classes(values: list[Any], positive: Any, sure: bool) -> None:
    assert positive_of(pd.Series(values)) == (positive, sure)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b", "c"], "multiclass"),
        ([0.5, 1.25, 7.0], "regression"),
        (list(range(20)), "regression"),
        ([True, False], "binary"),
    ],
)
def test_the_kind_of_a_target_is_seen(values: list[Any], kind: str) -> None:
    table = hours().assign(late=np.resize(np.array(values, dtype=object), 1_000)).infer_objects()
    assert proposed(table).roles.kind == kind


def test_a_few_whole_numbers_may_be_classes_or_a_count() -> None:
    table = hours().assign(late=np.resize([1, 2, 3, 4, 5], 1_000))
    with pytest.raises(ContractViolated, match="--kind is needed: what is late, with 5 different values?"):
        proposed(table)
    assert proposed(table, kind="regression").roles.kind == "regression"
    with pytest.raises(ContractViolated, match="5 different values, and binary wants two"):
        proposed(table, kind="binary")


def test_two_classes_that_say_nothing_ask_for_the_positive_one() -> None:
    table = hours().assign(late=lambda rows: rows["late"].map({"yes": "A", "no": "B"}))
    with pytest.raises(ContractViolated, match="--positive is needed: which value of late counts as 1.*--yes takes A"):
        proposed(table)
    assert proposed(table, positive="B").roles.positive == "B"
    with pytest.raises(ContractViolated, match="--positive: 'C' is none of A, B"):
        proposed(table, positive="C")


def test_the_target_is_never_guessed_but_a_column_named_target_can_be_taken() -> None:
    with pytest.raises(ContractViolated, match="--target is needed: which column is predicted.*amount, late"):
        proposed(hours(), target=None)
    table = hours().rename(columns={"late": "target"})
    assert proposed(table, target=None, questions=Questions(terminal=False, yes=True)).roles.target == "target"


def test_a_region_is_proposed_only_where_each_has_rows_for_a_model() -> None:
    table = hours().assign(city=np.resize(["Bern", "Chur"], 1_000))
    assert proposed(table).roles.region == "city"
    assert "city" not in proposed(table).features
    few = table.assign(city=["Bern"] * 700 + ["Chur"] * 300)
    assert proposed(few).roles.region is None
    with pytest.raises(ContractViolated, match="'A/B' cannot name a region"):
        proposed(table.assign(city=np.resize(["A/B", "C"], 1_000)), region="city")


def test_a_wrong_column_in_an_option_is_named_with_the_nearest() -> None:
    with pytest.raises(ContractViolated, match="--target: the table has no column 'lte': did you mean 'late'"):
        proposed(hours(), target="lte")
    with pytest.raises(ContractViolated, match="--drop: the table has no column 'amuont': did you mean 'amount'"):
        proposed(hours(), drop=("amuont",))
    with pytest.raises(ContractViolated, match="--time-zone: 'Europe/Zürich' is no time zone; .*Europe/Zurich"):
        proposed(hours(), time_zone="Europe/Zürich")
    assert proposed(hours().assign(more=np.resize([1, 2, 5], 1_000)), drop=("amount",)).left_out["amount"] == (
        "left out as asked"
    )


def test_every_expectation_proposed_holds_on_the_table() -> None:
    from mage_platform.validation.expectations import check

    table = hours().assign(city=np.resize(["Bern", "Chur", "Visp"], 1_000), share=np.linspace(0, 1, 1_000))
    table["temperature"] = np.linspace(-12.5, 31.0, 1_000)
    proposal = proposed(table)
    results = check(table, proposal.row_rules) + check(table, proposal.table_rules)
    assert len(results) > 10
    assert [each.rule for each in results if not each.holds] == []


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_noise_alone_predicts_nothing_and_a_copy_everything(kind: Any) -> None:
    random = np.random.default_rng(1)
    truth = pd.Series(random.integers(0, 2, 3_000) if kind != "regression" else random.gamma(1, 9, 3_000))
    noise = pd.Series(random.normal(size=3_000))
    assert alone(noise, truth, kind) < (0.6 if kind != "regression" else 0.05)
    assert alone(truth, truth, kind) > 0.99


def test_the_text_has_a_comment_for_each_part(tmp_path: Path) -> None:
    text = written(proposed(hours().assign(empty=None)))
    for words in (
        "# Where the rows come from", "# When the features are true", "# the value that counts as 1",
        "#   empty: every value is missing", "# trained on: everything before; 600 labelled rows",
    ):  # fmt: skip
        assert words in text
