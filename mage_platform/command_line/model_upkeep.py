"""`mage-platform models sign`: vouching for what is registered."""

from __future__ import annotations

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.registry import Signing, sign_registered, signing_key, verification_keys


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


def _place(signing: Signing) -> list[object]:
    model = signing.model
    return [model.use_case, model.region, model.version]


def _name(signing: Signing) -> str:
    return f"{signing.model.use_case}/{signing.model.region} version {signing.model.version}"


def _plain(signing: Signing) -> dict[str, object]:
    names = ("use_case", "region", "version", "mojo_sha256", "genmodel_sha256", "signed_by")
    return {**{name: getattr(signing.model, name) for name in names}, "refused": signing.refused or None}
