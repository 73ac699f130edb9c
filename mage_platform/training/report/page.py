"""The page of a report: one HTML file with nothing outside of it, no script, for screen and paper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mage_platform.contracts import POOLED
from mage_platform.contracts.metrics import METRIC_TITLES
from mage_platform.contracts.report import ModelReport
from mage_platform.training.report import formats, views
from mage_platform.training.report.scales import Scale

TEMPLATES = Path(__file__).with_name("templates")


def render(report: ModelReport) -> str:
    """The page as HTML. Everything that comes from data is escaped."""
    return _environment().get_template("page.html").render(report=report, model=report.model, decision=report.decision)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "count": formats.count,
        "fixed": formats.fixed,
        "amount": formats.amount,
        "percent": formats.percent,
        "moment": formats.moment,
    }
    environment.globals |= {
        "POOLED": POOLED,
        "titles": METRIC_TITLES,
        "scale": Scale.over,
        "views": views,
    }
    return environment
