"""`mage-platform models show` and `diff`: everything about one version, and what tells two apart."""

from __future__ import annotations

import json
from typing import Any

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.contracts import AliasMove, Evaluation, ModelVersion, PromotionDecision
from mage_platform.contracts.evaluation import Compared, Evaluated
from mage_platform.contracts.metrics import METRIC_TITLES, METRICS
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import ModelNotFound
from mage_platform.registry import alias_history, challenger_history, champion, last_decision, model_version
from mage_platform.validation.quarantine import report_of


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.option("--version", type=int, help="A version; left out, the champion.")
@json_option
def show(use_case: str, region: str, version: int | None, as_json: bool) -> None:
    """One version: metrics beside rivals, decision, lineage, moves."""
    with connect(present_settings()) as connection:
        model = version_or_champion(connection, use_case, region, version)
        decision = last_decision(connection, use_case, region, model.version)
        run = model.lineage.validation_run
        validation = report_of(connection, use_case, run) if run else None
        moves = alias_history(connection, use_case=use_case, region=region)
        changes = challenger_history(connection, use_case=use_case, region=region)
    if as_json:
        histories = {"alias_history": moves, "challenger_history": changes}
        print_json({"model": model, "decision": decision, "validation": validation, **histories})
        return
    print_table(["", ""], _facts(model), empty="")
    if validation is not None:
        rules = f"; broken rules: {', '.join(validation.broken_rules)}" if validation.broken_rules else ""
        click.echo(f"validation: {validation.passed:,} of {validation.rows:,} rows passed{rules}")
    if decision is not None:
        _print_decision(decision)
    _print_leaderboard(model)
    _print_moves(moves)


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.argument("first", type=int)
@click.argument("second", type=int)
@json_option
def diff(use_case: str, region: str, first: int, second: int, as_json: bool) -> None:
    """What tells two versions of a region apart.

    Metrics, schema, window, options and lineage: every field in which FIRST and SECOND differ.
    """
    with connect(present_settings()) as connection:
        old, new = (version_or_champion(connection, use_case, region, each) for each in (first, second))
    changes = differences(old, new)
    if as_json:
        print_json([{"what": what, str(first): before, str(second): after} for what, before, after in changes])
        return
    lines = [[what, _short(before), _short(after)] for what, before, after in changes]
    print_table(["what", f"version {first}", f"version {second}"], lines, empty="The two versions do not differ.")


def differences(old: ModelVersion, new: ModelVersion) -> list[tuple[str, Any, Any]]:
    """Every field, by its path, in which two versions differ; None where one of them has no such field."""
    measured = {"version", "leaderboard", "partial_dependence"}
    left, right = (_flat(each.model_dump(mode="json", exclude=measured)) for each in (old, new))
    return [
        (path, left.get(path), right.get(path))
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, each in value.items() for name, leaf in _flat(each, f"{path}.{key}".strip(".")).items()}


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def version_or_champion(connection: Connection, use_case: str, region: str, version: int | None) -> ModelVersion:
    """A version, or without a number the champion.

    Raises:
        ModelNotFound: There is none.
    """
    if version is not None:
        return model_version(connection, use_case, region, version)
    serving = champion(connection, use_case, region)
    if serving is None:
        raise ModelNotFound(
            f"{use_case}/{region} has no champion; `mage-platform models list --all` shows what is registered"
        )
    return serving.model


def _facts(model: ModelVersion) -> list[list[object]]:
    window, lineage = model.window, model.lineage
    code = lineage.code_commit or "no git checkout"
    metrics: list[list[object]] = [
        [METRIC_TITLES[name], f"{getattr(model.metrics, name):.4f} (naive {getattr(model.naive_metrics, name):.4f})"]
        for name in METRICS[model.metrics.kind]
    ]
    # sorted anew: JSONB keeps no order of keys
    shares = sorted(model.variable_importance.items(), key=lambda each: -each[1])
    important = ", ".join(f"{name} {share:.0%}" for name, share in shares[:5])
    return [
        ["model", f"{model.use_case}/{model.region} version {model.version} ({model.algorithm})"],
        *metrics,
        ["trained until", window.train_until.isoformat()],
        ["validated until", window.validate_until.isoformat()],
        ["blended until", window.blend_until.isoformat()],
        ["tested until", window.test_until.isoformat()],
        ["rows", ", ".join(f"{name} {count:,}" for name, count in model.rows.items())],
        ["rows' fingerprint", lineage.rows_fingerprint],
        ["training's fingerprint", lineage.training_fingerprint],
        ["seed, models", f"{model.seed}, at most {lineage.maximum_models}"],
        ["code", f"{code}{' with changes' if lineage.code_changed else ''}"],
        ["validation run", lineage.validation_run or "none"],
        ["H2O", model.h2o_version],
        ["run", model.run],
        ["registered", model.registered_at.isoformat(timespec="seconds")],
        ["MOJO SHA-256", f"{model.mojo_sha256} ({model.mojo_bytes:,} bytes)"],
        ["MOJO", "kept" if model.artifacts_dropped_at is None else f"dropped on {model.artifacts_dropped_at.date()}"],
        ["signed by key", model.signed_by or "not signed: `mage-platform models sign`"],
        ["explained by", model.explainer_algorithm or "itself, where its algorithm can"],
        ["most important", important or "not told by this algorithm"],
    ]


def _print_decision(decision: PromotionDecision) -> None:
    click.echo(f"\ndecision: {'promoted' if decision.promoted else 'not promoted'}; {decision.reason}\n")
    evaluation = decision.evaluation
    if evaluation is None:
        return
    title = METRIC_TITLES[evaluation.metric]
    names = f"{evaluation.rows:,} held-out rows, {evaluation.resamples} resamples of {evaluation.resampled}"
    heads = [names, title, "95 % interval", "gain of the candidate", "95 % interval", "better in"]
    print_table(heads, _rivals(evaluation), empty="")


def _rivals(evaluation: Evaluation) -> list[list[object]]:
    rivals: list[tuple[str, Evaluated | None, Compared | None]] = [
        ("candidate", evaluation.candidate, None),
        ("naive baseline", evaluation.naive, evaluation.against_naive),
        (f"champion (version {evaluation.champion_version})", evaluation.champion, evaluation.against_champion),
        ("pooled model", evaluation.pooled, evaluation.against_pooled),
    ]
    lines: list[list[object]] = []
    for name, evaluated, compared in rivals:
        if evaluated is None:
            continue
        interval = evaluated.intervals.get(evaluation.metric)
        line = [name, f"{getattr(evaluated.metrics, evaluation.metric):.4f}", _interval(interval)]
        if compared is not None:
            line += [f"{compared.gain:+.4f}", _interval(compared.interval), f"{compared.confidence:.0%}"]
        lines.append([*line, *[""] * (6 - len(line))])
    return lines


def _interval(interval: Any) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""


def _print_leaderboard(model: ModelVersion) -> None:
    names = list(dict.fromkeys(name for row in model.leaderboard for name in row.values))
    board = [
        [row.model, row.algorithm, *(f"{row.values[name]:.4f}" if name in row.values else "" for name in names)]
        for row in model.leaderboard
    ]
    click.echo()
    print_table(["leaderboard (validation rows)", "algorithm", *names], board, empty="")


def _print_moves(moves: list[AliasMove]) -> None:
    click.echo()
    lines = [
        [each.moved_at.isoformat(timespec="seconds"), each.alias, each.from_version, each.to_version, each.moved_by,
         each.reason]
        for each in moves
    ]  # fmt: skip
    print_table(["moved", "alias", "from", "to", "by", "why"], lines, empty="No alias has moved yet.")
