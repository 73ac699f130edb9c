"""Which column plays which part: what the options say, what the table shows, and what a person answers."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast
from zoneinfo import available_timezones

import pandas as pd

from mage_platform.command_line.questions import NONE, Questions
from mage_platform.contracts import TargetKind
from mage_platform.contracts.strict import FieldError
from mage_platform.errors import ContractViolated, SourceInvalid
from mage_platform.proposal import Profile, Roles, roles
from mage_platform.sources.moments import as_moments

KINDS = ("binary", "multiclass", "regression")


@dataclass(frozen=True)
class Given:
    """What the options say; None and empty where they say nothing."""

    target: str | None = None
    kind: str | None = None
    positive: str | None = None
    event_time: str | None = None
    time_zone: str | None = None
    region: str | None = None
    entity: str | None = None
    known_at: str | None = None
    drop: tuple[str, ...] = ()


def settle_roles(
    table: pd.DataFrame, profiles: dict[str, Profile], questions: Questions, given: Given
) -> tuple[pd.DataFrame, Roles]:
    """The part of each column, and the table with its times in UTC.

    Raises:
        ContractViolated: An option names what is not there or does not fit, or is needed; names the option.
    """
    for column in given.drop:
        _require("--drop", column, profiles)
    shown = {name: each for name, each in profiles.items() if name not in given.drop}
    event_time = _event_time(table, shown, questions, given)
    table, zone = _in_utc(table, profiles, event_time, questions, given)
    target = _target(shown, event_time, questions, given)
    kind = _kind(profiles[target], questions, given)
    positive = _positive(table[target], questions, given) if kind == "binary" else None
    if positive is None and given.positive is not None and kind != "binary":
        raise ContractViolated(f"--positive is for two classes, and {target} is {kind}", field="positive")
    known_at = _known_at(table, shown, event_time, target, questions, given)
    entity = _entity(table, shown, event_time, target, questions, given)
    taken = {event_time, target, *entity} | ({known_at} if known_at else set())
    region = _region(table, shown, taken, questions, given)
    return table, Roles(
        target=target, kind=kind, positive=positive, event_time=event_time, time_zone=zone, region=region,
        entity=entity, known_at=known_at, dropped=given.drop,
    )  # fmt: skip


def _event_time(table: pd.DataFrame, profiles: dict[str, Profile], questions: Questions, given: Given) -> str:
    if given.event_time is not None:
        _require("--event-time", given.event_time, profiles)
    fit = roles.event_times(profiles, table)
    if given.event_time is not None and given.event_time not in fit:
        try:
            as_moments(table[given.event_time], given.time_zone or "UTC", "the table")
        except SourceInvalid as error:
            raise ContractViolated(f"--event-time {given.event_time}: {error}", field="event_time") from None
        return given.event_time
    return questions.answer(
        "--event-time", "at which moment are the features true?", given=given.event_time,
        choices=fit or list(profiles), proposed=fit[0] if fit else None, sure=len(fit) == 1,
    )  # fmt: skip


def _in_utc(
    table: pd.DataFrame, profiles: dict[str, Profile], event_time: str, questions: Questions, given: Given
) -> tuple[pd.DataFrame, str | None]:
    zone = given.time_zone
    local = [name for name in (event_time, given.known_at) if name in profiles and profiles[name].kind == "local time"]
    if zone is not None or local:
        column = local[0] if local else event_time
        zone = questions.answer(
            "--time-zone", f"in which time zone are the times of {column} meant?", given=zone, choices=(),
            proposed=None, check=_zone_fault,
        )  # fmt: skip
    moments = {}
    for name, profile in profiles.items():
        if profile.kind == "time" or (profile.kind == "local time" and zone is not None):
            moments[name] = as_moments(table[name], zone, "the table")
    if event_time not in moments:
        moments[event_time] = as_moments(table[event_time], zone, "the table")
    return table.assign(**moments), zone


def _target(profiles: dict[str, Profile], event_time: str, questions: Questions, given: Given) -> str:
    fit = [name for name in roles.targets(profiles) if name != event_time]
    if given.target is not None:
        _require("--target", given.target, profiles)
        return given.target
    return questions.answer(
        "--target", "which column is predicted?", given=None, choices=fit, proposed=roles.likely_target(profiles)
    )


def _kind(profile: Profile, questions: Questions, given: Given) -> TargetKind:
    try:
        kind, sure = roles.kind_of(profile)
    except FieldError as error:
        raise ContractViolated(f"--target: {error}", field="target") from None

    def fault(answer: str) -> str | None:
        if answer == "binary" and profile.distinct != 2:
            return f"{profile.name} holds {profile.distinct:,} different values, and binary wants two"
        if answer == "regression" and profile.kind not in ("integer", "number"):
            return f"{profile.name} holds {profile.kind}, and regression wants numbers"
        return None

    question = f"what is {profile.name}, with {profile.distinct:,} different values?"
    answer = questions.answer(
        "--kind", question, given=given.kind, choices=KINDS, proposed=kind, sure=sure, check=fault
    )
    return cast(TargetKind, answer)


def _positive(target: pd.Series[Any], questions: Questions, given: Given) -> str | int | bool | None:
    proposed, sure = roles.positive_of(target)
    values = {str(each).removesuffix(".0"): each for each in target.dropna().unique()}
    if proposed is None and given.positive is None:
        return None
    answer = questions.answer(
        "--positive", f"which value of {target.name} counts as 1?", given=given.positive, choices=sorted(values),
        proposed=None if proposed is None else str(proposed), sure=sure,
    )  # fmt: skip
    value = values[answer]
    if proposed is None:
        if answer not in ("1", "True"):
            raise ContractViolated(
                f"--positive {answer}: {target.name} holds 0 and 1, and 1 is what counts", field="positive"
            )
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known_at(
    table: pd.DataFrame, profiles: dict[str, Profile], event_time: str, target: str, questions: Questions, given: Given
) -> str | None:
    later = [name for name, each in profiles.items() if each.kind in ("time", "local time") and name != event_time]
    if given.known_at not in (None, NONE):
        _require("--known-at", str(given.known_at), profiles)
        if given.known_at not in later:
            raise ContractViolated(f"--known-at: {given.known_at!r} holds no times", field="known_at")
    proposed = roles.known_at(table, profiles, event_time, target) or NONE
    answer = questions.answer(
        "--known-at", f"which column says when {target} became known?", given=given.known_at,
        choices=[NONE, *later], proposed=proposed, sure=not later or not questions.terminal,
    )  # fmt: skip
    return None if answer == NONE else answer


def _entity(
    table: pd.DataFrame, profiles: dict[str, Profile], event_time: str, target: str, questions: Questions, given: Given
) -> tuple[str, ...]:
    found = roles.entities(table, profiles, event_time, target)
    first = found[0] if found else ()
    sure = len(found) == 1 or (len(first) == 1 and (profiles[first[0]].unique or profiles[first[0]].named_like_id))

    def columns(answer: str) -> list[str]:
        return [answer] if answer in profiles else [part.strip() for part in answer.split(",") if part.strip()]

    def fault(answer: str) -> str | None:
        names = columns(answer)
        if wrong := [name for name in names if name not in profiles] or ([] if names else [answer]):
            return _absent(wrong[0], profiles)
        twice = int(table.duplicated([*dict.fromkeys([*names, event_time])]).sum())
        if twice > 0.25 * len(table):
            return f"{twice:,} of {len(table):,} rows have the same ({', '.join(names)}) and {event_time} as another"
        return None

    answer = questions.answer(
        "--entity", "which column (or columns, with commas) names what a row is about?", given=given.entity,
        choices=(), proposed=",".join(first) or None, sure=sure, check=fault,
    )  # fmt: skip
    return first if answer == ",".join(first) else tuple(columns(answer))


def _region(
    table: pd.DataFrame, profiles: dict[str, Profile], taken: set[str], questions: Questions, given: Given
) -> str | None:
    found = roles.regions(table, profiles, taken)

    def fault(answer: str) -> str | None:
        if answer == NONE:
            return None
        if answer not in profiles:
            return _absent(answer, profiles)
        return roles.region_fault(table[answer])

    answer = questions.answer(
        "--region", "which column splits the models, one for each value (none: one for all)?", given=given.region,
        choices=(), proposed=found[0] if found else NONE, sure=not questions.terminal, check=fault,
    )  # fmt: skip
    return None if answer == NONE else answer


def _require(option: str, column: str, profiles: dict[str, Profile]) -> None:
    if column not in profiles:
        raise ContractViolated(f"{option}: {_absent(column, profiles)}", field=option.removeprefix("--"))


def _absent(column: str, profiles: dict[str, Profile]) -> str:
    near = get_close_matches(column, profiles, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(profiles)}"
    return f"the table has no column {column!r}{hint}"


def _zone_fault(zone: str) -> str | None:
    known = available_timezones()
    if zone in known:
        return None
    return f"{zone!r} is no time zone; write an IANA name such as {get_close_matches(zone, known, n=1, cutoff=0.0)[0]}"
