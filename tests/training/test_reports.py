"""The report of a really trained version: kept, answered by a real sidecar and by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from mage_platform.contracts import PromotionDecision
from mage_platform.contracts.report import ModelReport
from mage_platform.database import connect
from mage_platform.features.vectors import build_vectors
from mage_platform.ingestion import store_vectors
from mage_platform.local.surroundings import block_environment
from mage_platform.registry import champion, last_decision, report_document, report_path
from mage_platform.settings import PROJECT, Settings
from mage_platform.sources import load_rows
from mage_platform.training.plan import plan_regions
from mage_platform.training.promotion import promote
from mage_platform.training.regions import train_region
from mage_platform.training.registration import register_candidates
from mage_platform.use_cases import load_use_case
from tests.serving.sidecar_process import Sidecar, sidecar
from tests.training import small_tables

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
NAME = "reported_deliveries"
REGION = "Bern <script>alert(1)"
SLOW = "slow</td><script>alert(2)</script>"


def _train(settings: Settings, run: str, seed: int) -> PromotionDecision:
    use_case = load_use_case(settings, NAME)
    training = use_case.training.model_copy(update={"seed": seed})
    use_case = use_case.model_copy(update={"training": training})
    candidates = [train_region(settings, use_case, plan) for plan in plan_regions(settings, use_case, run=run)]
    registration = register_candidates(settings, use_case, candidates)
    registration.raise_if_failed()
    (decision,) = promote(settings, use_case, registration, moved_by="a test")
    return decision


@pytest.fixture(scope="module")
def decision(training_server: Settings) -> PromotionDecision:
    table = small_tables.rows("binary", {REGION: 600})
    table["carrier"] = table["carrier"].replace("slow", SLOW)
    declaration = small_tables.DECLARATION.replace("title: Deliveries, {kind}", "title: '<script>{kind}</script>'")
    declaration = declaration.replace("[GBM, GLM, StackedEnsemble]", "[GBM]")
    small_tables.declare(training_server, NAME, "binary", table, declaration)
    use_case = load_use_case(training_server, NAME)
    rows = load_rows(training_server, use_case)
    store_vectors(training_server, use_case, build_vectors(training_server, use_case, rows))
    return _train(training_server, "1", seed=5)


@pytest.fixture(scope="module")
def served(
    training_server: Settings, decision: PromotionDecision, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    with sidecar(training_server, tmp_path_factory.mktemp("sidecar")) as started:
        yield started


def test_the_decision_names_an_address_at_which_the_sidecar_answers_the_page(
    served: Sidecar, decision: PromotionDecision
) -> None:
    assert decision.promoted
    assert decision.report is not None
    answer = httpx.get(decision.report, timeout=10)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert not [rule for rule in policy if rule.startswith("script-src")]
    assert "<script" not in answer.text
    assert "&lt;script&gt;binary&lt;/script&gt;" in answer.text
    assert "slow&lt;/td&gt;&lt;script&gt;alert(2)" in answer.text


def test_the_served_model_names_the_path_of_its_report(served: Sidecar, decision: PromotionDecision) -> None:
    path = report_path(NAME, REGION)
    shown = served.client.get(path.removesuffix("/report")).json()
    assert decision.report is not None
    assert decision.report.endswith(shown["report"])
    assert served.client.get(path).text == served.client.get(shown["report"]).text


def test_the_document_is_answered_to_those_who_ask_for_json(
    served: Sidecar, training_server: Settings, decision: PromotionDecision
) -> None:
    path = report_path(NAME, REGION, 1)
    by_header = served.client.get(path, headers={"accept": "application/json"})
    by_name = served.client.get(f"{path}&format=json")
    assert by_header.headers["content-type"] == by_name.headers["content-type"] == "application/json"
    assert by_header.text == by_name.text
    report = ModelReport.model_validate_json(by_name.text)
    with connect(training_server) as connection:
        assert report.decision == last_decision(connection, NAME, REGION, 1)
    browser = served.client.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert browser.headers["content-type"].startswith("text/html")


def test_gain_and_calibration_are_those_of_the_held_out_rows(
    served: Sidecar, training_server: Settings, decision: PromotionDecision
) -> None:
    """Counted from the file of the held-out rows, by another way than the report's."""
    report = ModelReport.model_validate_json(served.client.get(f"{report_path(NAME, REGION)}?format=json").text)
    (file,) = training_server.runs_folder.glob("1/*/held_out.parquet")
    rows = pq.read_table(file).to_pandas()
    score, late = rows["_candidate"].str[0], rows["_label"] == "1"
    half = next(point for point in report.gain if point.looked_at == pytest.approx(0.5))
    best = late[score.sort_values(ascending=False).index[: len(rows) // 2]]
    assert half.candidate == pytest.approx(best.sum() / late.sum(), abs=1 / late.sum())
    assert report.decision.evaluation is not None
    bins = report.decision.evaluation.calibration
    assert sum(each.rows for each in bins) == report.model.rows["test"] == len(rows)
    assert sum(each.rows * each.observed for each in bins) == pytest.approx(late.sum())
    assert len(report.observed_intervals) == len(bins)


def test_the_dependence_follows_the_pattern_of_the_table(served: Sidecar) -> None:
    """The outcome was made to grow with hour and rain, and on the slow carrier."""
    report = ModelReport.model_validate_json(served.client.get(f"{report_path(NAME, REGION)}?format=json").text)
    dependence = {each.feature: each for each in report.model.partial_dependence}
    assert set(dependence) == {"hour", "carrier", "rain"}
    for name in ("hour", "rain"):
        values = [point.value for point in dependence[name].points]
        assert values == sorted(set(values))  # type: ignore[type-var]
        assert dependence[name].points[-1].means[0] > dependence[name].points[0].means[0] + 0.2
    carriers = {point.value: point.means[0] for point in dependence["carrier"].points}
    assert set(carriers) == {"fast", SLOW}
    assert carriers[SLOW] > carriers["fast"] + 0.1


def test_what_is_not_there_is_a_problem_that_says_so(served: Sidecar) -> None:
    path = report_path(NAME, REGION)
    for wrong, status, part in (
        (f"{path}?version=99", 404, "no version 99"),
        (report_path("unknown", "r"), 404, "not served"),
        (f"{path}?version=0", 422, "greater than or equal to 1"),
        (f"{path}?format=pdf", 422, "'html' or 'json'"),
    ):
        answer = served.client.get(wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert part in answer.json()["detail"]


def test_the_command_writes_the_page_or_the_document(
    training_server: Settings, decision: PromotionDecision, served: Sidecar, tmp_path: Path
) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **block_environment(training_server)}
        asked = [sys.executable, "-m", "mage_platform", "models", "report", NAME, *arguments]
        return subprocess.run(asked, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)

    file = tmp_path / "report.html"
    assert command(REGION, "--output", str(file)).returncode == 0
    page = served.client.get(report_path(NAME, REGION)).text
    assert file.read_text(encoding="utf-8") == page
    shown = command(REGION, "--version", "1", "--json")
    assert json.loads(shown.stdout)["model"]["region"] == REGION
    missing = command(REGION, "--version", "99")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "no version 99" in missing.stderr


def test_a_report_that_cannot_be_written_undoes_no_promotion(
    training_server: Settings, decision: PromotionDecision, served: Sidecar
) -> None:
    """The table of the reports is gone while a second run decides."""
    with connect(training_server) as connection:
        connection.execute("ALTER TABLE platform.model_reports RENAME TO model_reports_away")
        connection.execute("DELETE FROM platform.model_aliases WHERE use_case = %s", [NAME])
    second = _train(training_server, "2", seed=6)
    with connect(training_server) as connection:
        connection.execute("ALTER TABLE platform.model_reports_away RENAME TO model_reports")
        present = champion(connection, NAME, REGION)
        kept = last_decision(connection, NAME, REGION, 2)
    assert second.promoted and second.report is None
    assert present is not None and present.model.version == 2
    assert kept is not None and kept.promoted
    answer = served.client.get(report_path(NAME, REGION, 2))
    assert answer.status_code == 404
    assert "has no report" in answer.json()["detail"]
    assert served.client.get(report_path(NAME, REGION, 1)).status_code == 200


def test_a_report_is_written_again_only_when_something_was_weighed(
    training_server: Settings, decision: PromotionDecision
) -> None:
    def document(version: int) -> ModelReport:
        with connect(training_server) as connection:
            return ModelReport.model_validate_json(report_document(connection, NAME, REGION, version))

    # The test above left version 2 as champion without a report: it gets one now, with what is known.
    again = _train(training_server, "3", seed=6)
    assert (again.version, again.reason) == (2, "is the champion already")
    written = document(2).written_at
    assert _train(training_server, "4", seed=6).report == again.report is not None
    assert document(2).written_at == written
    # Version 1 comes back, and is held against version 2.
    back = _train(training_server, "5", seed=5)
    assert (back.version, back.champion_version) == (1, 2)
    assert document(1).decision.champion_version == 2
