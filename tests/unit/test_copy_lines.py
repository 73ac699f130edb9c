"""Lines of COPY: what JSON and COPY each escape, and that no block of them grows without bound."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from mage_platform.features.copy_lines import BYTES_A_WRITE, feature_lines, label_lines, staged_lines

ENTITY = "7cf06540-e6e0-54cb-8483-c525c4b50d97"
AWKWARD = [
    "plain",
    'quo"te',
    "back\\slash",
    "tab\t",
    "new\nline",
    "return\r",
    "\\N",
    "ünï 漢字 🚲",
    "",
    "a,b",
    "%s",
    "\x01",
]


def frame(**columns: object) -> pd.DataFrame:
    rows = pd.DataFrame(columns)
    count = len(rows)
    rows["_entity_id"] = pd.Series([ENTITY] * count, dtype=object)
    rows["_event_time"] = pd.Series([pd.Timestamp("2024-03-31T01:30:00.000001+02:00")] * count)
    rows["_region"] = pd.Series(["Bern\\"] * count, dtype=object)
    rows["_label"] = pd.array([1, None] * (count // 2) + [0] * (count % 2), dtype="Int8")
    rows["_known_at"] = pd.Series([pd.Timestamp("2024-04-01", tz="UTC")] * count)
    return rows


def unescaped(field: str) -> str:
    """What COPY makes of a field in its text format, by PostgreSQL's manual."""
    known = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    characters = iter(field)
    return "".join(known[next(characters)] if each == "\\" else each for each in characters)


def fields_of(blocks: list[bytes]) -> list[list[str]]:
    return [line.split("\t") for line in b"".join(blocks).decode().splitlines(keepends=False)]


def test_a_vector_comes_back_from_its_line_as_it_was() -> None:
    values = {
        "text": pd.Series([*AWKWARD, None], dtype=object),
        "number": [0.1 + 0.2, -0.0, 1e300, 5e-324, 1.0, float("nan"), 2.5, -7e22, 3.0, 4.0, 5.0, 6.0, 7.0],
        "count": pd.array([2**53, None, *range(11)], dtype="Int64"),
        "wet": pd.array([True, False, None, *[True] * 10], dtype="boolean"),
        'odd "name"\t%s': [float(number) for number in range(13)],
    }
    names = list(values)
    lines = fields_of(list(feature_lines(frame(**values), names, "rides")))
    assert [line[:3] + line[4:] for line in lines] == [
        [ENTITY, "2024-03-30 23:30:00.000001Z", "Bern\\\\", "rides"]
    ] * 13
    vectors = [json.loads(unescaped(line[3])) for line in lines]
    assert [vector["text"] for vector in vectors] == [*AWKWARD, None]
    assert [vector["number"] for vector in vectors[:5]] == values["number"][:5]
    assert vectors[5]["number"] is None
    assert [vector["count"] for vector in vectors] == [2**53, None, *range(11)]
    assert [vector["wet"] for vector in vectors[:3]] == [True, False, None]
    assert [vector['odd "name"\t%s'] for vector in vectors] == list(range(13))
    assert list(vectors[0]) == names


def test_labels_travel_with_the_moment_at_which_they_became_known_or_both_are_missing() -> None:
    rows = frame(number=[1.0, 2.0, 3.0])
    staged = fields_of(list(staged_lines(rows, ["number"])))
    known = "2024-04-01 00:00:00.000000Z"
    assert [line[4:] for line in staged] == [[known, "1"], ["\\N", "\\N"], [known, "0"]]
    assert [line[3:] for line in fields_of(list(label_lines(rows, "rides")))] == [
        [known, "1", "rides"],
        [known, "0", "rides"],
    ]
    assert list(label_lines(rows.iloc[1:2], "rides")) == []


@pytest.mark.parametrize("text", ["x" * 900_000, "\x01" * 900_000])
def test_blocks_of_long_vectors_stay_small(text: str) -> None:
    blocks = list(feature_lines(frame(text=pd.Series([text] * 60, dtype=object)), ["text"], "rides"))
    assert max(map(len, blocks)) <= BYTES_A_WRITE
    assert sum(block.count(b"\n") for block in blocks) == 60
