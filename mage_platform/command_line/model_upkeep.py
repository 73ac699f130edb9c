"""`mage-platform models sign` and `models prune`: vouching for what is registered, and dropping what is past."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.registry import Signing, sign_registered, signing_key, verification_keys
from mage_platform.training import pruning
from mage_platform.use_cases import load_use_case, use_case_names


@click.command()
@click.option("--use-case", help="Only this use case.")
@click.option("--region", help="Only this region.")
@click.option(
    "--again", is_flag=True, help="Also what another known key signed; then that key can be taken out of use."
)
@json_option
def sign(use_case: str | None, region: str | None, again: bool, as_json: bool) -> None:
    """Sign versions that are not signed yet, once checked.

    With this you vouch for them: whatever lies in the registry unsigned is served afterwards. Needs the secret
    platform_signing_key. A version whose bytes or signature are not right is refused, and the exit code is 1.

    \b
    To replace the key: write the new one, add its public half to platform_verification_keys here and at every
    sidecar, run `mage-platform models sign --again`, and take the old public key out.
    """
    settings = present_settings()
    key, keys = signing_key(settings), verification_keys(settings)
    signings: list[Signing] = []
    with connect(settings) as connection:
        for signing in sign_registered(connection, key, keys, use_case=use_case, region=region, again=again):
            signings.append(signing)
            if not as_json:
                click.echo(f"{len(signings)}: {_name(signing)} {signing.refused or 'signed'}", err=True)
    if as_json:
        print_json([_plain(signing) for signing in signings])
    else:
        rows = [[*_place(signing), signing.model.signed_by if not signing.refused else ""] for signing in signings]
        print_table(["use case", "region", "version", "signed by"], rows, empty="Nothing is unsigned.")
    if any(signing.refused for signing in signings):
        raise SystemExit(1)


@click.command("prune")
@click.option("--use-case", "names", multiple=True, help="Only this one; repeatable. All declared by default.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and keep it.")
@json_option
def prune(names: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """Drop MOJOs past retention, and leftovers on the disk.

    Each training does so at its end. A use case keeps the MOJOs of its newest `retention: {keep_versions: 10}` versions
    a region and of all younger than `{keep_days: 30}` days; of a version with an alias, of one an alias left within
    those days, and of the one `models rollback` goes back to, always. Metrics, lineage and history stay for ever.
    Logged predictions go after `{keep_predictions_days: 90}`.
    A use case that is registered but no longer declared keeps everything.
    """
    settings = present_settings()
    declared = [load_use_case(settings, name) for name in names or use_case_names(settings)]
    outcomes = []
    for use_case in declared:
        outcomes.append(pruning.prune(settings, use_case, dry_run=dry_run))
        if not as_json:
            _tell(outcomes[-1], dry_run)
    if as_json:
        print_json([{**each.model_dump(mode="json"), "dry_run": dry_run} for each in outcomes])


def _tell(pruned: pruning.Pruned, dry_run: bool) -> None:
    rows = [[each.region, each.version, each.algorithm] for each in pruned.versions]
    print_table(["region", "version", "algorithm"], rows, empty=f"{pruned.use_case}: no MOJO is past its retention.")
    click.echo(
        f"{pruned.use_case}: {'would free' if dry_run else 'freed'} {pruned.freed_bytes / 2**20:,.1f} MiB in the "
        f"database, {len(pruned.run_folders)} folders of runs and {len(pruned.cached_files)} copies on the disk; "
        f"{pruned.predictions:,} logged predictions {'are' if dry_run else 'were'} past their retention"
    )


def _place(signing: Signing) -> list[object]:
    model = signing.model
    return [model.use_case, model.region, model.version]


def _name(signing: Signing) -> str:
    return f"{signing.model.use_case}/{signing.model.region} version {signing.model.version}"


def _plain(signing: Signing) -> dict[str, object]:
    names = ("use_case", "region", "version", "mojo_sha256", "genmodel_sha256", "signed_by")
    return {**{name: getattr(signing.model, name) for name in names}, "refused": signing.refused or None}
