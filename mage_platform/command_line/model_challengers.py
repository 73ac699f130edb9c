"""`mage-platform models canary`, `shadow` and `withdraw`: versions that take part beside a champion."""

from __future__ import annotations

import getpass

import click

from mage_platform.command_line.output import json_option, print_json
from mage_platform.command_line.surroundings import present_settings
from mage_platform.contracts import Challenger, ChallengerChange, ChallengerMode
from mage_platform.database import connect
from mage_platform.errors import ContractViolated, ModelNotFound
from mage_platform.registry import end_challenger, lock_region, model_version, set_challenger, verification_keys

_reason = click.option("--reason", required=True, help="Why; kept in the history.")


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.argument("version", type=int)
@click.option("--share", required=True, type=float, help="Share of the entities it answers, above 0 and at most 1.")
@_reason
@json_option
def canary(use_case: str, region: str, version: int, share: float, reason: str, as_json: bool) -> None:
    """Let VERSION answer a share of the entities.

    Which ones, a hash of their id decides: an entity is answered by the same version as long as version and share
    stand, and a greater share only takes more entities from the champion. Sidecars follow within seconds. `models
    promote` makes it champion, `models withdraw` ends it.
    """
    _challenge(use_case, region, version, "canary", share, reason, as_json)


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.argument("version", type=int)
@click.option("--share", default=1.0, show_default=True, type=float, help="Share of the entities it scores.")
@_reason
@json_option
def shadow(use_case: str, region: str, version: int, share: float, reason: str, as_json: bool) -> None:
    """Let VERSION score beside the champion, unseen.

    The champion answers; afterwards VERSION scores the same vector. That neither delays an answer nor fails one: what
    does not keep up is left out and counted.
    """
    _challenge(use_case, region, version, "shadow", share, reason, as_json)


@click.command()
@click.argument("use_case")
@click.argument("region")
@_reason
@json_option
def withdraw(use_case: str, region: str, reason: str, as_json: bool) -> None:
    """End the canary or shadow of a region."""
    with connect(present_settings()) as connection:
        lock_region(connection, use_case, region)
        change = end_challenger(
            connection, use_case=use_case, region=region, changed_by=getpass.getuser(), reason=reason
        )
        if change is None:
            raise ModelNotFound(f"{use_case}/{region} has neither canary nor shadow to end")
    _print_change(change, "", as_json)


def share_text(challenger: Challenger | ChallengerChange) -> str:
    """How a challenger takes part, in two words.

    >>> from types import SimpleNamespace
    >>> share_text(SimpleNamespace(mode="canary", share=0.125))
    'canary 12.5 %'
    """
    return f"{challenger.mode} {100 * (challenger.share or 0):g} %"


def _challenge(
    use_case: str, region: str, version: int, mode: ChallengerMode, share: float, reason: str, as_json: bool
) -> None:
    if not 0 < share <= 1:
        raise ContractViolated(f"--share {share:g} is no share: give a number above 0 and at most 1", field="share")
    settings = present_settings()
    with connect(settings) as connection:
        # Not a version whose signature every sidecar would refuse.
        verification_keys(settings).verify(model_version(connection, use_case, region, version))
        change = set_challenger(
            connection, use_case=use_case, region=region, version=version, mode=mode, share=share,
            changed_by=getpass.getuser(), reason=reason,
        )  # fmt: skip
    _print_change(change, f"version {version} takes part in {use_case}/{region} so already", as_json)


def _print_change(change: ChallengerChange | None, otherwise: str, as_json: bool) -> None:
    if as_json:
        print_json(change.model_dump(mode="json") if change else None)
    elif change is None:
        click.echo(otherwise)
    else:
        part = share_text(change) if change.mode else "takes part no more"
        click.echo(f"{change.use_case}/{change.region}: version {change.version} {part}")
