"""What each feature contributed: held against H2O's own contributions, and what explains where a model cannot."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from click.testing import CliRunner

from mage_platform.command_line import predictions as command
from mage_platform.contracts import POOLED, Champion, ExplainResponse, ModelVersion
from mage_platform.database import connect
from mage_platform.errors import ContractViolated
from mage_platform.local.embedded import on_free_ports
from mage_platform.registry import model_version
from mage_platform.settings import Settings
from serving import jvm
from serving.explainers import Explainers
from serving.models import ServedModel
from serving.problems import ExplanationsNotAvailable
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar

pytestmark = pytest.mark.integration
USE_CASE = "explained"
ROWS = 150
TREES = ("gbm", "xgboost", "number", "forest", "dart")
SCALES = {"gbm": "log_odds", "xgboost": "log_odds", "number": "number", "forest": "probability", "dart": "log_odds"}


@pytest.fixture(scope="module")
def served(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for model in (*TREES, "glm", "three_classes"):
        promote(servers, USE_CASE, model, registered(servers, trained, USE_CASE, model, model))
    shutil.copy(trained.mojo("gbm"), trained.mojo("to_alter"))
    with zipfile.ZipFile(trained.mojo("to_alter"), "a") as archive:
        archive.comment = b"other bytes, so that what is altered is nobody else's"
    for region, explainer in {"sibling": "gbm", "altered": "to_alter"}.items():
        version = registered(servers, trained, USE_CASE, region, "glm", run=region, explainer=explainer)
        promote(servers, USE_CASE, region, version)
    pooled = registered(servers, trained, "explained_carriers", POOLED, "gbm", region_feature="carrier")
    promote(servers, "explained_carriers", POOLED, pooled)
    own = servers.model_copy(update={"sidecar": on_free_ports(servers).sidecar})  # another one may be running
    with sidecar(own, tmp_path_factory.mktemp("explained")) as running:
        for region in (*TREES, "glm", "three_classes", "sibling", "altered"):
            running.await_version(USE_CASE, region, 1)
        running.await_version("explained_carriers", POOLED, 1)
        yield running


def explained(served: Sidecar, region: str, features: dict[str, Any]) -> ExplainResponse:
    answer = served.explain(USE_CASE, region, features)
    assert answer.status_code == 200, answer.text
    return ExplainResponse.model_validate_json(answer.content)


def parts(answer: ExplainResponse) -> dict[str, float]:
    return {each.feature: each.contribution for each in answer.contributions}


def on_the_scale(prediction: dict[str, Any], scale: str) -> float:
    if scale == "number":
        return float(prediction["prediction"])
    chance = float(prediction["probabilities"]["1"])
    return chance if scale == "probability" else math.log(chance / (1 - chance))


@pytest.mark.parametrize("model", ["gbm", "xgboost", "number"])
def test_contributions_equal_h2os_own_by_original_feature(served: Sidecar, trained: Trained, model: str) -> None:
    """To a millionth of what moves the score: H2O adds up hundreds of trees in float32."""
    for features, expected in list(zip(trained.vectors(), trained.contributions(model), strict=True))[:ROWS]:
        answer = explained(served, model, features)
        size = max(1.0, sum(map(abs, expected.values())))
        assert answer.bias == pytest.approx(expected.pop("BiasTerm"), abs=1e-6 * size)
        got = parts(answer)
        assert got.pop("terminals") == 0.0  # constant in training, so that H2O dropped it
        assert got == pytest.approx(expected, abs=1e-6 * size)


@pytest.mark.parametrize("model", TREES)
def test_bias_and_contributions_sum_up_to_h2os_own_prediction(served: Sidecar, trained: Trained, model: str) -> None:
    for features, predicted in list(zip(trained.vectors(), trained.predictions(model), strict=True))[:ROWS]:
        answer = explained(served, model, features)
        assert answer.scale == SCALES[model]
        assert answer.explains == (None if model == "number" else "1")
        assert answer.bias + math.fsum(parts(answer).values()) == pytest.approx(answer.score, abs=1e-12, rel=1e-12)
        expected = on_the_scale(predicted, answer.scale)
        assert answer.score == pytest.approx(expected, abs=1e-6 * max(1.0, abs(expected)))
        assert {"prediction": answer.prediction, "probabilities": answer.probabilities} == predicted
        assert answer.explained_by.same_model and answer.explained_by.algorithm == model


def test_a_forests_bias_is_the_mean_of_its_predictions(served: Sidecar, trained: Trained) -> None:
    """H2O's own is far from that, and no probability: it spreads a constant over the features."""
    chances = [each["probabilities"]["1"] for each in trained.predictions("forest")]
    answers = [explained(served, "forest", features) for features in trained.vectors()[:ROWS]]
    assert {round(answer.bias, 9) for answer in answers} == {round(answers[0].bias, 9)}
    assert answers[0].bias == pytest.approx(fmean(chances), abs=0.01)
    assert fmean(answer.score - answer.bias for answer in answers) == pytest.approx(0.0, abs=0.02)
    assert trained.contributions("forest")[0]["BiasTerm"] < 0.0


def test_every_feature_stands_once_with_its_value_the_greatest_first(served: Sidecar, trained: Trained) -> None:
    for features in trained.vectors()[:20]:
        answer = explained(served, "xgboost", features)
        assert {each.feature: each.value for each in answer.contributions} == features
        sizes = [abs(each.contribution) for each in answer.contributions]
        assert sizes == sorted(sizes, reverse=True)
        assert answer.vector is None and not answer.fallback and str(answer.entity_id) == ENTITY


def test_a_model_that_cannot_explain_itself_is_explained_by_the_tree_model_beside_it(
    served: Sidecar, trained: Trained
) -> None:
    for row, features in enumerate(trained.vectors()[:ROWS]):
        answer = explained(served, "sibling", features)
        assert (answer.explained_by.same_model, answer.explained_by.algorithm) == (False, "gbm")
        assert answer.explained_by.note is not None and "not to the prediction" in answer.explained_by.note
        assert answer.model.algorithm == "glm"
        predicted = trained.predictions("glm")[row]
        assert {"prediction": answer.prediction, "probabilities": answer.probabilities} == predicted
        expected = trained.contributions("gbm")[row]
        assert answer.bias == pytest.approx(expected.pop("BiasTerm"), abs=2e-6)
        assert {**parts(answer), **expected} == pytest.approx(parts(answer), abs=2e-6)
        score = on_the_scale(trained.predictions("gbm")[row], "log_odds")
        assert answer.score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    ("region", "named"), [("glm", "`serving: {explanations: true}`"), ("three_classes", "3 classes")]
)
def test_a_model_that_nothing_explains_says_what_to_do(
    served: Sidecar, trained: Trained, region: str, named: str
) -> None:
    answer = served.explain(USE_CASE, region, trained.vectors()[0])
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    problem = answer.json()
    assert problem["type"] == "urn:problem:mage-platform:explanations-not-available"
    assert named in problem["detail"]
    assert served.predict(USE_CASE, region, trained.vectors()[0]).status_code == 200


def test_a_tree_model_that_was_altered_in_the_registry_explains_nothing(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    with connect(servers) as connection:
        sha256 = model_version(connection, USE_CASE, "altered", 1).explainer_sha256
        flip = "UPDATE platform.artifact_chunks SET chunk = set_byte(chunk, 40, 255 - get_byte(chunk, 40)) "
        assert connection.execute(flip + "WHERE sha256 = %s AND number = 0", (sha256,)).rowcount == 1
    for _ in range(3):
        answer = served.explain(USE_CASE, "altered", trained.vectors()[0])
        assert answer.status_code == 409, answer.text
        assert "does not match its SHA-256" in answer.json()["detail"]
    refused = served.logged("explainer refused")
    assert [(line["region"], line["audit"]) for line in refused] == [("altered", True)]
    assert served.predict(USE_CASE, "altered", trained.vectors()[0]).status_code == 200


def test_the_region_is_a_feature_of_the_pooled_model(served: Sidecar, trained: Trained) -> None:
    rows = [(features, at) for at, features in enumerate(trained.vectors()[:ROWS]) if features["carrier"] == "UA"]
    assert len(rows) > 10
    for features, at in rows:
        asked = {name: value for name, value in features.items() if name != "carrier"}
        answer = served.explain("explained_carriers", "UA", asked)
        got = ExplainResponse.model_validate_json(answer.content)
        assert got.fallback
        assert next(each.value for each in got.contributions if each.feature == "carrier") == "UA"
        assert parts(got)["carrier"] == pytest.approx(trained.contributions("gbm")[at]["carrier"], abs=2e-6)


def test_faults_are_named_as_for_a_prediction(served: Sidecar, trained: Trained) -> None:
    features = {**trained.vectors()[0], "month": 13, "moon": "full"}
    for send in (served.explain, served.predict):
        answer = send(USE_CASE, "gbm", features)
        assert answer.status_code == 422
        assert [fault["field"] for fault in answer.json()["errors"]] == ["features.month", "features.moon"]


def test_the_command_prints_a_table_or_json(served: Sidecar, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "present_settings", lambda: served.settings)
    request = [USE_CASE, "sibling", ENTITY, "--features", json.dumps(trained.vectors()[0])]
    table = CliRunner().invoke(command.explain, request)
    assert table.exit_code == 0, table.output
    for word in ("prediction", "distance", "log odds", "bias", "not to the prediction", "(glm)"):
        assert word in table.output
    printed = CliRunner().invoke(command.explain, [*request, "--json"])
    answer = ExplainResponse.model_validate_json(printed.stdout)
    assert answer.explained_by.algorithm == "gbm"


class Source:
    """A registry whose only session counts what is fetched from it."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.fetched: list[str] = []
        self.broken = False

    @contextmanager
    def session(self) -> Iterator[Source]:
        yield self

    def explainer(self, model: ModelVersion) -> tuple[Path, Path]:
        self.fetched.append(model.region)
        if self.broken:
            raise ContractViolated("broken")
        return self.trained.mojo("gbm"), self.trained.genmodel


@pytest.fixture
def glms(servers: Settings, trained: Trained) -> list[ServedModel]:
    """Three served models that cannot explain themselves."""
    jvm.start(heap_mib=256)
    models = []
    for region in ("one", "two", "three"):
        number = registered(servers, trained, "kept", region, "glm", run=region, explainer="gbm")
        with connect(servers) as connection:
            version = model_version(connection, "kept", region, number)
        champion = Champion(model=version, since=datetime(2026, 1, 1, tzinfo=UTC))
        models.append(ServedModel.load(champion, trained.mojo("glm"), trained.genmodel))
    return models


def test_requests_that_wait_for_one_explainer_load_it_once(trained: Trained, glms: list[ServedModel]) -> None:
    source = Source(trained)

    async def ask() -> None:
        explainers = Explainers(source)  # type: ignore[arg-type]
        first, *others = await asyncio.gather(*(explainers.of(glms[0]) for _ in range(20)))
        assert all(each is first for each in others)
        assert await explainers.of(glms[0]) is first

    asyncio.run(ask())
    assert source.fetched == ["one"]


@pytest.mark.parametrize("bounds", [{"maximum": 2}, {"maximum_nodes": 2 * 1500}])
def test_the_least_recently_used_explainer_is_given_up(
    trained: Trained, glms: list[ServedModel], bounds: dict[str, int]
) -> None:
    source, (one, two, three) = Source(trained), glms

    async def ask() -> None:
        explainers = Explainers(source, **bounds)  # type: ignore[arg-type]
        for model in (one, two, one, three, one, two):
            explainer = await explainers.of(model)
            assert 1000 < explainer.nodes <= 1500

    asyncio.run(ask())
    assert source.fetched == ["one", "two", "three", "two"]


def test_what_failed_is_not_fetched_again_at_once(trained: Trained, glms: list[ServedModel]) -> None:
    source = Source(trained)
    source.broken = True

    async def ask() -> None:
        explainers = Explainers(source)  # type: ignore[arg-type]
        for _ in range(5):
            with pytest.raises(ExplanationsNotAvailable, match="broken"):
                await explainers.of(glms[0])

    asyncio.run(ask())
    assert source.fetched == ["one"]
