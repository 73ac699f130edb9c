"""`mage-platform secrets`: the secret files of a deployment."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mage_platform.command_line.output import json_option, print_json
from mage_platform.provisioning.secret_folder import FIRST_KEY, TLS, Making, check_secrets, make_secrets
from mage_platform.settings import Settings, load_settings

folder_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def secrets() -> None:
    """The secret files of a deployment.

    They lie in one folder, with a sub-folder for each Kubernetes Secret: FOLDER/mage/mage_session_key is the key
    mage_session_key of the Secret mage. Nothing of them belongs into a repository.
    """


@secrets.command()
@folder_argument
@json_option
def make(folder: Path, as_json: bool) -> None:
    """Write the secret files that are missing into FOLDER.

    Passwords and keys are made up at random, modes are 0600 and 0700, and what is there is kept. The password of Mage's
    owner and the first API key are shown once, when they are made.

    To replace a secret remove its file and run this again: what follows from it is written anew (userlist.txt,
    mage_database_url, platform_verification_keys, which keeps the former public keys, realm.properties). Then bring
    the Secrets to the cluster, run `mage-platform database provision`, and restart the pods that use it. The
    superuser's password has to be changed in PostgreSQL first: ALTER ROLE postgres PASSWORD '...'.

    The certificate of the Ingress is not made: let cert-manager make the Secret sidecar-tls, or
    `kubectl create secret tls sidecar-tls --cert=... --key=...`.

    \b
    Example:
      mage-platform secrets make ~/platform-secrets
    """
    settings = load_settings()
    making = make_secrets(settings, folder)
    if as_json:
        print_json(_as_json(settings, folder, making))
    else:
        _print(settings, folder, making)


@secrets.command()
@folder_argument
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Find secret files that are missing, empty, too open or unfit.

    Unfit is a file that does not follow from the one it has to (mage_database_url has another password than
    platform_mage_database_password), or a password of fewer than 12 characters. The exit code is 1 when there is a
    fault. No value is shown.
    """
    faults = check_secrets(load_settings(), folder)
    if as_json:
        print_json({"right": not faults, "faults": [asdict(fault) for fault in faults]})
    else:
        for fault in faults:
            click.echo(f"{folder / fault.file}: {fault.problem}")
        click.echo(f"{len(faults)} faults" if faults else "all secret files are there and fit together")
    raise SystemExit(1 if faults else 0)


def _as_json(settings: Settings, folder: Path, making: Making) -> dict[str, object]:
    lists = {"made": making.made, "followed": making.followed, "kept": making.kept, "closed": making.closed}
    shown: dict[str, object] = {}
    if making.owner_password is not None:
        shown["mage_owner"] = {"email": settings.mage.owner_email, "password": making.owner_password}
    if making.api_key is not None:
        shown["api_key"] = {"name": FIRST_KEY, "key": making.api_key}
    return {"folder": str(folder), **lists, "not_made": [TLS], **shown}


def _print(settings: Settings, folder: Path, making: Making) -> None:
    done = (
        ("made", making.made),
        ("written anew, as what it follows is new", making.followed),
        ("closed to others", making.closed),
    )
    for what, paths in done:
        for path in paths:
            click.echo(f"{what}: {folder / path}")
    click.echo(f"{len(making.made)} made, {len(making.followed)} written anew, {len(making.kept)} kept")
    click.echo(
        f"The Secret {TLS} is not made: let cert-manager do it, or "
        f"`kubectl create secret tls {TLS} --cert=... --key=...`",
        err=True,
    )
    if making.owner_password is not None:
        click.echo(f"Mage login: {settings.mage.owner_email}  password: {making.owner_password}")
    if making.api_key is not None:
        click.echo(f"API key {FIRST_KEY!r}, shown this once: {making.api_key}")
