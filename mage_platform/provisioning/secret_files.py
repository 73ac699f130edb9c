"""Every secret file of a deployment: to which Kubernetes Secret it belongs, how it is made, and what follows from it.

A file that follows another one (PgBouncer's list of users, Mage's database address, the public half of the signing key)
is compared with what it would be: `deriving` gives it from the other file and from what it holds now, so that whatever
else was written into it stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from mage_platform.provisioning.databases import POOLER
from mage_platform.provisioning.private_files import new_password
from mage_platform.registry.signatures import new_signing_key, with_public_half
from mage_platform.settings import Settings

H2O_LOGIN = "platform"
"""Name with which the platform logs in at H2O; the password is the secret `platform_h2o_password`."""
API_KEYS = "platform_api_keys"
OWNER_PASSWORD = "platform_mage_owner_password"
SESSION_KEY = "mage_session_key"
DATABASE_ADDRESS = "mage_database_url"
POOLER_ADDRESS = "pgbouncer:6432"
"""Where Mage finds PgBouncer in a cluster."""
LEAST_CHARACTERS = 12
"""A password that is shorter was made up by a person."""

Derive = Callable[[str, str], str]
"""From the file that is followed, and from what the following one holds now (empty when it is not there)."""


@dataclass(frozen=True)
class SecretFile:
    """One file: `<folder>/<secret>/<name>`."""

    secret: str
    """Name of the Kubernetes Secret."""
    name: str
    """Its key there, and the name of the file that pods see."""
    make: Callable[[], str] | None = None
    """Makes it up at random. None for one that follows another, and for the API keys."""
    follows: str = ""
    """Name of the file from which it follows, of the same or of another Secret."""
    derive: Derive | None = None

    @property
    def path(self) -> str:
        """Below the folder of all."""
        return f"{self.secret}/{self.name}"


def secret_files(settings: Settings) -> tuple[SecretFile, ...]:
    """All of them; a file that follows another stands after it."""
    return (
        SecretFile("postgres-superuser", "postgres_superuser_password", new_password),
        SecretFile("pgbouncer", "pgbouncer_password", new_password),
        SecretFile("pgbouncer", "userlist.txt", follows="pgbouncer_password", derive=_user_list),
        SecretFile("platform-database", "platform_database_password", new_password),
        SecretFile("mage", "platform_mage_database_password", new_password),
        SecretFile(
            "mage",
            DATABASE_ADDRESS,
            follows="platform_mage_database_password",
            derive=lambda password, present: _mage_address(settings, password, present),
        ),
        SecretFile("mage", OWNER_PASSWORD, new_password),
        SecretFile("mage", SESSION_KEY, new_password),
        SecretFile("signing", "platform_signing_key", new_signing_key),
        SecretFile(
            "verification-keys", "platform_verification_keys", follows="platform_signing_key", derive=with_public_half
        ),
        SecretFile("api-keys", API_KEYS),
        SecretFile("redis", "platform_redis_password", new_password),
        SecretFile("h2o", "platform_h2o_password", new_password),
        SecretFile("h2o", "realm.properties", follows="platform_h2o_password", derive=_realm),
    )


def _user_list(password: str, present: str) -> str:
    """PgBouncer's list of users; a quote in a password is doubled.

    >>> _user_list('secret', '"other" "theirs"')
    '"other" "theirs"\\n"pgb_auth" "secret"\\n'
    """
    entry = f'"{POOLER}" '
    quoted = password.replace('"', '""')
    return _with_line(present, entry, f'{entry}"{quoted}"')


def _realm(password: str, present: str) -> str:
    """The users of H2O, as Jetty's HashLoginService reads them: `name: password,role`.

    MD5 without salt keeps only what nobody can guess, such as the random password made here.

    >>> _realm('secret', '')
    'platform: MD5:5ebe2294ecd0e0f08eab7690d2a6ee69,user\\n'
    """
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    return _with_line(present, f"{H2O_LOGIN}:", f"{H2O_LOGIN}: MD5:{digest},user")


def _mage_address(settings: Settings, password: str, present: str) -> str:
    """Address of Mage's metadata; host and database of one that is there stay."""
    login = f"{quote(settings.mage.database_user, safe='')}:{quote(password, safe='')}"
    place = urlsplit(present)
    if not place.scheme.startswith("postgresql") or not place.hostname:
        return f"postgresql+psycopg2://{login}@{POOLER_ADDRESS}/{quote(settings.mage.database, safe='')}"
    return urlunsplit(place._replace(netloc=f"{login}@{place.netloc.rpartition('@')[2]}"))


def _with_line(text: str, start: str, line: str) -> str:
    """The text with this line in the place of the one that starts so, or at the end."""
    lines = text.splitlines()
    for number, each in enumerate(lines):
        if each.startswith(start):
            lines[number] = line
            break
    else:
        lines.append(line)
    return "\n".join(lines) + "\n"
