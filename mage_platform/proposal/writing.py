"""The proposal as `use_case.yaml`, with a comment on every line that an engineer may want to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import yaml

from mage_platform.contracts.metrics import METRICS
from mage_platform.proposal.propose import EXCLUDED, Proposal

_PLAIN = re.compile(r"[^\W\d_][\w]*")
_READ_OTHERWISE = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"}
_WIDTH = 118


def written(proposal: Proposal) -> str:
    """The text of `use_case.yaml`; read back it is exactly the proposal."""
    sections = (_head, _source, _roles, _features, _expectations, _training, _end)
    return "\n".join(line for section in sections for line in section(proposal)) + "\n"


def flow(value: Any) -> str:
    """A value on one line of YAML, text quoted wherever YAML would read something else.

    >>> flow({"column": "load %", "value_set": ["no", "Oslo", 3, True]})
    '{column: "load %", value_set: ["no", Oslo, 3, true]}'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.casefold() not in _READ_OTHERWISE:
            return value
        quoted: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
        return quoted.strip()
    return repr(value)


def _head(proposal: Proposal) -> Iterator[str]:
    looked = f"all {proposal.rows:,} rows" if proposal.complete else f"the first {proposal.rows:,} rows"
    yield f"# Proposed by `mage-platform use-case new` from {looked} of the table; every line may be changed."
    yield f"# `mage-platform use-case check {proposal.name}` names whatever is wrong, with its line."
    yield f"name: {proposal.name}"
    yield f"title: {flow(f'{proposal.roles.target} of {proposal.name}')}"


def _source(proposal: Proposal) -> Iterator[str]:
    source, roles = proposal.source, proposal.roles
    yield ""
    yield "# Where the rows come from; relative to this folder."
    yield "source:"
    for name, value in source.items():
        comment = {
            "query": "   # one SELECT; %(start)s and %(end)s in it stand for the bounds of an ingest's window",
            "connection": f"   # the secret platform_source_{value} holds this PostgreSQL's connection string",
        }.get(name, "")
        yield f"  {name}: {flow(value)}{comment}"
    if roles.time_zone is not None:
        yield f"  time_zone: {flow(roles.time_zone)}   # times without a zone are meant on clocks of this zone"


def _roles(proposal: Proposal) -> Iterator[str]:
    roles = proposal.roles
    yield ""
    yield "# What a row is about: with the event time these columns name every row. The entity id is a UUIDv5 of them."
    yield f"entity: {flow({'key': list(roles.entity)})}"
    yield "# When the features are true. Nothing that becomes known later may be a feature."
    yield f"event_time: {flow(roles.event_time)}"
    if roles.region is None:
        yield "# No column splits the models: one model answers for all, under the region `all`."
        yield "region: null"
    else:
        yield "# One model for each value of this column."
        yield f"region: {flow(roles.region)}"
    yield ""
    yield "# What is predicted. Rows where it is missing are stored, and never trained on."
    yield "target:"
    yield f"  column: {flow(roles.target)}"
    yield f"  kind: {roles.kind}   # binary: two classes; multiclass: classes by name; regression: a number"
    if roles.positive is not None:
        yield f"  positive: {flow(roles.positive)}   # the value that counts as 1"
    if roles.known_at is None:
        yield "  known_at: null   # the label counts as known at the event time itself; name the column that says when"
    else:
        yield f"  known_at: {flow(roles.known_at)}   # when the label became known: it is never used before"


def _features(proposal: Proposal) -> Iterator[str]:
    yield ""
    yield "# The contract of the vectors. Ranges are the table's own, widened: tighten them by what you know."
    yield "# A missing value is refused unless it is allowed. A category may be any text."
    yield "features:"
    yield "  columns:"
    for name, declared in proposal.features.items():
        yield f"    {flow(name)}: {flow(declared)}"
    if proposal.left_out:
        yield "  # Left out:"
    for name, reason in proposal.left_out.items():
        yield f"  #   {_one_line(name)}: {_one_line(reason)}"


def _expectations(proposal: Proposal) -> Iterator[str]:
    yield ""
    yield "# Great-expectations 0.18 rules on the source rows; all hold on the table except where it is said."
    yield "expectations:"
    yield f"  maximum_bad_share: {proposal.maximum_bad_share}   # a greater share of refused rows stops the run"
    yield "  # A row that breaks one of these goes to quarantine, the others go on."
    for rule, count in proposal.refused.items():
        yield f"  # {count:,} of {proposal.rows:,} rows break {_one_line(rule)}"
    yield from _rules("rows", proposal.row_rules)
    yield "  # One of these broken stops the run: it is not this table."
    yield from _rules("table", proposal.table_rules)


def _rules(part: str, rules: list[dict[str, dict[str, Any]]]) -> Iterator[str]:
    yield f"  {part}:" + ("" if rules else " []")
    for rule in rules:
        name, arguments = next(iter(rule.items()))
        line = f"    - {name}: {flow(arguments)}"
        if len(line) <= _WIDTH or len(arguments) > 3:
            yield line
            continue
        yield f"    - {name}:"
        for argument, value in arguments.items():
            yield f"        {argument}: {flow(value)}"


def _training(proposal: Proposal) -> Iterator[str]:
    rows, window = proposal.part_rows, proposal.window
    spans = {
        "train_until": f"trained on: everything before; {rows['train']:,} labelled rows",
        "validate_until": f"early stopping and the leaderboard; {rows['validate']:,} rows",
        "blend_until": f"what the stacked ensemble learns from; {rows['blend']:,} rows"
        if rows["blend"]
        else "no rows for a stacked ensemble: the same moment",
        "test_until": f"held out: candidate, champion and naive baseline compared; {rows['test']:,} rows",
    }
    yield ""
    yield "# Half-open spans of event time, one after the other. Move them on as time goes by."
    for warning in proposal.warnings:
        yield f"# Mind: {_one_line(warning)}"
    yield "training:"
    for name, comment in spans.items():
        moment = window[name]
        moment = moment.astimezone(UTC) if proposal.roles.time_zone is None else moment
        yield f"  {name}: {flow(moment)}   # {comment}"
    yield f"  maximum_models: {proposal.maximum_models}   # more models: a little better, and longer"
    yield "  seed: 1"
    yield "  # Left out: what is slow with a large MOJO (DRF), and what may not come out the same twice."
    yield f"  exclude_algorithms: {flow(EXCLUDED)}"
    yield "  maximum_runtime_seconds: 900   # a safety net for each region; reached, a run is not reproducible"
    yield f"  minimum_rows: {proposal.minimum_rows}   # a region with fewer labelled training rows gets no model"
    what = (
        "the target's mean by these columns, over the training rows" if proposal.naive_baseline else "the overall mean"
    )
    yield f"  naive_baseline: {flow(proposal.naive_baseline)}   # what every model must beat: {what}"


def _end(proposal: Proposal) -> Iterator[str]:
    kind = proposal.roles.kind
    yield ""
    yield "# A candidate becomes champion when it beats the naive baseline and the present champion on held-out rows."
    yield f"promotion: {{metric: {METRICS[kind][0]}}}   # or {', '.join(METRICS[kind][1:])}"
    yield ""
    yield "serving: {cache_ttl_seconds: 300}"


def _one_line(text: str) -> str:
    """Text that is safe in a comment."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
