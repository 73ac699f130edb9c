"""Batches: rows, columns and Arrow streams, beside single requests and H2O's own predictions."""

from __future__ import annotations

import json
import random
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from psycopg.types.json import Jsonb

from mage_platform.contracts import POOLED, PredictBatchResponse, PredictColumnsResponse
from mage_platform.database import connect
from mage_platform.local.ports import free_port
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, Sidecar, Trained, promote, registered, sidecar

pytestmark = pytest.mark.integration
MODELS = ("gbm", "glm", "xgboost", "three_classes", "number")
FEATURES = ("month", "distance", "temperature", "carrier", "gate", "weekend", "terminals")
ARROW = "application/vnd.apache.arrow.stream"
PATH = "/v1/predict/batch"
MAXIMUM_ROWS = 3_000


def on_a_port_of_its_own(settings: Settings) -> Settings:
    return settings.model_copy(update={"sidecar": settings.sidecar.model_copy(update={"port": free_port()})})


@pytest.fixture(scope="module")
def served(servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    for model in MODELS:
        promote(servers, f"batch_{model}", "north", registered(servers, trained, f"batch_{model}", "north", model))
    aged = registered(servers, trained, "batch_aged", "north", "gbm", maximum_vector_age_seconds=3600)
    promote(servers, "batch_aged", "north", aged)
    default = {"default_features": trained.vectors()[8]}
    promote(servers, "batch_default", "north", registered(servers, trained, "batch_default", "north", "gbm", **default))
    pooled = registered(servers, trained, "batch_pooled", POOLED, "gbm", region_feature="carrier")
    promote(servers, "batch_pooled", POOLED, pooled)
    folder, more = tmp_path_factory.mktemp("batch"), {"SIDECAR__BATCH_MIB": "1"}
    with sidecar(on_a_port_of_its_own(servers), folder, SIDECAR__BATCH_ROWS=str(MAXIMUM_ROWS), **more) as running:
        running.await_version("batch_pooled", POOLED, 1)
        yield running


def columns_of(vectors: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [vector[name] for vector in vectors] for name in vectors[0]}


def rows_of(vectors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"entity_id": ENTITY, "features": vector} for vector in vectors]


def send(served: Sidecar, use_case: str, region: str = "north", **body: Any) -> httpx.Response:
    return served.client.post(PATH, json={"use_case": use_case, "region": region, **body})


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return bytes(sink.getvalue())


def send_arrow(served: Sidecar, use_case: str, table: pa.Table, accept: str = "*/*", **query: str) -> httpx.Response:
    return served.client.post(
        PATH,
        content=stream(table),
        headers={"content-type": ARROW, "accept": accept},
        params={"use_case": use_case, "region": "north", **query},
    )


def answers_of_columns(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    read = PredictColumnsResponse.model_validate_json(answer.content)
    return [
        {
            "prediction": prediction,
            "probabilities": read.probabilities
            and {label: values[row] for label, values in read.probabilities.items()},
        }
        for row, prediction in enumerate(read.predictions)
    ]


def answers_of_rows(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    read = PredictBatchResponse.model_validate_json(answer.content)
    return [{"prediction": row.prediction, "probabilities": row.probabilities} for row in read.rows]


def answers_of_arrow(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    labels = [name.removeprefix("probability.") for name in table.column_names if name.startswith("probability.")]
    return [
        {
            "prediction": row["prediction"],
            "probabilities": {label: row[f"probability.{label}"] for label in labels} if labels else None,
        }
        for row in table.to_pylist()
    ]


def faults(answer: httpx.Response) -> dict[str, tuple[str, Any]]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return {fault["field"]: (fault["message"], fault["value"]) for fault in answer.json()["errors"]}


@pytest.mark.parametrize("model", MODELS)
def test_every_form_answers_as_h2o_does_to_the_last_bit(served: Sidecar, trained: Trained, model: str) -> None:
    vectors, expected = trained.vectors(), trained.predictions(model)
    use_case, table = f"batch_{model}", pa.Table.from_pylist(vectors)
    assert answers_of_rows(send(served, use_case, rows=rows_of(vectors))) == expected
    assert answers_of_columns(send(served, use_case, columns=columns_of(vectors))) == expected
    assert answers_of_columns(send_arrow(served, use_case, table)) == expected
    assert answers_of_arrow(send_arrow(served, use_case, table, accept=f"application/json;q=0.5, {ARROW}")) == expected


@pytest.mark.parametrize("model", MODELS)
def test_every_form_answers_as_single_requests_do(served: Sidecar, trained: Trained, model: str) -> None:
    vector = {**trained.vectors()[40], "temperature": 3.5, "carrier": "AA"}
    odd = {
        "month": [1, 12, 1.0, 12.0],
        "distance": [0, 6000, -0.0, 6000.0, 0.1, 1e-300],
        "temperature": [None, -0.0, 0, 1e308, -7],
        "carrier": [None, "ZZ", "", "UA"],
        "gate": ["1", "5", "99"],
        "weekend": [True, False],
        "terminals": [3, 3.0, -3],
    }
    vectors = [vector | {name: value} for name, values in odd.items() for value in values]
    use_case = f"batch_{model}"
    single = [served.predict(use_case, "north", each).json() for each in vectors]
    expected = [{"prediction": one["prediction"], "probabilities": one["probabilities"]} for one in single]
    assert answers_of_rows(send(served, use_case, rows=rows_of(vectors))) == expected
    assert answers_of_columns(send(served, use_case, columns=columns_of(vectors))) == expected
    table = pa.table({name: pa.array(list(map(as_arrow, column))) for name, column in columns_of(vectors).items()})
    assert answers_of_arrow(send_arrow(served, use_case, table, accept=ARROW)) == expected
    compact = table.set_column(3, "carrier", table["carrier"].dictionary_encode())
    assert answers_of_arrow(send_arrow(served, use_case, compact, accept=ARROW)) == expected


def as_arrow(value: Any) -> Any:
    """A column of a stream has one type."""
    return float(value) if type(value) is int else value


def test_what_holds_for_the_whole_batch_is_said_once(served: Sidecar, trained: Trained) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    vectors = trained.vectors()[:3]
    rows = [{"entity_id": one, "features": vector} for one, vector in zip(ids, vectors, strict=True)]
    by_rows = send(served, "batch_gbm", rows=rows).json()
    assert [row["entity_id"] for row in by_rows["rows"]] == ids
    by_columns = send(served, "batch_gbm", columns=columns_of(vectors), entity_ids=ids).json()
    assert by_columns["entity_ids"] == ids
    table = pa.Table.from_pylist(vectors).append_column("entity_id", pa.array(ids))
    read = pa.ipc.open_stream(send_arrow(served, "batch_gbm", table, accept=ARROW).content).read_all()
    assert read["entity_id"].to_pylist() == ids
    model = {"use_case": "batch_gbm", "region": "north", "version": 1, "algorithm": "gbm"}
    assert by_rows["model"] == by_columns["model"] == json.loads(read.schema.metadata[b"model"]) == model
    assert (by_rows["fallback"], by_rows["faulty"], by_rows["errors"]) == (False, 0, [])


def test_the_order_of_the_fields_does_not_matter(served: Sidecar, trained: Trained) -> None:
    vectors, expected = trained.vectors()[:50], trained.predictions("gbm")[:50]
    ids = [ENTITY] * 50
    fields = {"use_case": "batch_gbm", "region": "north", "columns": columns_of(vectors), "entity_ids": ids}
    for seed in range(6):
        order = random.Random(seed).sample(list(fields), len(fields))
        answer = served.client.post(PATH, json={name: fields[name] for name in order})
        assert answers_of_columns(answer) == expected, order


def test_every_faulty_row_is_named_and_nothing_is_scored(served: Sidecar, trained: Trained) -> None:
    vectors = trained.vectors()[:30]
    vectors[17] = vectors[17] | {"month": 13}
    vectors[20] = vectors[20] | {"weekend": 1, "distance": "7"}
    expected = {
        "17.features.month": ("must be at most 12", 13),
        "20.features.distance": ("must be a number", "7"),
        "20.features.weekend": ("must be true or false", 1),
    }
    by_rows = send(served, "batch_gbm", rows=rows_of(vectors))
    assert by_rows.status_code == 422
    assert faults(by_rows) == {f"rows.{place}": fault for place, fault in expected.items()}
    assert by_rows.json()["detail"].startswith("rows.17.features.month must be at most 12; nothing was scored, 2 of 30")
    by_columns = send(served, "batch_gbm", columns=columns_of(vectors))
    in_columns = {f"columns.{place.split('.')[2]}.{place.split('.')[0]}": fault for place, fault in expected.items()}
    assert faults(by_columns) == in_columns


def test_faulty_rows_are_reported_where_the_caller_wants_that(served: Sidecar, trained: Trained) -> None:
    vectors, expected = trained.vectors()[:30], trained.predictions("gbm")[:30]
    vectors[17] = vectors[17] | {"month": 13}
    expected[17] = {"prediction": None, "probabilities": None}
    by_rows = send(served, "batch_gbm", rows=rows_of(vectors), on_error="report")
    assert answers_of_rows(by_rows) == expected
    told = {"row": 17, "field": "rows.17.features.month", "message": "must be at most 12", "value": 13}
    assert (by_rows.json()["faulty"], by_rows.json()["errors"]) == (1, [told])
    expected[17] = {"prediction": None, "probabilities": {"0": None, "1": None}}
    by_columns = send(served, "batch_gbm", columns=columns_of(vectors), on_error="report")
    assert answers_of_columns(by_columns) == expected
    assert by_columns.json()["errors"] == [told | {"field": "columns.month.17"}]
    by_arrow = send_arrow(served, "batch_gbm", pa.Table.from_pylist(vectors), accept=ARROW, on_error="report")
    assert answers_of_arrow(by_arrow) == expected


def test_all_rows_may_be_faulty_and_the_answer_stays_short(served: Sidecar, trained: Trained) -> None:
    vectors = [vector | {"month": 0} for vector in trained.vectors()[:1200]]
    refused = send(served, "batch_gbm", rows=rows_of(vectors))
    assert len(refused.json()["errors"]) == 1000
    assert "1200 of 1200 rows are faulty" in refused.json()["detail"]
    reported = send(served, "batch_gbm", columns=columns_of(vectors), on_error="report").json()
    assert (reported["faulty"], len(reported["errors"]), set(reported["predictions"])) == (1200, 1000, {None})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(served: Sidecar, trained: Trained, number: str) -> None:
    columns = columns_of(trained.vectors()[:2]) | {"distance": ["@", 1]}
    body = json.dumps({"use_case": "batch_gbm", "region": "north", "columns": columns}).replace('"@"', number)
    answer = served.client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert faults(answer)["columns.distance.0"][0] == "must be finite"
    table = pa.Table.from_pylist(trained.vectors()[:2])
    table = table.set_column(1, "distance", pa.array([float(number), None]))
    named = {"columns.distance.0": "must be finite", "columns.distance.1": "must not be null"}
    assert {field: rule for field, (rule, _) in faults(send_arrow(served, "batch_gbm", table)).items()} == named


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"rows": []}, "rows", "must hold at least one row"),
        ({"columns": {}}, "columns.month", "is missing"),
        ({"columns": {"month": [1], "distance": [1, 2]}}, "columns.distance", "must hold as many values as"),
        ({"columns": {"month": 1}}, "columns.month", "must be a list of values"),
        ({"columns": {"tail": [1]}}, "columns.tail", "is not a feature of this model"),
        ({"columns": [1]}, "columns", "must be an object of lists"),
        ({"rows": {"a": 1}}, "rows", "must be a list"),
        ({"rows": [1]}, "rows.0", "must be an object"),
        ({"rows": [{"entity_id": "x"}]}, "rows.0.entity_id", "must be a UUID"),
        ({"rows": [{"entity_id": ENTITY, "features": {}, "tail": 1}]}, "rows.0.tail", "is not a field of this request"),
        ({"rows": [{"entity_id": ENTITY, "features": {"month": [1]}}]}, "rows.0.features.month", "must be a whole"),
        ({"entity_ids": []}, "entity_ids", "must hold at least one entity"),
        ({"entity_ids": ["x"]}, "entity_ids.0", "must be a UUID"),
        ({"tail": [1]}, "tail", "is not a field of this request"),
        ({}, "rows", "is missing"),
        ({"rows": None}, "rows", "is missing"),
        ({"on_error": "skip", "rows": []}, "on_error", "must be"),
        ({"rows": [{"entity_id": ENTITY}], "columns": {}}, "columns", "must be left out beside rows"),
    ],
)
def test_json_that_is_no_batch_is_refused_by_name(served: Sidecar, change: Any, field: str, rule: str) -> None:
    answer = send(served, "batch_gbm", **change)
    assert answer.status_code == 422, answer.text
    assert faults(answer)[field][0].startswith(rule), answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"use_case":"batch_gbm","region":"north","rows":[{},]}', b"\xff"])
def test_a_body_that_is_no_json_is_a_400(served: Sidecar, body: bytes) -> None:
    answer = served.client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text


def test_an_arrow_stream_is_held_against_the_same_rules(served: Sidecar, trained: Trained) -> None:
    table = pa.Table.from_pylist(trained.vectors()[:5])
    assert served.client.post(PATH, content=b"x", headers={"content-type": ARROW}).status_code == 422
    query = {"use_case": "batch_gbm", "region": "north"}
    broken = served.client.post(PATH, params=query, content=b"ARROW1", headers={"content-type": ARROW})
    assert broken.status_code == 400
    assert faults(send_arrow(served, "batch_gbm", table.drop_columns("month")))["columns.month"] == ("is missing", None)
    decimal = table.set_column(1, "distance", pa.array([1] * 5, pa.decimal128(6, 2)))
    assert faults(send_arrow(served, "batch_gbm", decimal))["columns.distance"][1] == "Arrow decimal128(6, 2)"
    table = table.append_column("entity_id", pa.array([1] * 5))
    assert faults(send_arrow(served, "batch_gbm", table))["entity_ids"][0] == "must be a column of text"
    other = served.client.post(PATH, content=b"a,b", headers={"content-type": "text/csv"})
    assert other.status_code == 415


def test_more_rows_or_bytes_than_allowed_are_a_413(served: Sidecar, trained: Trained) -> None:
    vectors = (trained.vectors() * 3)[: MAXIMUM_ROWS + 1]
    narrow = pa.Table.from_pylist(vectors)
    assert send_arrow(served, "batch_gbm", narrow.slice(0, MAXIMUM_ROWS)).status_code == 200
    for answer in (
        send_arrow(served, "batch_gbm", narrow),
        send(served, "batch_gbm", columns=columns_of(vectors)),
        send(served, "batch_gbm", entity_ids=[ENTITY] * (MAXIMUM_ROWS + 1)),
    ):
        assert answer.status_code == 413
        assert "at most 3000 rows" in answer.json()["detail"]
    long = served.client.post(PATH, content=b" " * ((1 << 20) + 1), headers={"content-type": "application/json"})
    assert (long.status_code, "1048576 bytes" in long.text) == (413, True)


def test_more_than_may_be_under_way_is_told_to_come_again(served: Sidecar, trained: Trained) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {1 << 20}\r\n\r\n"
    columns = columns_of(trained.vectors()[:2])
    address = ("127.0.0.1", served.settings.sidecar.port)
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        for connection in (first, second):
            connection.sendall(head.encode() + b"{")  # the rest does not come
        answer = await_status(503, served, columns)
        assert answer.headers["retry-after"] == "1"
        assert "2 such requests with 2097152 bytes are under way" in answer.json()["detail"]
        assert served.predict("batch_gbm", "north", trained.vectors()[0]).status_code == 200
    assert answers_of_columns(await_status(200, served, columns)) == trained.predictions("gbm")[:2]


def await_status(status: int, served: Sidecar, columns: dict[str, list[Any]]) -> httpx.Response:
    until = time.monotonic() + 10
    while (answer := send(served, "batch_gbm", columns=columns)).status_code != status:
        assert time.monotonic() < until, answer.text
        time.sleep(0.05)
    return answer


def store(settings: Settings, use_case: str, entity: uuid.UUID, moment: datetime, vector: dict[str, Any]) -> None:
    with connect(settings) as connection:
        connection.execute(
            "INSERT INTO platform.features (entity_id, event_time, feature_vector, use_case, region) "
            "VALUES (%s, %s, %s, %s, 'north')",
            [entity, moment, Jsonb(vector), use_case],
        )


def test_rows_without_features_take_the_newest_stored_vector(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    start, entities = datetime(2026, 5, 1, tzinfo=UTC), [uuid.uuid4() for _ in range(40)]
    vectors, predictions = trained.vectors(), trained.predictions("gbm")
    for place, entity in enumerate(entities):
        store(servers, "batch_gbm", entity, start, vectors[place])
        store(servers, "batch_gbm", entity, start + timedelta(days=1), vectors[place + 100])
    ids = [str(entity) for entity in entities]
    newest = predictions[100:140]
    assert answers_of_columns(send(served, "batch_gbm", entity_ids=ids)) == newest
    rows = [{"entity_id": one} for one in ids]
    rows[3]["event_time"] = (start + timedelta(hours=5)).isoformat()
    rows[5] |= {"features": vectors[7]}
    mixed = [*newest[:3], predictions[3], newest[4], predictions[7], *newest[6:]]
    assert answers_of_rows(send(served, "batch_gbm", rows=rows)) == mixed
    table = pa.table({"entity_id": ids})
    assert answers_of_arrow(send_arrow(served, "batch_gbm", table, accept=ARROW)) == newest

    unknown = str(uuid.uuid4())
    rows[9] = {"entity_id": unknown}
    rows[11]["event_time"] = (start - timedelta(days=1)).isoformat()
    answer = send(served, "batch_gbm", rows=rows)
    assert (answer.status_code, set(faults(answer))) == (422, {"rows.9.entity_id", "rows.11.entity_id"})
    assert faults(answer)["rows.9.entity_id"] == ("has no stored feature vector", unknown)
    reported = send(served, "batch_gbm", entity_ids=[*ids, unknown], on_error="report")
    assert answers_of_columns(reported)[:40] == newest
    assert reported.json()["errors"][0]["field"] == "entity_ids.40"


def test_stored_vectors_that_are_too_old_or_do_not_fit_are_named(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    old, wrong = uuid.uuid4(), uuid.uuid4()
    store(servers, "batch_aged", old, datetime(2026, 1, 1, tzinfo=UTC), trained.vectors()[0])
    store(servers, "batch_aged", wrong, datetime.now(UTC), trained.vectors()[0] | {"month": 99})
    found = faults(send(served, "batch_aged", entity_ids=[str(old), str(wrong)]))
    assert found["entity_ids.0"][0] == "has no stored feature vector of the last 3600 seconds"
    assert "features.month must be at most 12" in found["entity_ids.1"][0]


def test_overrides_replace_features_and_the_default_stands_in_for_what_is_missing(
    served: Sidecar, servers: Settings, trained: Trained
) -> None:
    vectors, expected = trained.vectors(), trained.predictions("gbm")
    stored = uuid.uuid4()
    store(servers, "batch_default", stored, datetime.now(UTC), vectors[3] | {"month": 1, "gate": "2"})
    overrides = {"month": vectors[3]["month"], "gate": vectors[3]["gate"]}
    rows = [{"entity_id": str(stored), "overrides": overrides}, {"entity_id": str(uuid.uuid4())}]
    answer = send(served, "batch_default", rows=rows)
    assert answers_of_rows(answer) == [expected[3], expected[8]]
    assert answer.json()["defaulted"] == 1
    rows[0]["overrides"] = {"month": 13}
    assert faults(send(served, "batch_default", rows=rows)) == {"rows.0.overrides.month": ("must be at most 12", 13)}
    rows[0]["features"] = vectors[3]
    found = faults(send(served, "batch_default", rows=rows))
    assert found["rows.0.overrides"][0] == "cannot stand beside `features`"


def test_a_key_that_stands_twice_in_a_row_is_refused(served: Sidecar) -> None:
    row = f'{{"entity_id":"{ENTITY}","features":{{"month":1,"month":2}}}}'
    head = '{"use_case":"batch_gbm","region":"north","rows":['
    body, headers = f"{head}{row}]}}", {"content-type": "application/json"}
    answer = served.client.post(PATH, content=body, headers=headers)
    assert faults(answer)["rows.0.features.month"][0] == "is given more than once"


def test_the_pooled_model_takes_the_region_of_the_batch(served: Sidecar, trained: Trained) -> None:
    pairs = [pair for pair in zip(trained.vectors(), trained.predictions("gbm"), strict=True) if pair[0]["carrier"]]
    chosen = [pair for pair in pairs if pair[0]["carrier"] == "UA"][:50]
    vectors = [{name: value for name, value in vector.items() if name != "carrier"} for vector, _ in chosen]
    expected = [answer for _, answer in chosen]
    by_rows = send(served, "batch_pooled", region="UA", rows=rows_of(vectors))
    assert answers_of_rows(by_rows) == expected
    assert by_rows.json()["fallback"] is True
    assert answers_of_columns(send(served, "batch_pooled", region="UA", columns=columns_of(vectors))) == expected
    twice = send(served, "batch_pooled", region="UA", columns=columns_of([vector for vector, _ in chosen]))
    assert faults(twice)["columns.carrier"][0] == "is the region, which the request names"


def test_batches_use_the_cache_where_it_is_always_asked(
    servers: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> None:
    version = registered(servers, trained, "batch_cached", "north", "gbm")
    promote(servers, "batch_cached", "north", version)
    vectors, expected = trained.vectors()[:400], trained.predictions("gbm")[:400]
    with sidecar(
        on_a_port_of_its_own(servers), tmp_path_factory.mktemp("cached"), SIDECAR__PREDICTION_CACHE="always"
    ) as running:
        running.await_version("batch_cached", "north", version)
        kept = []
        until = time.monotonic() + 20
        while time.monotonic() < until:  # Redis is left out for a while after slow moments
            answer = send(running, "batch_cached", columns=columns_of(vectors))
            assert answers_of_columns(answer) == expected
            kept.append(answer.json()["cached"])
            if kept[-1] == len(vectors):
                break
            time.sleep(0.05)
    assert (kept[0], kept[-1]) == (0, len(vectors))


def test_many_batches_and_single_requests_at_once_are_all_answered_right(served: Sidecar, trained: Trained) -> None:
    vectors, expected = trained.vectors(), trained.predictions("gbm")

    def batch(number: int) -> bool:
        part = slice(number * 100, number * 100 + 400)
        answer = send(served, "batch_gbm", columns=columns_of(vectors[part]))
        return answer.status_code == 503 or answers_of_columns(answer) == expected[part]

    def single(number: int) -> bool:
        return bool(
            served.predict("batch_gbm", "north", vectors[number]).json()["probabilities"]
            == expected[number]["probabilities"]
        )

    with ThreadPoolExecutor(12) as pool:
        done = [*pool.map(batch, range(11)), *pool.map(single, range(200))]
    assert all(done)


def test_the_documentation_names_the_batch(served: Sidecar) -> None:
    document = served.client.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", ARROW}
    assert {"PredictBatchRequest", "PredictBatchResponse", "PredictColumnsResponse"} <= set(
        document["components"]["schemas"]
    )
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for name, example in examples.items():
        answer = served.client.post(PATH, json=example["value"])
        # nothing is stored for the example's entity
        assert answer.status_code == (422 if name == "entities" else 200), answer.text
    assert "application/problem+json" in operation["responses"]["422"]["content"]
