"""Every answered prediction is kept once, with its vector; and when the database is gone, nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg.types.json import Jsonb
from pydantic_core import to_json

from mage_platform.database import connect, migrations
from mage_platform.local.embedded import running
from mage_platform.local.ports import free_port
from mage_platform.predictions import LoggedPrediction, add_predictions, drop_predictions, newest_predictions
from mage_platform.settings import Settings, load_settings
from serving.calls import Call
from serving.outcomes import Classes, NumberOutcome
from serving.prediction_log import PredictionLog
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar
from tests.serving.test_challengers import challenge
from tests.serving.test_metrics import labels, values
from tests.serving.valkey_process import with_ports

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def kept(settings: Settings, use_case: str, limit: int = 10_000) -> list[LoggedPrediction]:
    with connect(settings) as connection:
        return newest_predictions(connection, use_case=use_case, limit=limit)


def kept_after(settings: Settings, use_case: str, rows: int, seconds: float = 15) -> list[LoggedPrediction]:
    """The rows of a use case, as soon as they are so many."""
    until = time.monotonic() + seconds
    while True:
        found = kept(settings, use_case)
        if len(found) >= rows:
            return found
        assert time.monotonic() < until, len(found)
        time.sleep(0.05)


def outcomes(served: Sidecar) -> dict[str, float]:
    counted = values(served.client.get("/metrics").text)["sidecar_logged_predictions_total"]
    return {outcome: counted[labels(outcome=outcome)] for outcome in ("written", "dropped", "refused")}


@pytest.fixture(scope="module")
def logging(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for region, model in {"north": "gbm", "east": "xgboost"}.items():
        promote(servers, "kept", region, registered(servers, trained, "kept", region, model))
    promote(servers, "unkept", "north", registered(servers, trained, "unkept", "north", "gbm", log_predictions=0.0))
    settings = with_ports(servers, sidecar=free_port())
    folder = tmp_path_factory.mktemp("logging")
    with sidecar(settings, folder, SIDECAR__PREDICTION_CACHE="always") as started:
        started.await_version("unkept", "north", 1)
        yield started


@pytest.mark.integration
@pytest.mark.parametrize("shape", ["rows", "columns"])
def test_the_rows_of_a_batch_are_kept_with_the_vectors_the_model_took(
    logging: Sidecar, servers: Settings, trained: Trained, shape: str
) -> None:
    vectors, expected = trained.vectors()[:60], trained.predictions("xgboost")[:60]
    use_case = f"kept_{shape}"
    promote(servers, use_case, "east", registered(servers, trained, use_case, "east", "xgboost"))
    logging.await_version(use_case, "east", 1)
    entity_ids = [str(uuid4()) for _ in vectors]
    body: dict[str, Any] = {"use_case": use_case, "region": "east"}
    if shape == "rows":
        body["rows"] = [{"entity_id": each, "features": v} for each, v in zip(entity_ids, vectors, strict=True)]
    else:
        body["columns"] = {name: [vector[name] for vector in vectors] for name in vectors[0]}
        body["entity_ids"] = entity_ids
    assert logging.client.post("/v1/predict/batch", json=body).status_code == 200
    found = kept_after(servers, use_case, 60)
    assert len(found) == 60
    by_entity = {str(each.entity_id): each for each in found}
    for entity_id, vector, right in zip(entity_ids, vectors, expected, strict=True):
        line = by_entity[entity_id]
        assert (line.region, line.version, line.prediction) == ("east", 1, right["prediction"])
        assert line.probabilities == right["probabilities"]
        # H2O dropped the constant; the level that only the unseen rows have counts as missing.
        known = {n: v for n, v in vector.items() if n != "terminals"}
        assert set(line.feature_vector) == set(known)
        wrong = {n for n, v in known.items() if line.feature_vector[n] != v and line.feature_vector[n] is not None}
        assert not wrong
        assert {
            n for n in ("month", "distance", "temperature", "weekend") if line.feature_vector[n] != vector[n]
        } == set()


@pytest.mark.integration
def test_each_answered_prediction_is_kept_once_with_its_vector_and_score(
    logging: Sidecar, servers: Settings, trained: Trained
) -> None:
    before = datetime.now(UTC)
    vectors, expected, answers = trained.vectors()[:40], trained.predictions("gbm"), {}
    for row, vector in enumerate(vectors):
        body = {"use_case": "kept", "region": "north", "entity_id": str(UUID(int=row)), "features": vector}
        answer = logging.client.post("/v1/predict", json=body, headers={"x-request-id": f"row-{row}"})
        answers[f"row-{row}"] = answer.json()
    assert logging.predict("kept", "north", {"month": 13}).status_code == 422
    assert logging.predict("unkept", "north", vectors[0]).status_code == 200

    found = {each.request_id: each for each in kept_after(servers, "kept", 40)}
    assert set(found) == set(answers)
    for row, vector in enumerate(vectors):
        each, answer = found[f"row-{row}"], answers[f"row-{row}"]
        assert each.feature_vector == vector
        assert (each.prediction, each.probabilities) == (answer["prediction"], answer["probabilities"])
        assert each.probabilities == expected[row]["probabilities"], "to the last bit"
        assert (each.use_case, each.region, each.model_region, each.version) == ("kept", "north", "north", 1)
        assert (each.variant, each.entity_id, each.event_time) == ("champion", UUID(int=row), None)
        assert each.cached == answer["cached"]
        assert before - timedelta(seconds=1) < each.asked_at < datetime.now(UTC)
    time.sleep(0.6)
    assert len(kept(servers, "kept")) == 40
    assert not kept(servers, "unkept"), "its use case keeps none"


@pytest.mark.integration
def test_a_prediction_by_entity_is_kept_with_the_stored_vector_and_its_time(
    logging: Sidecar, servers: Settings, trained: Trained
) -> None:
    features = {**trained.vectors()[3], "carrier": "NUL \0 in it"}
    stored = trained.vectors()[3]
    with connect(servers) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
            "VALUES (%s, %s, %s, 'kept', 'east')",
            [ENTITY, NOW, Jsonb(stored)],
        )
    assert logging.predict("kept", "east", None).status_code == 200
    assert logging.predict("kept", "east", features).status_code == 200

    east = [each for each in kept_after(servers, "kept", 42) if each.region == "east"]
    given, by_entity = sorted(east, key=lambda each: each.event_time is not None)
    assert (by_entity.feature_vector, by_entity.event_time) == (stored, NOW)
    assert given.feature_vector == {**features, "carrier": "NUL � in it"}, "PostgreSQL keeps no NUL"
    assert (given.event_time, given.entity_id) == (None, UUID(ENTITY))


@pytest.mark.integration
def test_what_a_canary_answers_and_a_shadow_would_have_answered_is_kept_as_theirs(
    logging: Sidecar, servers: Settings, trained: Trained
) -> None:
    vector, said = trained.vectors()[0], {}
    for use_case, mode in (("shadowed", "shadow"), ("canaried", "canary")):
        promote(servers, use_case, "r", registered(servers, trained, use_case, "r", "gbm", "run_1"))
        other = registered(servers, trained, use_case, "r", "gbm_two", "run_2")
        challenge(servers, use_case, other, mode, 1.0)
        logging.await_version(use_case, "r", 1)
        until = time.monotonic() + 30
        while {each.variant for each in kept(servers, use_case)} != {"shadowed": {"champion", "shadow"}}.get(
            use_case, {"canary"}
        ):
            assert time.monotonic() < until, kept(servers, use_case)
            with connect(servers) as connection:
                connection.execute("DELETE FROM platform.predictions WHERE use_case = %s", [use_case])
            assert logging.predict(use_case, "r", vector).status_code == 200
            time.sleep(1.0)
        said[use_case] = {each.variant: each for each in kept(servers, use_case)}
    two = trained.predictions("gbm_two")[0]["probabilities"]
    assert said["shadowed"]["champion"].probabilities == trained.predictions("gbm")[0]["probabilities"]
    assert (said["shadowed"]["champion"].version, said["shadowed"]["shadow"].version) == (1, 2)
    assert said["shadowed"]["champion"].request_id == said["shadowed"]["shadow"].request_id
    for each in (said["shadowed"]["shadow"], said["canaried"]["canary"]):
        assert (each.version, each.probabilities, each.feature_vector) == (2, two, vector)
    counted = values(logging.client.get("/metrics").text)["sidecar_predictions_total"]
    assert counted[labels(use_case="shadowed", region="r", version="2", variant="shadow")] > 0
    assert counted[labels(use_case="canaried", region="r", version="2", variant="canary")] > 0


@pytest.mark.integration
def test_what_waits_is_written_when_the_sidecar_stops(servers: Settings, trained: Trained, tmp_path: Path) -> None:
    promote(servers, "stopped", "r", registered(servers, trained, "stopped", "r", "glm"))
    with sidecar(with_ports(servers, sidecar=free_port()), tmp_path) as served:
        for vector in trained.vectors()[:25]:
            assert served.predict("stopped", "r", vector).status_code == 200
        served.process.terminate()
        assert served.process.wait(timeout=15) == 0
    assert len(kept(servers, "stopped")) == 25


class Asking(threading.Thread):
    """Asks without a pause, each time for another entity."""

    def __init__(self, url: str, vector: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._url, self._vector = url, vector
        self.ended = threading.Event()
        self.answered: list[UUID] = []
        self.failed: list[str] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self.ended.is_set():
                entity = uuid4()
                body = {"use_case": "gone", "region": "r", "entity_id": str(entity), "features": self._vector}
                answer = client.post("/v1/predict", json=body)
                if answer.status_code == 200:
                    self.answered.append(entity)
                else:
                    self.failed.append(answer.text)


@pytest.mark.integration
def test_while_postgresql_is_gone_no_request_fails_and_what_is_dropped_adds_up(
    trained: Trained, tmp_path: Path
) -> None:
    settings = with_ports(
        load_settings(state_folder=tmp_path / "state"), database=free_port(), redis=free_port(), sidecar=free_port()
    )
    with running(settings, ("postgres",), migrate=True, free_ports=False) as effective:
        promote(effective, "gone", "r", registered(effective, trained, "gone", "r", "glm"))
    with sidecar(effective, tmp_path, ready=False, SIDECAR__PREDICTION_LOG_ROWS="200") as served:
        asking = Asking(settings.sidecar.url, trained.vectors()[0])
        with running(settings, ("postgres",), free_ports=False):
            served.await_version("gone", "r", 1, seconds=30)
            asking.start()
            kept_after(effective, "gone", 50)
        until = time.monotonic() + 20
        while outcomes(served)["dropped"] < 50:
            assert time.monotonic() < until
            time.sleep(0.1)
        with running(settings, ("postgres",), free_ports=False):
            back = outcomes(served)["written"]
            until = time.monotonic() + 20
            while outcomes(served)["written"] < back + 300:
                assert time.monotonic() < until
                time.sleep(0.1)
            asking.ended.set()
            asking.join()
            until = time.monotonic() + 10
            while sum(outcomes(served).values()) < len(asking.answered):
                assert time.monotonic() < until
                time.sleep(0.1)
            counted, found = outcomes(served), kept(effective, "gone", 1_000_000)
    assert not asking.failed
    entities = Counter(each.entity_id for each in found)
    assert set(entities.values()) == {1}, "none is kept twice"
    assert set(entities) <= set(asking.answered)
    assert counted["refused"] == 0
    assert counted["written"] == len(found)
    assert counted["written"] + counted["dropped"] == len(asking.answered)
    dropped = served.logged("predictions dropped")
    assert dropped
    assert dropped[-1]["in_all"] == counted["dropped"]
    assert served.logged("predictions wait for the database")


@pytest.mark.integration
def test_a_batch_that_is_sent_twice_stands_there_once(settings: Settings) -> None:
    line = [NOW.timestamp(), "q", "twice", "r", "*", "4", "shadow", ENTITY, None, {"a": 1.5}, 12.25, None, False]
    batch, lines = uuid4(), to_json([line, line]).decode()
    for _ in range(2):
        with connect(settings) as connection:
            add_predictions(connection, batch, lines)
    found = kept(settings, "twice")
    assert len(found) == 2, "two rows of one batch, sent twice"
    assert (found[0].prediction, found[0].probabilities, found[0].variant) == (12.25, None, "shadow")
    assert (found[0].region, found[0].model_region, found[0].asked_at) == ("r", "*", NOW)


@pytest.mark.integration
def test_it_is_written_through_pgbouncer(pooled_settings: Settings) -> None:
    migrations.apply(pooled_settings)
    use_case = f"pooled_{uuid4().hex[:8]}"
    log = PredictionLog(pooled_settings)
    log.start()
    call = Call("/v1/predict/batch")
    call.region = "r"
    log.record(call, model(use_case), rows(2_500))
    log.close()
    assert (log.written, log.dropped, len(kept(pooled_settings, use_case))) == (2_500, 0, 2_500)


@pytest.mark.integration
def test_predictions_past_their_days_are_dropped(settings: Settings) -> None:
    with connect(settings) as connection:
        for use_case, age in (("old", 91), ("old", 89), ("other", 200)):
            moment = (NOW - timedelta(days=age)).timestamp()
            line = [moment, "q", use_case, "r", "r", "1", "champion", ENTITY, None, {}, "0", {"0": 1.0}, True]
            add_predictions(connection, uuid4(), to_json([line]).decode())
        assert drop_predictions(connection, "old", 90, NOW, dry_run=True) == 1
        assert drop_predictions(connection, "old", 90, NOW) == 1
    assert [each.asked_at for each in kept(settings, "old")] == [NOW - timedelta(days=89)]
    assert len(kept(settings, "other")) == 1


def model(use_case: str, share: float = 1.0) -> Any:
    """What the log asks of a model."""

    class Version:
        log_predictions = share

    class Model:
        name = (use_case, "r", "1")
        outcome = NumberOutcome()
        version = Version

    return Model


def rows(count: int) -> list[Any]:
    return [(UUID(int=number), None, {"number": number}, [float(number)]) for number in range(count)]


def test_what_finds_the_queue_full_is_dropped_and_counted() -> None:
    settings = load_settings(sidecar={"prediction_log_rows": 100})
    log = PredictionLog(settings)
    log.record(Call("/v1/predict/batch"), model("full"), rows(70))
    log.record(Call("/v1/predict/batch"), model("full"), rows(70))
    call = Call("/v1/predict")
    call.status, call.model, call.made_of = 200, model("full"), rows(1)[0]
    log.answered(call)
    assert (log.waiting, log.dropped) == (100, 41)


def test_a_share_is_kept() -> None:
    log = PredictionLog(load_settings())
    log.record(Call("/v1/predict/batch"), model("share", 0.25), rows(10_000))
    assert 2_200 < log.waiting < 2_800  # 2,500 ± 7 standard deviations
    assert log.dropped == 0, "what is not to be kept is not dropped"


def test_a_request_that_was_not_answered_is_not_kept() -> None:
    log = PredictionLog(load_settings())
    call = Call("/v1/predict")
    call.model, call.status = model("none"), 503
    log.answered(call)
    assert log.waiting == 0


def test_a_score_is_told_as_prediction_and_probabilities() -> None:
    assert Classes(["no", "yes", "so"]).values([1.0, 0.2, 0.5, 0.3]) == ("yes", {"no": 0.2, "yes": 0.5, "so": 0.3})
    assert NumberOutcome().values([2.5, 0.0]) == (2.5, None)
