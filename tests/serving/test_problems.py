"""Problem details: every error of the platform has its line in the table."""

from __future__ import annotations

import json

import pytest

from mage_platform import errors
from serving.encoding import Fault, VectorRefused
from serving.problems import TABLE, problem_of


def families() -> list[type[errors.PlatformError]]:
    found, todo = [], [errors.PlatformError]
    while todo:
        kinds = todo.pop().__subclasses__()
        found += kinds
        todo += kinds
    return [kind for kind in found if kind.__module__ == "mage_platform.errors"]


@pytest.mark.parametrize("kind", families(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_family(kind: type[errors.PlatformError]) -> None:
    status, _, body = problem_of(kind("what happened"))
    expected = {errors.ContractViolated: {422}, errors.NotFound: {404}, errors.Unavailable: {503}}
    family = next(family for family in expected if issubclass(kind, family))
    assert status in expected[family]
    problem = json.loads(body)
    assert (problem["status"], problem["detail"]) == (status, "what happened")


def test_no_line_of_the_table_is_hidden_by_one_before_it() -> None:
    for at, (kind, *_) in enumerate(TABLE):
        assert not any(issubclass(kind, before) for before, *_ in TABLE[:at])


def test_an_error_that_is_not_ours_gives_nothing_away() -> None:
    status, _, body = problem_of(RuntimeError("password=hunter2"))
    assert status == 500
    assert b"hunter2" not in body
    assert b"Traceback" not in body


def test_values_are_echoed_as_json_and_never_at_length() -> None:
    values = [float("nan"), float("inf"), 10**30, "x" * 1000, {"a": [1]}, None, True, 1.5]
    error = VectorRefused([Fault("features.x", "is wrong", value) for value in values])
    echoed = [fault["value"] for fault in json.loads(problem_of(error)[2])["errors"]]
    assert echoed == ["nan", "inf", "1" + "0" * 30, "x" * 199 + "…", "{'a': [1]}", None, True, 1.5]
