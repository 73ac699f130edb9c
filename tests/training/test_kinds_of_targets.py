"""From a table to decided versions, for every kind of target, with a real PostgreSQL and a real H2O."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mage_platform.contracts import POOLED, FailedCandidate, GoodCandidate, PromotionDecision, TargetKind, UseCase
from mage_platform.database import connect
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.registry import champions, last_decision, model_version, model_versions
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.training.held_out import CANDIDATE, HeldOut
from mage_platform.training.plan import plan_regions
from mage_platform.training.promotion import promote
from mage_platform.training.regions import train_region
from mage_platform.training.registration import Registration, register_candidates
from mage_platform.training.reproduction import reproduce
from mage_platform.use_cases import load_use_case
from tests.training import small_tables

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
KINDS: tuple[TargetKind, ...] = ("binary", "multiclass", "regression")
CITIES = {"Bern": 500, "Chur": 500}


class Trained:
    """One use case, trained once."""

    def __init__(self, settings: Settings, kind: TargetKind, name: str | None = None) -> None:
        name = name or f"{kind}_deliveries"
        self.table = small_tables.rows(kind, CITIES)
        small_tables.declare(settings, name, kind, self.table)
        self.settings = settings
        self.use_case: UseCase = load_use_case(settings, name)
        rows = load_rows(settings, self.use_case)
        store_vectors(settings, self.use_case, build_vectors(settings, self.use_case, rows))
        self.candidates, self.registration, self.decisions = self.train("1")

    def train(self, run: str) -> tuple[list[GoodCandidate | FailedCandidate], Registration, list[PromotionDecision]]:
        plans = plan_regions(self.settings, self.use_case, run=f"{self.use_case.name}_{run}")
        candidates = [train_region(self.settings, self.use_case, plan) for plan in plans]
        registration = register_candidates(self.settings, self.use_case, candidates)
        registration.raise_if_failed()
        return candidates, registration, promote(self.settings, self.use_case, registration, moved_by="a test")

    def good(self, region: str) -> GoodCandidate:
        return next(each for each in self.candidates if isinstance(each, GoodCandidate) and each.plan.region == region)


@pytest.fixture(scope="module")
def trained(training_server: Settings) -> dict[TargetKind, Trained]:
    return {kind: Trained(training_server, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_region_and_the_pooled_model_become_champions(
    trained: dict[TargetKind, Trained], kind: TargetKind
) -> None:
    mine = trained[kind]
    assert [(each.region, each.promoted) for each in mine.decisions] == [(POOLED, True), ("Bern", True), ("Chur", True)]
    with connect(mine.settings) as connection:
        serving = champions(connection, use_case=mine.use_case.name)
    assert [(each.model.region, each.model.version) for each in serving] == [(POOLED, 1), ("Bern", 1), ("Chur", 1)]
    assert {each.model.metrics.kind for each in serving} == {kind}
    pooled = serving[0].model
    assert pooled.region_feature == "city"
    assert pooled.rows["test"] == sum(each.model.rows["test"] for each in serving[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_rows_are_the_tables_own(trained: dict[TargetKind, Trained], kind: TargetKind) -> None:
    """Rows, labels and order of the test part, straight from the table that was ingested."""
    mine = trained[kind]
    window = mine.use_case.training.window
    table = mine.table[(mine.table["city"] == "Bern") & (mine.table["ordered_at"] < pd.Timestamp(window.test_until))]
    table = table[table["ordered_at"] >= pd.Timestamp(window.blend_until)].sort_values("ordered_at")
    rows = HeldOut.read(mine.registration.held_out["Bern"])  # type: ignore[arg-type]
    assert len(rows) == len(table)
    assert rows.table["hour"].to_pylist() == table["hour"].tolist()
    expected = (table["outcome"] == "yes").map({True: "1", False: "0"}) if kind == "binary" else table["outcome"]
    assert rows.table["_label"].to_pylist() == expected.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_finds_the_pattern_and_the_evaluation_says_how_sure_that_is(
    trained: dict[TargetKind, Trained], kind: TargetKind
) -> None:
    evaluation = next(each for each in trained[kind].decisions if each.region == "Bern").evaluation
    assert evaluation is not None
    assert (evaluation.resampled, evaluation.rows) == ("days", evaluation.candidate.metrics.rows)
    assert evaluation.against_naive.confidence > 0.95
    assert evaluation.against_naive.interval is not None
    assert evaluation.against_naive.interval.low > 0
    assert evaluation.pooled is not None
    assert evaluation.pooled.metrics.rows == evaluation.rows
    interval = evaluation.candidate.intervals[evaluation.metric]
    assert interval.low < getattr(evaluation.candidate.metrics, evaluation.metric) < interval.high
    assert {each.level for each in evaluation.slices} == {"fast", "slow"}
    assert sum(each.rows for each in evaluation.slices) == evaluation.rows
    if kind == "multiclass":
        assert evaluation.calibration == []
    else:
        assert sum(each.rows for each in evaluation.calibration) == evaluation.rows


def test_classes_keep_their_names_and_probabilities_add_up(trained: dict[TargetKind, Trained]) -> None:
    rows = HeldOut.read(trained["multiclass"].registration.held_out["Bern"])  # type: ignore[arg-type]
    assert rows.classes == ("early", "late", "on time")
    scored = rows.scored(CANDIDATE)
    assert scored.predicted.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    named = [rows.classes[int(code)] for code in scored.truth]
    assert named == rows.table["_label"].to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_leader_that_cannot_explain_itself_has_a_tree_beside_it(
    trained: dict[TargetKind, Trained], kind: TargetKind
) -> None:
    candidate = trained[kind].good("Bern")
    if candidate.algorithm.lower() in ("gbm", "xgboost", "drf"):
        assert candidate.explainer is None
    else:
        assert candidate.explainer is not None
        assert candidate.explainer.algorithm == "gbm"
    assert set(candidate.variable_importance) <= {"hour", "carrier", "rain"}
    assert sum(candidate.variable_importance.values()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_plan_again_gives_the_same_models_and_registers_nothing_new(
    trained: dict[TargetKind, Trained], kind: TargetKind
) -> None:
    mine = trained[kind]
    candidates, registration, decisions = mine.train("2")
    assert registration.unchanged == [POOLED, "Bern", "Chur"]
    assert [each.reason for each in decisions] == ["is the champion already"] * 3
    with connect(mine.settings) as connection:
        versions = model_versions(connection, use_case=mine.use_case.name)
    assert [(each.region, each.version) for each in versions] == [(POOLED, 1), ("Bern", 1), ("Chur", 1)]
    for first, second in zip(mine.candidates, candidates, strict=True):
        assert isinstance(first, GoodCandidate) and isinstance(second, GoodCandidate)
        before, after = (_predictions(each) for each in (first, second))
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("kind", "region"), [("binary", POOLED), ("binary", "Bern"), ("multiclass", "Bern"), ("regression", "Bern")]
)
def test_a_version_trained_again_from_its_lineage_scores_every_row_the_same(
    trained: dict[TargetKind, Trained], kind: TargetKind, region: str
) -> None:
    mine = trained[kind]
    with connect(mine.settings) as connection:
        version = model_version(connection, mine.use_case.name, region, 1)
    # Window and seed are those of the version, whatever is declared meanwhile.
    moved = mine.use_case.training.model_copy(update={"seed": 99})
    outcome = reproduce(mine.settings, mine.use_case.model_copy(update={"training": moved}), version)
    assert (outcome.same_scores, outcome.largest_difference, outcome.differences) == (True, 0.0, [])
    assert outcome.rows == version.rows["test"]
    with connect(mine.settings) as connection:
        assert len(model_versions(connection, use_case=mine.use_case.name, region=region)) == 1


def test_what_changed_since_is_told_where_the_scores_differ(training_server: Settings) -> None:
    mine = Trained(training_server, "regression", "revised_deliveries")
    with connect(mine.settings) as connection:
        version = model_version(connection, mine.use_case.name, "Bern", 1)
        connection.execute(
            "UPDATE platform.labels SET label = to_jsonb(label::float8 + 5) WHERE use_case = %s", [mine.use_case.name]
        )
    outcome = reproduce(mine.settings, mine.use_case, version)
    assert not outcome.same_scores
    assert outcome.largest_difference > 1
    assert outcome.differences[0].startswith("the stored rows changed since (rows: train ")


def _predictions(candidate: GoodCandidate) -> Any:
    return HeldOut.read(candidate.test_path).scored(CANDIDATE).predicted  # type: ignore[arg-type]


def test_a_decision_is_kept_whole(trained: dict[TargetKind, Trained]) -> None:
    mine = trained["regression"]
    with connect(mine.settings) as connection:
        kept = last_decision(connection, mine.use_case.name, "Chur", 1)
    assert kept is not None
    assert kept.evaluation is not None
    assert kept.evaluation.metric == "rmse"
