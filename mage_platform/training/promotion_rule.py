"""The rule by which a candidate becomes champion, as a pure function."""

from __future__ import annotations

from mage_platform.contracts import FeatureColumn, InputSchema
from mage_platform.contracts.evaluation import Clause, Compared, Evaluated, Evaluation
from mage_platform.contracts.metrics import METRIC_TITLES
from mage_platform.contracts.use_case import Promotion


def judge(
    rule: Promotion,
    evaluation: Evaluation,
    *,
    schema: InputSchema,
    champion_schema: InputSchema | None,
    mojo_bytes: int,
    score_microseconds: float | None,
) -> list[Clause]:
    """Hold a candidate against every clause of the rule. Pure: everything it depends on is an argument.

    Args:
        rule: As declared.
        evaluation: The candidate beside naive baseline and present champion, on the same held-out rows.
        schema: What vectors the candidate takes.
        champion_schema: What vectors the present champion takes; None where there is none.
        mojo_bytes: Size of the candidate's MOJO.
        score_microseconds: Mean time of one score by it; None where it was not measured.

    Returns:
        One clause for each thing asked; it becomes champion when all are kept.
    """
    clauses = [
        _beats("beats_naive", "the naive baseline", evaluation, evaluation.naive, evaluation.against_naive, 0.0, rule)
    ]
    if evaluation.champion is not None and evaluation.against_champion is not None:
        name = f"the champion (version {evaluation.champion_version})"
        compared = evaluation.against_champion
        clauses.append(
            _beats("beats_champion", name, evaluation, evaluation.champion, compared, rule.minimum_gain, rule)
        )
    if champion_schema is not None and rule.schema_change == "refused":
        broken = incompatibilities(champion_schema, schema)
        sentence = (
            f"vectors that the champion takes would be refused: {'; '.join(broken)}. Promote by hand once all who ask "
            "send the new ones, or declare promotion.schema_change: allowed"
        )
        clauses.append(
            Clause(
                clause="schema_compatible",
                kept=not broken,
                sentence=sentence if broken else "takes every vector that the champion takes",
            )
        )
    if rule.maximum_mojo_bytes is not None:
        clauses.append(_within("size", "the MOJO", mojo_bytes, rule.maximum_mojo_bytes, "bytes"))
    if rule.maximum_score_microseconds is not None:
        clauses.append(
            _within("latency", "one score", score_microseconds, rule.maximum_score_microseconds, "microseconds")
        )
    return clauses


def incompatibilities(old: InputSchema, new: InputSchema) -> list[str]:
    """What vectors that keep the old schema would break in the new one.

    >>> hour = FeatureColumn(type="integer", minimum=0, maximum=23)
    >>> incompatibilities(InputSchema(columns={"hour": hour}), InputSchema(columns={"hour": hour, "rain": hour}))
    ["feature 'rain' is new and must be sent"]
    """
    broken = [f"feature {name!r} is no longer known" for name in old.names if name not in new.columns]
    for name, column in new.columns.items():
        before = old.columns.get(name)
        if before is None:
            if column.missing == "refused":
                broken.append(f"feature {name!r} is new and must be sent")
        else:
            broken += [f"feature {name!r} {change}" for change in _narrowed(before, column)]
    return broken


def _narrowed(before: FeatureColumn, now: FeatureColumn) -> list[str]:
    changes = []
    if before.type != now.type and (before.type, now.type) != ("integer", "number"):
        changes.append(f"is {now.type}, no longer {before.type}")
    if before.missing == "allowed" and now.missing == "refused":
        changes.append("must no longer be missing")
    if before.unknown == "missing" and now.unknown == "refused":
        changes.append("must no longer have a level that training did not see")
    if now.minimum is not None and (before.minimum is None or before.minimum < now.minimum):
        changes.append(f"must be at least {now.minimum:g}, before {_bound(before.minimum)}")
    if now.maximum is not None and (before.maximum is None or before.maximum > now.maximum):
        changes.append(f"must be at most {now.maximum:g}, before {_bound(before.maximum)}")
    return changes


def _bound(value: float | None) -> str:
    return "without bound" if value is None else f"{value:g}"


def _beats(
    clause: str,
    whom: str,
    evaluation: Evaluation,
    other: Evaluated,
    compared: Compared,
    minimum_gain: float,
    rule: Promotion,
) -> Clause:
    metric = evaluation.metric
    ours, theirs = (getattr(each.metrics, metric) for each in (evaluation.candidate, other))
    shown = f"{METRIC_TITLES[metric]} {ours:.4f} against {theirs:.4f} of {whom}"
    if compared.gain <= minimum_gain:
        by = f" by more than {minimum_gain:g}" if minimum_gain else ""
        return Clause(clause=clause, kept=False, sentence=f"{shown}: not better{by}")
    sure = f"better in {compared.confidence:.0%} of {evaluation.resamples} resamples"
    if compared.confidence < rule.confidence:
        return Clause(clause=clause, kept=False, sentence=f"{shown}: {sure} only, {rule.confidence:.0%} are asked for")
    return Clause(clause=clause, kept=True, sentence=f"{shown}, {sure}")


def _within(clause: str, what: str, value: float | None, limit: float, unit: str) -> Clause:
    if value is None:
        return Clause(
            clause=clause, kept=False, sentence=f"{what} was not measured, and at most {limit:g} {unit} are allowed"
        )
    kept = value <= limit
    return Clause(
        clause=clause,
        kept=kept,
        sentence=f"{what}: {value:,.10g} {unit}, {'within' if kept else 'above'} {limit:,.10g}",
    )
