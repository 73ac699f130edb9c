"""Which columns become features, of what type and range, and why the others do not."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mage_platform.contracts.use_case import TRAVEL_BESIDE
from mage_platform.proposal.alone import alone, is_suspect
from mage_platform.proposal.columns import Profile
from mage_platform.proposal.roles import Roles

LONGEST_NAME = 63
_MOST_LEVELS, _MOST_CODES = 1_000, 100


def choose_features(
    table: pd.DataFrame, profiles: dict[str, Profile], roles: Roles, truth: pd.Series[Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, float]]:
    """Features as they are declared, why each other column is none, and what each feature reaches alone."""
    features: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    reached: dict[str, float] = {}
    for name, profile in profiles.items():
        reason = _reason(profile, roles)
        if reason is None:
            reached[name] = alone(table[name], truth, roles.kind)
            if is_suspect(reached[name], truth, roles.kind):
                measure = {"binary": "AUC", "multiclass": "accuracy", "regression": "R² of ranks"}[roles.kind]
                reason = (
                    f"suspect of a leak: alone it predicts {roles.target} with {measure} {reached[name]:.3f}; "
                    "is it known at the event time?"
                )
        if reason is None:
            features[name] = _declared(profile)
        elif name not in (roles.target, roles.event_time):
            left_out[name] = reason
    return features, left_out, reached


def sensible_range(minimum: float, maximum: float, *, whole: bool) -> tuple[float, float]:
    """A range around what was seen that only gross errors leave: a span more on each side, in round numbers.

    What is never negative stays so, and a share stays between 0 and 1.

    >>> sensible_range(3, 40, whole=True)
    (0, 80)
    >>> sensible_range(0.1, 0.93, whole=False)
    (0, 1)
    >>> sensible_range(-12.5, 31.0, whole=False)
    (-60, 80)
    """
    if not whole and minimum >= 0 and maximum <= 1:
        return 0, 1
    span = (maximum - minimum) or max(abs(maximum), 1.0)
    lower = 0.0 if minimum >= 0 else -_round_up(-(minimum - span))
    upper = _round_up(maximum + span) if maximum > 0 or minimum >= 0 else 0.0
    return _as_written(lower), _as_written(upper)


def _reason(profile: Profile, roles: Roles) -> str | None:
    """Why a column is no feature, or None."""
    name = profile.name
    if name in roles.dropped:
        return "left out as asked"
    if name in (roles.target, roles.event_time):
        return "has a part of its own"
    if name == roles.known_at:
        return "the moment at which the target became known"
    if name == roles.region:
        return "the region; the model of all regions together gets it by itself"
    if name in TRAVEL_BESIDE:
        return "the platform has a column of that name: rename it in the source"
    if len(name) > LONGEST_NAME:
        return f"its name is longer than {LONGEST_NAME} characters: rename it in the source"
    if profile.kind == "empty":
        return "every value is missing"
    if profile.kind in ("time", "local time"):
        return "a time; a feature function can make hours or days since of it"
    if profile.kind == "other":
        return "its values are of several types, or lists or bytes"
    if profile.distinct < 2:
        return "constant: every value is the same"
    if not profile.finite:
        return "holds infinite numbers"
    return _reason_of_identity(profile, roles)


def _reason_of_identity(profile: Profile, roles: Roles) -> str | None:
    distinct = f"{profile.distinct:,} values in {profile.present:,} rows"
    if profile.kind == "text" and (profile.distinct > _MOST_LEVELS or profile.distinct > max(20, profile.present / 2)):
        return f"text that hardly repeats ({distinct})"
    if profile.kind == "text" and profile.unique:
        return f"text that never repeats ({distinct})"
    if profile.kind != "integer":
        return None
    if profile.unique and (profile.named_like_id or profile.sorted or profile.name in roles.entity):
        return f"an id: every row has its own ({distinct})"
    if profile.distinct > _MOST_CODES and (profile.named_like_id or profile.name in roles.entity):
        return f"an id: it numbers things and measures nothing ({distinct})"
    return None


def _declared(profile: Profile) -> dict[str, Any]:
    types = {"text": "category", "boolean": "boolean", "integer": "integer", "number": "number"}
    declared: dict[str, Any] = {"type": types[profile.kind]}
    if profile.minimum is not None and profile.maximum is not None:
        bounds = sensible_range(profile.minimum, profile.maximum, whole=profile.kind == "integer")
        declared["minimum"], declared["maximum"] = bounds
    if profile.missing:
        declared["missing"] = "allowed"
    return declared


def _round_up(value: float) -> float:
    """The next number of one significant digit that is not below a positive value."""
    if value <= 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(round(value / step, 9)) * step:.0e}")


def _as_written(value: float) -> float:
    return int(value) if float(value).is_integer() else value
