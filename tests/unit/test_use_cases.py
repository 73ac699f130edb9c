"""Reading a declaration: every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mage_platform.errors import UseCaseInvalid, UseCaseNotFound
from mage_platform.settings import Settings, load_settings
from mage_platform.use_cases import load_use_case, use_case_function, use_case_names
from tests import demo_use_case as demo


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    demo.write_use_case(tmp_path)
    return load_settings(use_cases_folder=tmp_path)


def _rewrite(settings: Settings, old: str, new: str) -> None:
    assert old in demo.DECLARATION
    path = settings.use_cases_folder / demo.NAME / "use_case.yaml"
    path.write_text(demo.DECLARATION.replace(old, new, 1), encoding="utf-8")


def test_a_good_declaration_is_read(settings: Settings) -> None:
    use_case = load_use_case(settings, demo.NAME)
    assert use_case.entity.key == ["ride"]
    assert use_case.input_schema.names == ["hour", "carrier", "rain_millimetres", "is_weekend"]
    assert use_case.training.window.test_until.isoformat() == "2024-08-01T00:00:00+00:00"


@pytest.mark.parametrize(("written", "read"), [("off", "off"), ('"off"', "off"), ("always", "always"), ("null", None)])
def test_the_cache_policy_is_read_also_where_yaml_sees_a_boolean(
    settings: Settings, written: str, read: str | None
) -> None:
    _rewrite(settings, "{cache_ttl_seconds: 60}", f"{{cache_ttl_seconds: 60, cache: {written}}}")
    assert load_use_case(settings, demo.NAME).serving.cache == read


@pytest.mark.parametrize("written", ["on", "true", "sometimes"])
def test_another_cache_policy_is_refused(settings: Settings, written: str) -> None:
    _rewrite(settings, "{cache_ttl_seconds: 60}", f"{{cache_ttl_seconds: 60, cache: {written}}}")
    with pytest.raises(UseCaseInvalid, match="serving.cache"):
        load_use_case(settings, demo.NAME)


def test_an_unknown_use_case_names_those_there_are(settings: Settings) -> None:
    with pytest.raises(UseCaseNotFound, match="Declared are: rides"):
        load_use_case(settings, "flights")
    assert use_case_names(settings) == ["rides"]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("region: city", "regoin: city", 8, "did you mean `region`"),
        ("type: integer, minimum: 0", "type: integer, minimum: low", 13, "'low' is no valid number"),
        ("maximum_bad_share: 0.2", "maximum_bad_share: 2", 18, "2 is out of range: write a number that is at most 1"),
        (
            "train_until: 2024-05-01T00:00:00Z",
            "train_until: 2024-05-01T00:00:00",
            25,
            "has no time zone: write 2024-05-01T00:00:00Z",
        ),
        ("validate_until: 2024-05-20", "validate_until: 2024-04-20", 26, "must be in order"),
        ("naive_baseline: [carrier]", "naive_baseline: [color]", 33, r"\['color'\], which are not features"),
        ("- expect_table_row_count_to_be_between", "- row_count", 23, "each rule is one `expect_"),
    ],
)
def test_a_mistake_is_named_with_its_line(settings: Settings, old: str, new: str, line: int, message: str) -> None:
    _rewrite(settings, old, new)
    with pytest.raises(UseCaseInvalid, match=rf"use_case\.yaml:{line}: .*{message}"):
        load_use_case(settings, demo.NAME)


def test_broken_yaml_is_one_sentence(settings: Settings) -> None:
    _rewrite(settings, "name: rides", "name: [rides")
    with pytest.raises(UseCaseInvalid, match="not valid YAML") as caught:
        load_use_case(settings, demo.NAME)
    assert "\n" not in str(caught.value)


def test_a_name_unlike_its_folder_is_refused(settings: Settings) -> None:
    _rewrite(settings, "name: rides", "name: trips")
    with pytest.raises(UseCaseInvalid, match="'trips' but the folder is 'rides'"):
        load_use_case(settings, demo.NAME)


def test_the_target_as_a_feature_is_refused_as_a_leak(settings: Settings) -> None:
    _rewrite(settings, "    hour: {type: integer", "    late: {type: integer")
    with pytest.raises(UseCaseInvalid, match="would leak"):
        load_use_case(settings, demo.NAME)


def test_a_missing_function_names_file_and_function(settings: Settings) -> None:
    use_case = load_use_case(settings, demo.NAME)
    with pytest.raises(UseCaseInvalid, match="no function 'nothing'"):
        use_case_function(settings, use_case, "features:nothing")
    with pytest.raises(UseCaseInvalid, match=r"nowhere\.py, which does not exist"):
        use_case_function(settings, use_case, "nowhere:load")


def test_code_that_cannot_be_imported_is_explained(settings: Settings) -> None:
    (settings.use_cases_folder / demo.NAME / "features.py").write_text("import nonexistent_module")
    use_case = load_use_case(settings, demo.NAME)
    with pytest.raises(UseCaseInvalid, match="ModuleNotFoundError: No module named 'nonexistent_module'"):
        use_case_function(settings, use_case, "features:build_features")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("  history_days: 1", "\thistory_days: 1", 5, "indented by a tab character"),
        ("  function: source:load_rows", "   function: source:load_rows", 5, "'history_days: 1' is indented by 2"),
        ("region: city", "  region: city", 8, "'region: city' is indented by 2"),
        ("region: city", "region:city", 8, "is no `key: value`: write a colon and a space"),
        ("region: city", "region: city: Bern", 8, "holds a second colon: put the value in quotes"),
        ("region: city", "region: %city", 8, "in quotes"),
        ("region: city", "region: 'city", 8, "lacks its closing quotation mark"),
        ("entity: {key: [ride]}", "entity: {key: [ride}", 6, "lacks its closing `]`"),
        ("entity: {key: [ride]}", "entity: {key: ride}", 6, r"no list: write it in brackets, `key: \[ride\]`"),
        ("region: city", "region: city\nregion: town", 9, "stands twice, on lines 8 and 9: keep one"),
        ("region: city", "region: city\nknown_at: x", 9, "`known_at` stands below `target`: move it there"),
        ("seed: 7", "seed: 7\n  region: city", 30, "`region` stands at the top level, without indentation"),
        ("    hour: {type", "    no: {type", 13, "the key is read as False, no text: put it in quotes, 'no'"),
        ("type: integer, minimum: 0", "type: int, minimum: 0", 13, "'int' is none of .*: did you mean integer"),
        ("minimum: 0, maximum: 23", "minimum: 30, maximum: 23", 13, "minimum 30 is above maximum 23"),
        ("maximum_bad_share: 0.2", "maximum_bad_share: 20%", 18, "'20%' is no valid number: write 0.2"),
        ("title: Late rides\n", "", 1, "title: is missing: write `title: Late arrivals`"),
        ("train_until: 2024-05-01T", "train_until: 2024-13-01T", 25, "'2024-13-01T00:00:00Z' is no time"),
        ("train_until: 2024-05-01T00:00:00Z", "train_until: 2024-05-01", 25, "write 2024-05-01T00:00:00Z"),
        ("[GBM, GLM]", "[GBM, LGBM]", 31, "'LGBM' is none of .*: did you mean GBM"),
        ("  function: source:load_rows", "  function: source:load_rows\n  file: a.csv", 5, "these are function, file"),
        ("  function: source:load_rows", "  query: a.sql\n  time_zone: CEST", 5, "'CEST' is no time zone"),
        ("metric: auc", "metric: rmse", 34, "a binary target has auc, log_loss"),
        ("naive_baseline: [carrier]", "naive_baseline: [carier]", 33, "the nearest feature is 'carrier'"),
    ],
)
def test_each_mistake_names_its_line_its_value_and_the_cure(
    settings: Settings, old: str, new: str, line: int, message: str
) -> None:
    _rewrite(settings, old, new)
    with pytest.raises(UseCaseInvalid, match=rf"use_case\.yaml:{line}: .*{message}"):
        load_use_case(settings, demo.NAME)


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file(settings: Settings) -> None:
    path = settings.use_cases_folder / demo.NAME / "use_case.yaml"
    text = demo.DECLARATION.replace("seed: 7", "seed: x").replace("region: city", "region: 3")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UseCaseInvalid) as caught:
        load_use_case(settings, demo.NAME)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["8", "29"]


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ("{hour: 25, carrier: a, rain_millimetres: 0, is_weekend: false}", "hour: 25 must be at most 23"),
        ("{hour: 5, carrier: 7, rain_millimetres: 0, is_weekend: false}", "carrier: 7 must be text"),
        ("{hour: 5, carrier: a, rain_millimetres: .nan, is_weekend: false}", "rain_millimetres: nan must be finite"),
        ("{hour: 5, carrier: a, rain_millimetres: 0, is_weekend: null}", "is_weekend: None must not be null"),
        ("{hour: 5, carier: a}", "carier: 'carier' is not a feature; the nearest feature is 'carrier'"),
        ("{hour: 5}", "lacks 'carrier': give every feature a value that may not be missing"),
        ("late", "'late' is no mapping"),
    ],
)
def test_a_default_vector_that_no_model_would_take_is_refused(settings: Settings, default: str, message: str) -> None:
    _rewrite(settings, "cache_ttl_seconds: 60", f"cache_ttl_seconds: 60, default_features: {default}")
    with pytest.raises(UseCaseInvalid) as refused:
        load_use_case(settings, demo.NAME)
    assert f"serving.default_features{'.' if ':' in message.split()[0] else ': '}{message}" in str(refused.value)


def test_a_default_vector_may_leave_out_what_may_be_missing(settings: Settings) -> None:
    default = "{hour: 5, carrier: a, is_weekend: false}"
    _rewrite(settings, "cache_ttl_seconds: 60", f"cache_ttl_seconds: 60, default_features: {default}")
    assert load_use_case(settings, demo.NAME).serving.default_features == {
        "hour": 5, "carrier": "a", "is_weekend": False
    }  # fmt: skip
