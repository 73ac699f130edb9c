"""The page of a report: well formed, with nothing outside of it, every text escaped, every plot with its data."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mage_platform.contracts import TargetKind
from mage_platform.contracts.report import Confusion, ModelReport
from mage_platform.contracts.training import DependencePoint, PartialDependence
from mage_platform.training.report.page import render
from mage_platform.training.report.scales import Scale
from mage_platform.training.report.views import OTHERS, folded, importance_panel
from tests.report_samples import a_report

KINDS: tuple[TargetKind, ...] = ("binary", "multiclass", "regression")
VOID = {"meta", "br"}
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Reads a page and notes its elements, its text and whatever is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_and_needs_nothing_else(kind: TargetKind) -> None:
    text = render(a_report(kind))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not page.faults
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href", "xlink:href", "action"})
    assert not re.search(r"https?:|url\(|@import|@font-face|javascript:|data:", text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_no_place_of_a_drawing_is_not_a_number(kind: TargetKind) -> None:
    for _, attributes in Page(render(a_report(kind))).elements:
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points"):
            assert re.fullmatch(r"[-0-9., %]*", attributes.get(name) or ""), attributes


@pytest.mark.parametrize("kind", KINDS)
def test_every_drawing_has_a_title_and_its_data_or_stands_in_the_row_of_a_table(kind: TargetKind) -> None:
    text = render(a_report(kind))
    page = Page(text)
    plots = [each for each in page.of("svg") if "viewbox" in each]
    assert len(plots) >= 2
    titles = {attributes["id"] for attributes in page.of("title") if attributes.get("id")}
    for plot in plots:
        assert plot["role"] == "img"
        assert plot["aria-labelledby"] in titles
    assert len(page.of("details")) == len(plots)
    assert all(each.get("aria-hidden") == "true" for each in page.of("svg") if "viewbox" not in each)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_shows_what_fits_the_kind_of_its_target(kind: TargetKind) -> None:
    text = "".join(Page(render(a_report(kind))).text)
    shown = {"binary": ["Reliability", "Gain"], "multiclass": ["Confusion matrix"], "regression": ["Residuals"]}
    for other, heads in shown.items():
        assert all((head in text) == (other == kind) for head in heads if head != "Gain")
    for head in ("naive baseline", "champion, version 2", "1,000 of 1,010 rows passed", "Partial dependence",
                 "Leaderboard", "GBM_1", "a" * 64):  # fmt: skip
        assert head in text


def test_the_values_of_the_page_are_those_of_the_document() -> None:
    report = a_report("binary")
    evaluation = report.decision.evaluation
    assert evaluation is not None
    text = "".join(Page(render(report)).text)
    interval = evaluation.candidate.intervals["auc"]
    assert f"{evaluation.candidate.metrics.auc:.4f}" in text  # type: ignore[union-attr]
    assert f"{interval.low:.4f} to {interval.high:.4f}" in text
    assert f"better in {evaluation.against_naive.confidence:.0%}".replace("%", "\u202f%") in text
    found = next(each for each in report.gain if each.looked_at == pytest.approx(0.1))
    assert f"{found.candidate:.1%}".replace("%", "\u202f%") in text
    assert f"{found.candidate / found.looked_at:.2f}" in text


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_comes_from_data_never_becomes_markup(kind: TargetKind) -> None:
    region = EVIL.replace("/", " ")
    report = a_report(kind, level=EVIL, title=EVIL, region=region, reason=EVIL, clauses=[])
    named = report.model.model_copy(update={"algorithm": EVIL, "target": EVIL, "run": EVIL})
    text = render(report.model_copy(update={"model": named, "description": EVIL, "positive": EVIL}))
    page = Page(text)
    assert not page.faults
    assert not page.of("script") and not page.of("img")
    assert "<script" not in text
    assert "".join(page.text).count(EVIL) >= 6
    harmless = Page(render(a_report(kind, clauses=[])))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]


def test_a_version_of_which_little_is_known_has_a_page_as_well() -> None:
    report = a_report("binary", evaluation=None, clauses=[], promoted=False, reason="is the champion already")
    bare = report.model.model_copy(update={"variable_importance": {}, "partial_dependence": [], "leaderboard": []})
    shown = report.model_copy(update={"model": bare, "validation": None, "gain": [], "observed_intervals": []})
    page = Page(render(shown))
    assert not page.faults
    assert "is the champion already" in "".join(page.text)


def test_the_most_important_feature_comes_first_whatever_order_the_database_gives() -> None:
    report = a_report("binary")
    mixed = report.model.model_copy(update={"variable_importance": {"b": 0.2, "rain": 0.5, "hour": 0.3}})
    assert [row.name for row in importance_panel(mixed).rows] == ["rain", "hour", "b"]


def test_the_document_comes_back_from_json_as_it_was() -> None:
    for kind in KINDS:
        report = a_report(kind)
        assert ModelReport.model_validate_json(report.model_dump_json()) == report


def test_a_feature_that_looks_like_numbers_stays_text() -> None:
    point = DependencePoint(value="3", means=[0.5])
    kept = PartialDependence(feature="gate", rows=1, points=[point]).model_dump_json()
    assert PartialDependence.model_validate_json(kept).points[0].value == "3"


def test_many_classes_are_folded_and_no_row_is_lost() -> None:
    names = [f"class {number:02d}" for number in range(30)]
    counts = [[(7 * row + 3 * column) % 11 for column in range(30)] for row in range(30)]
    whole = Confusion(true=names, predicted=names, rows=counts)
    small = folded(whole)
    assert small.true[-1] == small.predicted[-1] == OTHERS
    assert len(small.true) == 11
    assert sum(map(sum, small.rows)) == sum(map(sum, counts))
    place = small.true.index(next(name for name in small.true if name != OTHERS))
    assert sum(small.rows[place]) == sum(counts[names.index(small.true[place])])
    few = Confusion(true=["a", "b"], predicted=["a", "b"], rows=[[1, 2], [3, 4]])
    assert folded(few) == few


@pytest.mark.parametrize(
    ("values", "percent", "ticks"),
    [
        ([0.0, 1.0], True, ["0\u202f%", "20\u202f%", "40\u202f%", "60\u202f%", "80\u202f%", "100\u202f%"]),
        ([-3.2, 7.9], False, ["−5", "0", "5", "10"]),
        ([0.03, 0.17], True, ["0\u202f%", "5\u202f%", "10\u202f%", "15\u202f%", "20\u202f%"]),
        ([1200.0, 5200.0], False, ["1,000", "2,000", "3,000", "4,000", "5,000", "6,000"]),
        ([5.0], False, ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
    ],
)
def test_axes_have_round_ticks_that_hold_all_values(values: list[float], percent: bool, ticks: list[str]) -> None:
    scale = Scale.over(values, 0, 100, percent=percent)
    assert [tick.text for tick in scale.ticks] == ticks
    assert all(scale.low <= value <= scale.high for value in values)
    assert (scale(scale.low), scale(scale.high)) == (0, 100)
