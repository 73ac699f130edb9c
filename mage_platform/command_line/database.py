"""`mage-platform database`: roles, databases and tables of a deployment."""

from __future__ import annotations

from dataclasses import asdict

import click
import psycopg
from pydantic import SecretStr

from mage_platform.command_line.output import json_option, print_json
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import ContractViolated, DatabaseUnavailable, SettingsInvalid
from mage_platform.provisioning.databases import Changes, LoginPasswords, provision_databases
from mage_platform.provisioning.mage_owner import (
    WELL_KNOWN_OWNER,
    OwnerLogin,
    lock_well_known_owner,
    mend_owner_login,
)
from mage_platform.provisioning.private_files import read_secret
from mage_platform.provisioning.superuser import SECRET, Superuser, await_postgres
from mage_platform.provisioning.tables import await_database, await_tables, bring_up_to_date
from mage_platform.settings import Settings, secret_file

wait_option = click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait so long for it."
)


@click.group()
def database() -> None:
    """Roles, databases and tables of a deployment.

    \b
    In a cluster Jobs do this, in this order; the local stack does it by itself:
      mage-platform database provision   roles, databases, PgBouncer's look-up, the Mage login
      mage-platform database migrate     the platform's tables
      mage-platform database status      whether the tables are there
    """


@database.command()
@click.option("--host", help="PostgreSQL itself, not PgBouncer [default: PLATFORM_PROVISIONING__HOST]")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port [default: PLATFORM_PROVISIONING__PORT]")
@click.option("--superuser", help="Its superuser [default: PLATFORM_PROVISIONING__SUPERUSER]")
@wait_option
@json_option
def provision(host: str | None, port: int | None, superuser: str | None, wait_seconds: float, as_json: bool) -> None:
    """Make or mend roles, databases and logins.

    The roles platform, mage and pgb_auth get the passwords of their secret files, the two databases their owners,
    PgBouncer the function with which it looks up logins, and Mage's owner the password of its secret. What is right is
    left alone, so it can be run at any time, and has to be after a secret was replaced.

    It connects to PostgreSQL itself: through PgBouncer no superuser gets in. Secret files it reads:
    postgres_superuser_password, pgbouncer_password, platform_database_password, platform_mage_database_password,
    platform_mage_owner_password.

    \b
    Example:
      mage-platform database provision --host postgres --wait 120
    """
    settings = present_settings()
    place = settings.provisioning
    way = Superuser(host or place.host, port or place.port, superuser or place.superuser, _from_file(settings, SECRET))
    passwords = LoginPasswords(
        platform=_needed(settings, settings.database_password, "platform_database_password"),
        mage=_needed(settings, settings.mage_database_password, "platform_mage_database_password"),
        pooler=_from_file(settings, "pgbouncer_password"),
    )
    owner_password = _needed(settings, settings.mage_owner_password, "platform_mage_owner_password")
    await_postgres(way, wait_seconds, _tell)
    try:
        changes = provision_databases(settings, way, passwords)
        login = mend_owner_login(settings, way, owner_password)
        locked = lock_well_known_owner(settings, way)
    except psycopg.Error as error:
        raise _explained(way, error) from error
    if as_json:
        print_json({**asdict(changes), "mage_owner": login.value, "well_known_owner_locked": locked})
    else:
        _print(settings, changes, login, locked=locked)


@database.command()
@wait_option
@json_option
def migrate(wait_seconds: float, as_json: bool) -> None:
    """Bring the platform's tables up to date.

    Applies the migrations that the database lacks, all in one transaction, as the role of PLATFORM_DATABASE__USER and
    in production through PgBouncer. Two at once are safe: the second waits and finds nothing to do.

    \b
    Example:
      mage-platform database migrate --wait 60
    """
    settings = present_settings()
    await_database(settings, wait_seconds, _tell)
    applied = bring_up_to_date(settings)
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply: the tables are up to date")


@database.command()
@wait_option
@json_option
def status(wait_seconds: float, as_json: bool) -> None:
    """Tell whether the platform's tables are up to date.

    The exit code is 0 when nothing is pending and 1 otherwise, also when the database does not answer. It changes
    nothing.

    \b
    Example, before something starts that needs the tables:
      mage-platform database status --wait 300
    """
    settings = present_settings()
    try:
        state = await_tables(settings, wait_seconds, _tell)
    except ContractViolated as error:
        if as_json:
            print_json({"up_to_date": False, "answers": True, "pending": [], "reason": str(error)})
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    if as_json:
        print_json({"up_to_date": state.up_to_date, **asdict(state)})
    elif state.up_to_date:
        click.echo("the tables are up to date")
    if not state.up_to_date:
        click.echo(state.reason, err=True)
        raise SystemExit(1)


def _from_file(settings: Settings, name: str) -> SecretStr:
    return _needed(settings, SecretStr(read_secret(secret_file(settings, name))), name)


def _needed(settings: Settings, secret: SecretStr | None, name: str) -> SecretStr:
    if secret is None or not secret.get_secret_value().strip():
        raise SettingsInvalid(
            f"the secret file {secret_file(settings, name)} is missing or empty: mount it there; "
            "`mage-platform secrets make` writes it",
            field=name,
        )
    return SecretStr(secret.get_secret_value().strip())


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def _explained(superuser: Superuser, error: psycopg.Error) -> SettingsInvalid | DatabaseUnavailable:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return SettingsInvalid(
            f"{superuser.user} may not set up PostgreSQL at {superuser.address} ({said}): name a superuser with "
            "--superuser or PLATFORM_PROVISIONING__SUPERUSER",
            field="provisioning.superuser",
        )
    return DatabaseUnavailable(
        f"PostgreSQL at {superuser.address} did not take it: {said}. Mend that, and run the command again"
    )


def _print(settings: Settings, changes: Changes, login: OwnerLogin, *, locked: bool) -> None:
    for verb, things in (("made", changes.made), ("mended", changes.mended)):
        for thing in things:
            click.echo(f"{verb} {thing}")
    if not changes.made and not changes.mended:
        click.echo("roles and databases are right already")
    owner = settings.mage.owner_email
    said = {
        OwnerLogin.NOT_YET: f"Mage has no tables yet: its first start makes the login {owner} from the secret",
        OwnerLogin.MISSING: f"Mage has no login {owner}: its next start makes it, unless another owner is there",
        OwnerLogin.RIGHT: f"the Mage login {owner} has the password of its secret",
        OwnerLogin.MENDED: f"mended Mage login {owner}: restart Mage, which may remember its former password",
    }
    click.echo(said[login])
    if locked:
        click.echo(f"locked Mage login {WELL_KNOWN_OWNER}: it had the password that everybody knows")
