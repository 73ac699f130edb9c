"""A folder with all secret files of a deployment, one sub-folder for each Kubernetes Secret: made, and checked."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mage_platform.api_keys import create_key, read_keys
from mage_platform.errors import SettingsInvalid
from mage_platform.provisioning.private_files import read_secret, write_private
from mage_platform.provisioning.secret_files import (
    API_KEYS,
    LEAST_CHARACTERS,
    OWNER_PASSWORD,
    SecretFile,
    secret_files,
)
from mage_platform.settings import Settings

FIRST_KEY = "operations"
"""Name of the first API key; it may do everything for every use case."""
TLS = "sidecar-tls"
"""A Secret that is not made here: its certificate has to be one that callers trust."""


@dataclass
class Making:
    """What was done, by the paths of the files below the folder."""

    made: list[str] = field(default_factory=list)
    """Made up now."""
    followed: list[str] = field(default_factory=list)
    """Written anew, because the file that they follow is another one."""
    kept: list[str] = field(default_factory=list)
    """There, and left as they are."""
    closed: list[str] = field(default_factory=list)
    """Others could read them."""
    owner_password: str | None = field(default=None, repr=False)
    """The Mage owner's, when it was made up now."""
    api_key: str | None = field(default=None, repr=False)
    """The first API key, when it was made now. It is kept nowhere."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file."""

    file: str
    """Path below the folder."""
    problem: str


def make_secrets(settings: Settings, folder: Path) -> Making:
    """Write the files that are missing or empty, and those that follow from one that was replaced.

    Raises:
        SettingsInvalid: A file cannot be read or written, or a key in it is malformed.
    """
    making = Making()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in secret_files(settings):
            _make(folder, each, making)
    except OSError as error:
        raise SettingsInvalid(f"secrets cannot be written to {folder}: {error}. Name a folder of your own") from None
    return making


def check_secrets(settings: Settings, folder: Path) -> list[Fault]:
    """Everything that is missing, empty, too open, too short, or does not fit the file it follows."""
    return [
        Fault(each.path, problem)
        for each in secret_files(settings)
        for problem in _problems(folder, each, _names(settings))
    ]


def _make(folder: Path, each: SecretFile, making: Making) -> None:
    file = folder / each.path
    if not file.parent.exists():
        file.parent.mkdir(mode=0o700)
        (file.parent / ".gitignore").write_text("*\n")
    if file.parent.stat().st_mode & 0o077:
        file.parent.chmod(0o700)
        making.closed.append(each.secret)
    present = read_secret(file)
    text = _wanted(folder, each, present)
    if text is None and not present:
        making.api_key = _first_api_key(file)
        making.made.append(each.path)
        return
    if text is not None and text.strip() != present:
        write_private(file, text)
        (making.followed if present else making.made).append(each.path)
        if each.name == OWNER_PASSWORD:
            making.owner_password = text
        return
    making.kept.append(each.path)
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)
        making.closed.append(each.path)


def _wanted(folder: Path, each: SecretFile, present: str) -> str | None:
    """What the file has to hold; None where what it holds is right, or is no value that is made up."""
    if each.derive is not None:
        return each.derive(read_secret(next(folder.glob(f"*/{each.follows}"))), present)
    return each.make() if each.make is not None and not present else None


def _first_api_key(file: Path) -> str:
    file.unlink(missing_ok=True)  # an empty one is no list of keys
    key, _ = create_key(file, FIRST_KEY, use_cases=("*",), right="admin")
    file.with_name(f".{file.name}.lock").unlink(missing_ok=True)
    return key


def _names(settings: Settings) -> dict[str, SecretFile]:
    return {each.name: each for each in secret_files(settings)}


def _problems(folder: Path, each: SecretFile, names: dict[str, SecretFile]) -> Iterator[str]:
    file = folder / each.path
    if not file.is_file():
        yield "is missing: `mage-platform secrets make` makes it up"
        return
    yield from _openness(file)
    try:
        text = read_secret(file)
        if not text:
            yield "is empty: `mage-platform secrets make` makes it up"
        elif each.name == API_KEYS:
            keys = read_keys(file)
            if keys is None or not keys.keys:
                yield "has no key, so nobody is let in: `mage-platform keys create --file` makes one"
        elif each.derive is not None:
            source = read_secret(folder / names[each.follows].path)
            if source and each.derive(source, text).strip() != text:
                yield f"does not follow from {each.follows}: `mage-platform secrets make` writes it anew"
        elif "\n" in text and not text.startswith("-----BEGIN"):
            yield "has more than one line: a secret is one value"
        elif len(text) < LEAST_CHARACTERS:
            yield f"has {len(text)} characters: take {LEAST_CHARACTERS} at least, or remove it to have one made up"
    except SettingsInvalid as error:
        yield str(error)


def _openness(file: Path) -> Iterator[str]:
    for path, wanted in ((file.parent, 0o700), (file, 0o600)):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            which = "its folder" if path is file.parent else "it"
            cure = "`mage-platform secrets make` closes it"
            yield f"others can get at it: {which} has mode {mode:04o}, not {wanted:04o}; {cure}"
