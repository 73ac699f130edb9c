"""What the prediction API makes of input that nobody should send: never a failure of its own, never a guess."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mage_platform.contracts import InputSchema, PredictResponse
from mage_platform.settings import Settings
from tests.serving.sidecar_process import ENTITY, SCHEMA, Sidecar, Trained, promote, registered

pytestmark = pytest.mark.integration
STRICT = InputSchema(
    columns={
        **SCHEMA.columns,
        "gate": SCHEMA.columns["gate"].model_copy(update={"unknown": "refused"}),
    }
)
VECTOR = {"month": 4, "distance": 950.5, "temperature": 8.5, "carrier": "AA", "gate": "2", "weekend": False}
VECTOR["terminals"] = 3


@pytest.fixture(scope="module")
def strict(served: Sidecar, servers: Settings, trained: Trained) -> Sidecar:
    version = registered(servers, trained, "strict", "here", "gbm", input_schema=STRICT)
    promote(servers, "strict", "here", version)
    served.await_version("strict", "here", version)
    return served


def body(features: str, **more: str) -> str:
    fields = {"use_case": '"delays"', "region": '"north"', "entity_id": f'"{ENTITY}"', "features": features, **more}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"


def post(served: Sidecar, content: str | bytes) -> httpx.Response:
    return served.client.post("/v1/predict", content=content, headers={"content-type": "application/json"})


def faults(answer: httpx.Response) -> dict[str, str]:
    return {fault["field"]: fault["message"] for fault in answer.json()["errors"]}


def test_what_was_scored_as_missing_is_told_in_the_answer(served: Sidecar) -> None:
    plain = served.predict("delays", "north", VECTOR)
    assert set(plain.json()) == {"entity_id", "prediction", "probabilities", "model", "fallback", "cached"} | (
        set(plain.json()) & {"variant", "vector"}
    )
    answer = served.predict("delays", "north", VECTOR | {"temperature": None, "carrier": "Z\x00", "gate": "77"})
    told = PredictResponse.model_validate_json(answer.content)
    assert (told.missing, told.unknown_levels) == (["temperature"], ["carrier", "gate"])
    left_out = {name: value for name, value in VECTOR.items() if name not in ("temperature", "carrier")}
    told = PredictResponse.model_validate_json(served.predict("delays", "north", left_out).content)
    assert (sorted(told.missing), told.unknown_levels) == (["carrier", "temperature"], [])
    answer = served.predict("delays", "north", VECTOR | {"carrier": "ZZ"})
    assert (
        answer.json()["probabilities"]
        == (served.predict("delays", "north", VECTOR | {"carrier": None}).json()["probabilities"])
    )


def test_a_level_the_model_does_not_know_is_refused_where_the_use_case_says_so(strict: Sidecar) -> None:
    assert strict.predict("strict", "here", VECTOR).status_code == 200
    answer = strict.predict("strict", "here", VECTOR | {"gate": "22", "month": 0})
    assert answer.status_code == 422
    found = faults(answer)
    assert found["features.month"] == "must be at least 1"
    assert found["features.gate"].startswith("must be a level the model knows: '2', ")
    assert sorted(found["features.gate"].partition(": ")[2].split(", ")) == ["'1'", "'2'", "'3'", "'4'", "'5'"]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (body(json.dumps(VECTOR), region='"north"')[:-1] + ', "region": "south"}', ["region"]),
        (body(json.dumps(VECTOR)[:-1] + ', "month": 5}'), ["features.month"]),
        (
            body(json.dumps(VECTOR)[:-1] + ', "m\\u006fnth": 5, "distance" : 1}'),
            ["features.month", "features.distance"],
        ),
        (body('{"gate": "a\\":b", "gate": "c"}'), ["features.gate"]),
        (body("null")[:-1] + ', "features": null}', ["features"]),
    ],
)
def test_a_field_given_twice_is_refused(served: Sidecar, content: str, fields: list[str]) -> None:
    answer = post(served, content)
    assert answer.status_code == 422
    assert faults(answer) == dict.fromkeys(fields, "is given more than once")


def test_colons_in_values_are_no_fields(served: Sidecar) -> None:
    features = json.dumps(VECTOR | {"carrier": 'a":b:c'})
    assert post(served, body(features, event_time='"2026-01-01T00:00:00+01:00"')).status_code == 200
    assert post(served, body(features).replace('": ', '"\n:\t')).status_code == 200


DEEP = 100_000
NASTY: dict[str, tuple[str | bytes, int]] = {
    "brackets": ("[" * DEEP, 400),
    "closed brackets": ("[" * DEEP + "]" * DEEP, 400),
    "braces": ('{"a":' * DEEP, 400),
    "a deep feature": (body('{"month": ' + "[" * DEEP + "]" * DEEP + "}"), 400),
    "a nested feature": (body('{"month": ' + "[" * 50 + "]" * 50 + "}"), 422),
    "a nested field": (body("{}", colour='{"a": ' * 50 + "1" + "}" * 50), 422),
    "not UTF-8": (body('{"gate": "é"}').encode("latin-1"), 400),
    "UTF-16": (body("{}").encode("utf-16"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + body("{}").encode(), 400),
    "an overlong NUL": (body('{"gate": "?"}').encode().replace(b"?", b"\xc0\x80"), 400),
    "a raw NUL": (body('{"gate": "\x00"}'), 400),
    "a raw newline": (body('{"gate": "\n"}'), 400),
    "a NUL": (body(json.dumps(VECTOR | {"gate": "\x00"})), 200),
    "a NUL in a name": (body(r'{"\u0000": 1}'), 422),
    "a NUL for a region": (body("{}", region=r'"\u0000"'), 422),
    "half a pair": (body(r'{"gate": "\ud800"}'), 400),
    "the other half": (body(r'{"gate": "\udc00"}'), 400),
    "a long integer": (body('{"month": ' + "9" * 4_000 + "}"), 422),
    "too long an integer": (body('{"month": ' + "9" * 500_000 + "}"), 400),
    "many digits": (body('{"distance": 0.' + "3" * 500_000 + "}"), 422),
    "a large exponent": (body('{"distance": 1e999, "month": -1e999}'), 422),
    "an endless exponent": (body('{"distance": 1e' + "9" * 10_000 + "}"), 422),
    "a small exponent": (body(json.dumps(VECTOR).replace("950.5", "1e-999")), 200),
    "minus zero": (body(json.dumps(VECTOR).replace("950.5", "-0.0")), 200),
    "NaN": (body('{"distance": NaN, "month": Infinity, "temperature": -Infinity}'), 422),
    "NaN for a body": ("NaN", 422),
    "a leading zero": (body('{"month": 01}'), 400),
    "a hexadecimal number": (body('{"month": 0x1}'), 400),
    "a comment": (body("{/* none */}"), 400),
    "a comma too many": (body('{"month": 1,}'), 400),
    "something after it": (body("{}") + "{}", 400),
    "two thousand wrong names": (body(json.dumps({f"x{number}": number for number in range(2_000)})), 422),
    "very many wrong names": (body(json.dumps({f"x{number}": number for number in range(60_000)})), 422),
    "very many wrong fields": (json.dumps({f"x{number}": number for number in range(60_000)}), 422),
    "very many equal names": (body("{" + '"month": 1, ' * 80_000 + '"month": 1}'), 422),
    "a long name": (body(json.dumps({"x" * 900_000: 1})), 422),
    "a long text": (body(json.dumps(VECTOR | {"gate": "x" * 900_000})), 200),
    "the first moment": (body("null", event_time='"0001-01-01T00:00:00+14:00"'), 404),
    "the last moment": (body("null", event_time='"9999-12-31T23:59:59-14:00"'), 404),
    "a moment after all": (body("null", event_time='"9999-12-31T24:00:00Z"'), 422),
    "a leap second": (body("null", event_time='"2016-12-31T23:59:60Z"'), 422),
    "empty names": (body('{"": 1}', colour="1"), 422),
    "no object": ('"features"', 422),
}


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_body_is_told_what_it_is(served: Sidecar, name: str) -> None:
    content, status = NASTY[name]
    answer = post(served, content)
    assert answer.status_code == status, answer.text[:500]
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 1 << 19
    assert served.client.get("/health/live").status_code == 200


def test_a_body_with_any_bytes_changed_is_never_a_failure_of_ours(served: Sidecar) -> None:
    choose = random.Random(7)
    whole = body(json.dumps(VECTOR), event_time='"2026-01-01T00:00:00Z"').encode()
    for _ in range(300):
        mangled = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            place = choose.randrange(len(mangled))
            mangled[place : place + choose.randint(0, 3)] = choose.choice(
                [bytes([choose.randrange(256)]), b'"', b"{", b"]", b",", b":", b"\\u0000", b"1e999", b"null", b""]
            )
        answer = post(served, bytes(mangled))
        assert answer.status_code in (200, 400, 404, 422), (mangled, answer.text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    request=st.dictionaries(st.sampled_from(["use_case", "region", "entity_id", "event_time", "colour"]), anything),
    features=anything | st.dictionaries(st.sampled_from([*VECTOR, "colour"]), anything),
)
def test_any_json_is_answered_or_refused_by_name(served: Sidecar, request: dict[str, Any], features: Any) -> None:
    sent = {"use_case": "delays", "region": "north", "entity_id": ENTITY, "features": features} | request
    try:
        content = json.dumps(sent).encode()
    except (ValueError, UnicodeEncodeError):
        return
    answer = post(served, content)
    assert answer.status_code in (200, 400, 404, 422), (sent, answer.text)
    if answer.status_code == 422:
        assert answer.json()["errors"]
