"""What the plots of a page draw, row by row: values, places and texts. The templates only set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mage_platform.contracts import Evaluation, ModelVersion
from mage_platform.contracts.evaluation import Compared, Evaluated, Interval
from mage_platform.contracts.metrics import LESS_IS_BETTER, METRIC_TITLES, METRICS, Metric
from mage_platform.contracts.report import Confusion
from mage_platform.contracts.training import PartialDependence
from mage_platform.training.report.formats import amount, decimals_of, fixed, percent
from mage_platform.training.report.scales import Scale

START, END = 5.0, 95.0
"""Percents of the width between which a row of a table draws."""
PLOT_CLASSES, MATRIX_CLASSES, IMPORTANCES = 4, 10, 15
OTHERS = "(all others)"


@dataclass(frozen=True)
class Row:
    """One way to predict, or one level: a value with its interval, beside another value where there is one."""

    name: str
    style: str
    text: str
    value: float | None
    interval: Interval | None = None
    interval_text: str = ""
    other: float | None = None
    other_text: str = ""
    rows: int = 0


@dataclass(frozen=True)
class Panel:
    """Rows on one scale."""

    title: str
    note: str
    scale: Scale
    rows: list[Row]
    decides: bool = False


def ways(evaluation: Evaluation) -> list[tuple[str, str, Evaluated]]:
    """Every way to predict with its name and style, the candidate first."""
    champion = f"champion, version {evaluation.champion_version}"
    known = [
        ("this version", "model", evaluation.candidate),
        ("naive baseline", "naive", evaluation.naive),
        (champion, "champion", evaluation.champion),
        ("pooled model", "pooled", evaluation.pooled),
    ]
    return [(name, style, each) for name, style, each in known if each is not None]


def gain_panel(evaluation: Evaluation) -> Panel:
    """The deciding metric against each other way to predict, in the order of `ways`; positive is better."""
    known: dict[str, Compared | None] = {
        "naive": evaluation.against_naive,
        "champion": evaluation.against_champion,
        "pooled": evaluation.against_pooled,
    }
    decimals = deciding_decimals(evaluation)
    rows = []
    for name, style, _ in ways(evaluation):
        compared = known.get(style)
        if compared is not None:
            text, range_text = (fixed(compared.gain, decimals, sign=True), interval_text(compared.interval, decimals))
            sure = percent(compared.confidence, 0)
            rows.append(Row(name, style, text, compared.gain, compared.interval, range_text, other_text=sure))
    ends = [end for row in rows if row.interval for end in (row.interval.low, row.interval.high)]
    scale = Scale.over([0.0, *ends, *(row.value for row in rows)], START, END, most_ticks=4, rounded=False)
    return Panel(f"gain in {METRIC_TITLES[evaluation.metric]}", "", scale, rows)


def direction(metric: Metric) -> str:
    """Which way of a metric is better."""
    return "lower is better" if metric in LESS_IS_BETTER else "higher is better"


def metric_panels(evaluation: Evaluation) -> list[Panel]:
    """One panel for each metric, the deciding one first."""
    metrics = METRICS[evaluation.candidate.metrics.kind]
    ordered = sorted(metrics, key=lambda metric: metric != evaluation.metric)
    return [_metric_panel(evaluation, metric) for metric in ordered]


def _metric_panel(evaluation: Evaluation, metric: Metric) -> Panel:
    values = [getattr(each.metrics, metric) for _, _, each in ways(evaluation)]
    decimals = decimals_of(metric, values)
    rows = []
    for (name, style, each), value in zip(ways(evaluation), values, strict=True):
        interval = each.intervals.get(metric)
        rows.append(Row(name, style, fixed(value, decimals), value, interval, interval_text(interval, decimals)))
    ends = [end for row in rows if row.interval for end in (row.interval.low, row.interval.high)]
    scale = Scale.over([*values, *ends], START, END, most_ticks=4, rounded=False)
    return Panel(METRIC_TITLES[metric], direction(metric), scale, rows, metric == evaluation.metric)


def interval_text(interval: Interval | None, decimals: int) -> str:
    """Both ends; nothing where there is no interval."""
    if interval is None:
        return ""
    return f"{fixed(interval.low, decimals)} to {fixed(interval.high, decimals)}"


def deciding_decimals(evaluation: Evaluation) -> int:
    """Decimals of the deciding metric, for all its values on the page."""
    return decimals_of(evaluation.metric, [getattr(each.metrics, evaluation.metric) for _, _, each in ways(evaluation)])


def slice_panels(evaluation: Evaluation) -> list[Panel]:
    """One panel for each feature, all on one scale."""
    decimals = deciding_decimals(evaluation)
    values = [value for each in evaluation.slices for value in (each.value, each.naive_value)]
    scale = Scale.over(values, START, END, most_ticks=4, rounded=False)
    panels = []
    for feature, levels in groupby(evaluation.slices, key=lambda each: each.feature):
        rows = [
            Row(
                each.level, "model", _or_dash(each.value, decimals), each.value,
                other=each.naive_value, other_text=_or_dash(each.naive_value, decimals), rows=each.rows,
            )
            for each in levels
        ]  # fmt: skip
        panels.append(Panel(feature, METRIC_TITLES[evaluation.metric], scale, rows))
    return panels


def _or_dash(value: float | None, decimals: int) -> str:
    return "–" if value is None else fixed(value, decimals)


def importance_panel(model: ModelVersion) -> Panel:
    """The most important features, as shares."""
    # sorted anew: JSONB keeps no order of keys
    shares = sorted(model.variable_importance.items(), key=lambda each: -each[1])
    scale = Scale.over([0.0, *(share for _, share in shares)], 0.0, END, most_ticks=4, percent=True)
    rows = [Row(name, "model", fixed(100 * share, 1), share) for name, share in shares[:IMPORTANCES]]
    return Panel("variable importance", "", scale, rows)


@dataclass(frozen=True)
class Series:
    """One line of a dependence plot."""

    name: str
    style: str
    values: list[float]


@dataclass(frozen=True)
class DependencePanel:
    """The mean prediction over one feature."""

    dependence: PartialDependence
    description: str
    is_number: bool
    texts: list[str]
    series: list[Series]


def dependence_panels(model: ModelVersion) -> list[DependencePanel]:
    """One panel for each feature whose dependence is known; of many classes only the most frequent ones are drawn."""
    panels = []
    for each in model.partial_dependence:
        column = model.input_schema.columns.get(each.feature)
        values = [point.value for point in each.points]
        texts = [value if isinstance(value, str) else amount(value) for value in values]
        is_number = not any(isinstance(value, str) for value in values)
        drawn = _drawn_classes(model, each.classes)
        series = [
            Series(name, f"series{number}", [point.means[place] for point in each.points])
            for number, (place, name) in enumerate(drawn)
        ]
        panels.append(DependencePanel(each, column.description if column else "", is_number, texts, series))
    return panels


def _drawn_classes(model: ModelVersion, classes: Sequence[str]) -> list[tuple[int, str]]:
    if not classes:
        return [(0, "")]
    shares = model.metrics.class_shares if model.metrics.kind == "multiclass" else {}
    frequent = sorted(range(len(classes)), key=lambda place: -shares.get(classes[place], 0.0))[:PLOT_CLASSES]
    return [(place, classes[place]) for place in sorted(frequent)]


def folded(confusion: Confusion) -> Confusion:
    """The same with rare classes put together, so that the matrix stays legible."""
    if max(len(confusion.true), len(confusion.predicted)) <= MATRIX_CLASSES + 1:
        return confusion
    weights = {name: sum(row) for name, row in zip(confusion.true, confusion.rows, strict=True)}
    kept = sorted(confusion.predicted, key=lambda name: -weights.get(name, 0))[:MATRIX_CLASSES]
    names = [name for name in confusion.predicted if name in kept] + [OTHERS]
    places = {name: names.index(name if name in kept else OTHERS) for name in [*confusion.true, *confusion.predicted]}
    rows = [[0] * len(names) for _ in names]
    for true, row in zip(confusion.true, confusion.rows, strict=True):
        for predicted, number in zip(confusion.predicted, row, strict=True):
            rows[places[true]][places[predicted]] += number
    return Confusion(true=names, predicted=names, rows=rows)
