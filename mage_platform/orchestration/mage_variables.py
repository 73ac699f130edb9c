"""Mage's own variables: where it keeps what it knows, who its owner is, with which key it signs logins.

Mage knows no files for secrets, only variables. They are put into the process that serves, after it has started and
before Mage is imported, so that no pod's specification and no `/proc/<pid>/environ` ever shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr

from mage_platform.errors import SettingsInvalid
from mage_platform.orchestration.project_environment import SCHEDULER_INTERVAL_SECONDS
from mage_platform.settings import PROJECT, Settings, secret_file

OWNER = "owner"
ONLY_AT_THE_START = ("DEFAULT_OWNER_PASSWORD", "JWT_SECRET")
"""Mage reads these when it is imported. No block and no notebook needs them."""
DATABASE_ADDRESS = "MAGE_DATABASE_CONNECTION_URL"
_WELL_KNOWN_PASSWORD, _WELL_KNOWN_KEY = "admin", "materia"  # Mage's own defaults, which stand in its source
_LEAST_KEY_CHARACTERS = 16


def mage_variables(
    settings: Settings, *, database_address: str, owner_password: str, session_key: str, project: Path = PROJECT
) -> dict[str, str]:
    """All variables of a Mage that serves, secrets among them: for the environment of a process, never for a log.

    Args:
        settings: Folders, the owner's login, how many branches work side by side.
        database_address: Of Mage's metadata, with the password.
        owner_password: Password of the owner's login, which Mage makes at its first start.
        session_key: Key with which Mage signs logins.
        project: Folder of the Mage project.
    """
    return {
        DATABASE_ADDRESS: database_address,
        # relative to the project: Mage appends the project's name to an absolute folder
        "MAGE_DATA_DIR": os.path.relpath(settings.state_folder.absolute() / "mage", project),
        "MAGE_REPO_PATH": str(project),
        "SCHEDULER_TRIGGER_INTERVAL": SCHEDULER_INTERVAL_SECONDS,
        "CONCURRENCY_CONFIG_BLOCK_RUN_LIMIT": str(settings.training.parallel_regions),
        "REQUIRE_USER_AUTHENTICATION": "1",
        "DEFAULT_OWNER_EMAIL": settings.mage.owner_email,
        "DEFAULT_OWNER_USERNAME": OWNER,
        "DEFAULT_OWNER_PASSWORD": owner_password,
        "JWT_SECRET": session_key,
        "HELP_IMPROVE_MAGE": "false",
        "GE_USAGE_STATS": "FALSE",
        "DO_NOT_TRACK": "1",
    }


def metadata_address(settings: Settings) -> str:
    """Address of Mage's metadata where the settings say the database is, with the password; a secret, never log it."""
    database = settings.database
    password = settings.mage_database_password.get_secret_value().strip() if settings.mage_database_password else ""
    login = f"{quote(settings.mage.database_user, safe='')}:{quote(password, safe='')}"
    name = quote(settings.mage.database, safe="")
    return f"postgresql+psycopg2://{login}@{database.host}:{database.port}/{name}"


def production_variables(settings: Settings, given: Mapping[str, str], project: Path = PROJECT) -> dict[str, str]:
    """Mage's variables in production, from the secret files. Mage never falls back to a secret that everybody knows.

    Args:
        settings: Of this process.
        given: Its environment. Address and folder of the metadata in it count: they are those of its jobs too.
        project: Folder of the Mage project.

    Raises:
        SettingsInvalid: The owner's password, the key for logins or the database's password is missing, or is one
            that Mage's source shows. Names the file.
    """
    owner_password = _secret(settings, "platform_mage_owner_password", settings.mage_owner_password)
    if owner_password == _WELL_KNOWN_PASSWORD:
        raise _refusal(settings, "platform_mage_owner_password", "holds the password of every new Mage")
    session_key = _secret(settings, "mage_session_key", None)
    if session_key == _WELL_KNOWN_KEY or len(session_key) < _LEAST_KEY_CHARACTERS:
        problem = f"holds a key that can be guessed (fewer than {_LEAST_KEY_CHARACTERS} characters)"
        raise _refusal(settings, "mage_session_key", problem)
    address = given.get(DATABASE_ADDRESS, "").strip() or _read(secret_file(settings, "mage_database_url"))
    if not address:
        _secret(settings, "platform_mage_database_password", settings.mage_database_password)
        address = metadata_address(settings)
    variables = mage_variables(
        settings, database_address=address, owner_password=owner_password, session_key=session_key, project=project
    )
    return {**variables, "MAGE_DATA_DIR": given.get("MAGE_DATA_DIR") or variables["MAGE_DATA_DIR"]}


def forget_secrets() -> None:
    """Take from this process's environment what Mage has read by now, so that no block and no notebook inherits it."""
    for name in ONLY_AT_THE_START:
        os.environ.pop(name, None)


def _secret(settings: Settings, name: str, given: SecretStr | None) -> str:
    value = given.get_secret_value().strip() if given is not None else _read(secret_file(settings, name))
    if not value:
        raise _refusal(settings, name, "is missing or empty")
    return value


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _refusal(settings: Settings, name: str, problem: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"Mage does not start in production, because the secret file {secret_file(settings, name)} {problem}: mount "
        "one there; `mage-platform secrets make` writes it",
        field=name,
    )
