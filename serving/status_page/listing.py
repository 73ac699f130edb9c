"""The list of served models: filtered, one page of it, each line with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from mage_platform.contracts import Champion, ModelVersion
from mage_platform.contracts.metrics import METRIC_TITLES, METRICS, gain
from mage_platform.registry import report_path
from serving.status_page.formats import NONE, amount, percent
from serving.status_page.formats import count as whole
from serving.status_page.traffic import Count, Traffic

LINES = 25


@dataclass(frozen=True)
class Line:
    """A served model in the list."""

    champion: Champion
    report: str
    """Path of the version's report."""
    metric: str
    value: str
    naive: str
    gain: str
    better: bool
    """Whether it is better than the naive baseline."""
    requests: str
    milliseconds: str
    cached: str
    refused: int

    @property
    def version(self) -> ModelVersion:
        """The served version."""
        return self.champion.model


@dataclass(frozen=True)
class Listing:
    """One page of the list.

    Args:
        lines: Its models.
        found: How many the filter leaves.
        page: Its number, from 1.
        pages: How many there are.
        filter: What was searched for.
    """

    lines: list[Line]
    found: int
    page: int
    pages: int
    filter: str

    def address(self, page: int | None = None, **more: str) -> str:
        """The page's own address, of another page of the list or with another model to try."""
        query = {"q": self.filter, "page": str(page or self.page), **more}
        return "/?" + urlencode(
            {name: value for name, value in query.items() if value and (name, value) != ("page", "1")}
        )


def listing(known: Mapping[tuple[str, str], Champion], traffic: Traffic, wanted: str, page: int) -> Listing:
    """One page of the models whose use case, region or algorithm has what is wanted.

    Args:
        known: All champions, by use case and region.
        traffic: What became of their requests.
        wanted: Words, all of which must occur; upper and lower case are the same.
        page: From 1; beyond the last one it is the last.
    """
    words = wanted.casefold().split()
    keys = sorted(key for key in known if _has(words, known[key].model))
    pages = max(1, -(-len(keys) // LINES))
    page = min(max(1, page), pages)
    lines = [_line(known[key], traffic) for key in keys[(page - 1) * LINES : page * LINES]]
    return Listing(lines, len(keys), page, pages, wanted)


def _has(words: list[str], version: ModelVersion) -> bool:
    text = f"{version.use_case} {version.region} {version.algorithm}".casefold()
    return all(word in text for word in words)


def _line(champion: Champion, traffic: Traffic) -> Line:
    version = champion.model
    metric = METRICS[version.metrics.kind][0]
    ours, theirs = getattr(version.metrics, metric), getattr(version.naive_metrics, metric)
    better_by = gain(metric, ours, theirs)
    count = traffic.counts.get((version.use_case, version.region, version.version), Count())
    return Line(
        champion=champion,
        report=report_path(version.use_case, version.region, version.version),
        metric=METRIC_TITLES[metric],
        value=amount(ours),
        naive=amount(theirs),
        gain=f"{amount(abs(better_by))} {'better' if better_by > 0 else 'worse'}" if better_by else "no better",
        better=better_by > 0,
        requests=whole(count.requests) if count.requests else NONE,
        milliseconds=f"{1000 * count.seconds / count.requests:.2f}" if count.requests else NONE,
        cached=percent(count.cached / count.asked) if count.asked else NONE,
        refused=count.refused,
    )
