"""Which column plays which part: event time, target, entity, region. What cannot be known is said to be unsure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from mage_platform.contracts import POOLED, TargetKind
from mage_platform.contracts.strict import FieldError
from mage_platform.proposal.columns import Profile

_TARGET_NAMES = ("target", "label", "y", "outcome", "class", "response")
_LATER_NAME = re.compile(r"birth|born|updat|modif|delet|expir|valid|load|ingest|import|due|until|end", re.IGNORECASE)
_REGION_NAME = re.compile(
    r"region|country|city|site|store|market|segment|area|branch|airport|origin|location|state|zone|plant|district"
    r"|land|stadt|filiale|standort",
    re.IGNORECASE,
)
_YES = {"yes": "no", "y": "n", "true": "false", "t": "f", "1": "0", "on": "off", "positive": "negative", "pos": "neg"}
_MOST_CLASSES, _MOST_REGIONS, _ROWS_A_REGION, _BAD_SHARE = 100, 50, 400, 0.05
_REGION = re.compile(r"[^\x00-\x1f/]{1,100}")


@dataclass(frozen=True)
class Roles:
    """The part each named column plays."""

    target: str
    kind: TargetKind
    event_time: str
    entity: tuple[str, ...]
    positive: str | int | bool | None = None
    time_zone: str | None = None
    region: str | None = None
    known_at: str | None = None
    dropped: tuple[str, ...] = ()


def event_times(profiles: dict[str, Profile], table: pd.DataFrame) -> list[str]:
    """Columns that can be the event time, the likeliest first: never missing, not named like an end, the earliest."""
    fit = [each for each in profiles.values() if each.kind in ("time", "local time") and each.missing < each.rows]
    complete = [each for each in fit if not each.missing] or [
        each for each in fit if each.missing <= _BAD_SHARE * each.rows
    ]

    def rank(each: Profile) -> tuple[bool, float]:
        moments = pd.to_datetime(table[each.name].map(str), utc=True, format="ISO8601", errors="coerce")
        return bool(_LATER_NAME.search(each.name)), float(moments.dropna().astype("int64").median())

    return [each.name for each in sorted(complete, key=rank)]


def targets(profiles: dict[str, Profile]) -> list[str]:
    """Columns that can be predicted, those named like a target first."""
    fit = [each.name for each in profiles.values() if _can_be_target(each)]
    return sorted(fit, key=lambda name: name.casefold() not in _TARGET_NAMES)


def likely_target(profiles: dict[str, Profile]) -> str | None:
    """The column that is named like a target, where there is just one."""
    named = [name for name in targets(profiles) if name.casefold() in _TARGET_NAMES]
    return named[0] if len(named) == 1 else None


def kind_of(profile: Profile) -> tuple[TargetKind, bool]:
    """What kind of target a column is, and whether that is sure: a few whole numbers may be classes or a count.

    Raises:
        FieldError: It can be no target; says why.
    """
    if not _can_be_target(profile):
        raise FieldError(f"{profile.name!r} cannot be predicted: {_why_no_target(profile)}", "target")
    if profile.distinct == 2:
        return "binary", True
    if profile.kind == "text":
        return "multiclass", True
    if profile.kind == "number" or profile.distinct >= 15:
        return "regression", True
    return "multiclass", False


def positive_of(column: pd.Series[Any]) -> tuple[str | int | bool | None, bool]:
    """Of a column with two values: the one that counts as 1, and whether that is sure. None where it holds 0 and 1."""
    present = column.dropna()
    if pd.api.types.is_float_dtype(present):
        present = present.astype("int64") if (present == present.round()).all() else present
    counts = present.value_counts()
    values = [each.item() if hasattr(each, "item") else each for each in counts.index]
    if {*values} <= {0, 1}:
        return None, True
    by_word = {str(each).casefold(): each for each in values}
    for yes, no in _YES.items():
        if {yes, no} == set(by_word):
            return by_word[yes], True
    for word, other in (tuple(by_word), tuple(by_word)[::-1]):
        if other in (f"not {word}", f"no {word}", f"non-{word}", f"not_{word}", f"no_{word}", f"non_{word}"):
            return by_word[word], True
    return values[-1], False


def known_at(table: pd.DataFrame, profiles: dict[str, Profile], event_time: str, target: str) -> str | None:
    """The one other time that is never before the event time and there whenever the target is; None where several.

    Args:
        table: With its times in UTC; those that are not are left alone.
        profiles: Of its columns.
        event_time: Column.
        target: Column.
    """
    start, fit = table[event_time], []
    for each in profiles.values():
        moments = table[each.name]
        if each.name in (event_time, target) or not isinstance(moments.dtype, pd.DatetimeTZDtype):
            continue
        if (moments >= start)[moments.notna()].all() and not (moments.isna() & table[target].notna()).any():
            fit.append(each.name)
    return fit[0] if len(fit) == 1 else None


def entities(table: pd.DataFrame, profiles: dict[str, Profile], event_time: str, target: str) -> list[tuple[str, ...]]:
    """Natural keys, the likeliest first: with the event time they name every row (but a few that come twice)."""
    able = [
        each
        for each in profiles.values()
        if each.kind in ("integer", "text") and each.name not in (event_time, target) and not each.missing
    ]
    few = [each for each in able if not each.unique]
    most_distinct = sorted(able, key=lambda each: -each.distinct)

    def names(columns: tuple[str, ...], allowed: float = 0.0) -> bool:
        return int(table.duplicated([*columns, event_time]).sum()) <= allowed * len(table)

    singles = [
        *(each.name for each in able if each.unique and each.named_like_id),
        *(each.name for each in few if each.named_like_id and names((each.name,))),
        *(each.name for each in able if each.named_like_number and names((each.name,))),
        *(each.name for each in most_distinct if each.kind == "text" and names((each.name,))),
        *(each.name for each in able if each.sorted),
    ]
    found: list[tuple[str, ...]] = [(name,) for name in dict.fromkeys(singles)]
    if not found:
        likely = sorted(few, key=lambda each: (not (each.named_like_id or each.named_like_number), -each.distinct))[:10]
        sizes = (combinations([each.name for each in likely], size) for size in (2, 3))
        found = [pair for pairs in sizes for pair in pairs if names(pair)][:5]
    if not found:
        found = [(each.name,) for each in able if each.named_like_id and names((each.name,), allowed=_BAD_SHARE)]
    return found


def regions(table: pd.DataFrame, profiles: dict[str, Profile], taken: set[str]) -> list[str]:
    """Columns named like a place or market whose every value has rows enough for a model of its own."""
    return [
        each.name
        for each in profiles.values()
        if each.kind == "text"
        and each.name not in taken
        and not each.missing
        and 2 <= each.distinct <= _MOST_REGIONS
        and _REGION_NAME.search(each.name)
        and not region_fault(table[each.name])
        and int(table[each.name].value_counts().min()) >= _ROWS_A_REGION
    ]


def region_fault(column: pd.Series[Any]) -> str | None:
    """Why a column cannot split the models; None when it can."""
    levels = column.dropna().map(str).unique()
    if pd.api.types.is_float_dtype(column):
        return "its values are fractions or have gaps: make it text in the source"
    if len(levels) > 1_000:
        return f"it has {len(levels):,} values, and each would have a model of its own"
    bad = [each for each in levels if not _REGION.fullmatch(each) or each == POOLED]
    return f"{bad[0]!r} cannot name a region: no slashes or control characters, not {POOLED!r}" if bad else None


def _can_be_target(profile: Profile) -> bool:
    if profile.kind not in ("boolean", "integer", "number", "text") or profile.distinct < 2 or not profile.finite:
        return False
    return profile.kind != "text" or profile.distinct <= _MOST_CLASSES


def _why_no_target(profile: Profile) -> str:
    if profile.kind in ("time", "local time"):
        return "it holds times"
    if profile.kind in ("empty", "other"):
        return "it is empty" if profile.kind == "empty" else "it holds values of several types"
    if profile.distinct < 2:
        return "it holds only one value"
    return "it holds infinite numbers" if not profile.finite else f"it holds {profile.distinct:,} different texts"
