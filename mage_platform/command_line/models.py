"""`mage-platform models`: what is registered, who serves, and moving that by hand."""

from __future__ import annotations

import getpass

import click

from mage_platform.command_line.model_challengers import canary, shadow, share_text, withdraw
from mage_platform.command_line.model_details import diff, show
from mage_platform.command_line.model_report import report
from mage_platform.command_line.model_reproduction import reproduce
from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.contracts import POOLED, AliasMove, Challenger, ModelVersion
from mage_platform.contracts.metrics import METRIC_TITLES, METRICS
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import ContractViolated, ModelNotFound
from mage_platform.registry import (
    alias_history,
    challengers,
    champion,
    champions,
    model_version,
    model_versions,
    move_alias,
    rollback_target,
    verification_keys,
)
from mage_platform.settings import Settings


@click.group()
def models() -> None:
    """Registered models, champions and their history. Region `*` is the pooled model of all regions."""


models.add_command(show)
models.add_command(diff)
models.add_command(report)
models.add_command(canary)
models.add_command(shadow)
models.add_command(withdraw)
models.add_command(reproduce)


@models.command("list")
@click.option("--use-case", help="Only this use case.")
@click.option("--region", help="Only this region.")
@click.option("--all", "every", is_flag=True, help="Every version, not just the champions.")
@json_option
def list_models(use_case: str | None, region: str | None, every: bool, as_json: bool) -> None:
    """The champions (*) and challengers beside the naive baseline.

    --all lists every registered version.
    """
    with connect(present_settings()) as connection:
        serving = champions(connection, use_case=use_case, region=region)
        beside = challengers(connection, use_case=use_case, region=region)
        versions = [each.model for each in serving] + [each.model for each in beside]
        versions.sort(key=lambda each: (each.use_case, each.region, -each.version))
        if every:
            versions = model_versions(connection, use_case=use_case, region=region)
    names = {_name(each.model) for each in serving}
    parts = {_name(each.model): each for each in beside}
    if as_json:
        facts = {"mode", "share", "since"}
        print_json(
            [
                {
                    **each.model_dump(mode="json"),
                    "champion": _name(each) in names,
                    "challenger": part.model_dump(mode="json", include=facts) if part else None,
                }
                for each, part in ((each, parts.get(_name(each))) for each in versions)
            ]
        )
        return
    print_table(
        MODEL_COLUMNS,
        [model_row(each, is_champion=_name(each) in names, challenger=parts.get(_name(each))) for each in versions],
        empty="No model is registered yet: `mage-platform run train_regional_models` trains one for each region.",
    )


def _name(model: ModelVersion) -> tuple[str, str, int]:
    return model.use_case, model.region, model.version


MODEL_COLUMNS = ("use case", "region", "version", "algorithm", "metric", "value", "naive", "test rows")


def model_row(model: ModelVersion, *, is_champion: bool, challenger: Challenger | None = None) -> list[object]:
    """One line of the table of models; a champion's version bears a star, a challenger's its part, one without its MOJO
    says so."""
    metric = METRICS[model.metrics.kind][0]
    mark = "*" if is_champion else " dropped" if model.artifacts_dropped_at else ""
    if challenger is not None:
        mark = f" {share_text(challenger)}"
    return [
        model.use_case,
        "* (all)" if model.region == POOLED else model.region,
        f"{model.version}{mark}",
        model.algorithm,
        METRIC_TITLES[metric],
        f"{getattr(model.metrics, metric):.4f}",
        f"{getattr(model.naive_metrics, metric):.4f}",
        f"{model.metrics.rows:,}",
    ]


@models.command()
@click.argument("use_case")
@click.argument("region")
@click.argument("version", type=int)
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def promote(use_case: str, region: str, version: int, reason: str, as_json: bool) -> None:
    """Make VERSION the champion by hand. Sidecars serve it within seconds."""
    settings = present_settings()
    with connect(settings) as connection:
        move = _move_champion(settings, connection, use_case, region, version, reason)
    _print_move(move, f"{use_case}/{region} version {version} is the champion already", as_json)


@models.command()
@click.argument("use_case")
@click.argument("region")
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def rollback(use_case: str, region: str, reason: str, as_json: bool) -> None:
    """Give the alias back to the champion before the present one."""
    settings = present_settings()
    with connect(settings) as connection:
        present = champion(connection, use_case, region)
        if present is None:
            raise ModelNotFound(f"{use_case}/{region} has no champion to roll back")
        moves = alias_history(connection, use_case=use_case, region=region)
        before = rollback_target(moves, present.model.version)
        if before is None:
            raise ContractViolated(
                f"version {present.model.version} is the first champion of {use_case}/{region}: there is none before it"
            )
        move = _move_champion(settings, connection, use_case, region, before, reason)
    _print_move(move, "nothing moved", as_json)


def _move_champion(
    settings: Settings, connection: Connection, use_case: str, region: str, version: int, reason: str
) -> AliasMove | None:
    """Move the alias by hand, but not to a version whose signature every sidecar would refuse."""
    verification_keys(settings).verify(model_version(connection, use_case, region, version))
    return move_alias(
        connection, use_case=use_case, region=region, version=version, moved_by=getpass.getuser(), reason=reason
    )


def _print_move(move: AliasMove | None, otherwise: str, as_json: bool) -> None:
    if as_json:
        print_json(move.model_dump(mode="json") if move else None)
    elif move is None:
        click.echo(otherwise)
    else:
        click.echo(f"{move.use_case}/{move.region}: champion {move.from_version or 'none'} → {move.to_version}")
