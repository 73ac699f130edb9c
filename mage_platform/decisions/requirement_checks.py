"""Rules about versions: of Python packages, and of the servers the platform stands on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mage_platform.decisions.findings import Finding
from mage_platform.decisions.image_checks import images
from mage_platform.decisions.project import Project

LEAST_PACKAGES = {"fastapi": "0.100", "h2o": "3"}
LEAST_IMAGES = {"postgres": "15", "redis": "7", "valkey": "7", "kubectl": "1.28"}
_INSTALL = re.compile(r"\b(?:pip3?|uv pip|uv tool) install\b([^&|;]*)")


def floating_requirements(project: Project) -> Iterator[Finding]:
    """Requirements that are not one exact version."""
    for path in project.requirements:
        for line, text in _lines(project.text(path)):
            fault = _fault(text)
            if fault:
                yield Finding(path, line, "pinned-requirements", fault)
    for path, instructions in project.dockerfiles.items():
        for each in instructions:
            for command in _INSTALL.findall(each.value) if each.name == "RUN" else ():
                yield from (
                    Finding(path, each.line, "pinned-requirements", fault)
                    for fault in map(_fault, _packages(command))
                    if fault
                )


def old_versions(project: Project) -> Iterator[Finding]:
    """Packages and images older than the platform needs."""
    for path in project.requirements:
        for line, text in _lines(project.text(path)):
            requirement = _requirement(text)
            least = LEAST_PACKAGES.get(requirement.name.lower()) if requirement else None
            pinned = (
                next((each.version for each in requirement.specifier if each.operator == "=="), None)
                if requirement
                else None
            )
            if least and pinned and Version(pinned) < Version(least):
                message = f"{text} is older than {least}"
                yield Finding(path, line, "supported-versions", message)
    for path, line, image in images(project):
        name, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
        least, number = LEAST_IMAGES.get(name), re.match(r"v?(\d+(\.\d+)*)", tag)
        if least and number and Version(number.group(1)) < Version(least):
            yield Finding(path, line, "supported-versions", f"{image} is older than {least}")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of each requirement, joined where it goes on; without options, hashes and comments."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if joined else number
        joined += " " + re.sub(r"(^|\s)#.*$", "", line).strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        content = re.split(r"\s--hash", joined.strip())[0].strip()
        joined = ""
        if content and not content.startswith("-"):
            yield first, content


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _fault(text: str) -> str | None:
    requirement = _requirement(text)
    if requirement is None:
        return f"{text} is no requirement"
    if requirement.url is not None:
        fixed = re.search(r"(@[0-9a-f]{40}$)|(sha256=[0-9a-f]{64})", requirement.url)
        return None if fixed else f"{requirement.name} comes from an address without a commit or digest"
    pins = [each for each in requirement.specifier if each.operator in ("==", "===") and not each.version.endswith("*")]
    if not pins:
        return f"{text} is not pinned to one version"
    try:
        Version(pins[0].version)
    except InvalidVersion:
        return f"{text} names no version"
    return None


def _packages(arguments: str) -> list[str]:
    """What a pip command installs by name: no options, files or paths."""
    try:
        words = shlex.split(arguments.replace("\n", " "))
    except ValueError:
        words = arguments.split()
    packages, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in (
            "-r",
            "-c",
            "--requirement",
            "--constraint",
            "--target",
            "-t",
            "--prefix",
            "--python",
            "-p",
            "--index-url",
        ):
            skip = True
        elif not word.startswith(("-", ".", "/", "$")) and not word.endswith((".whl", ".txt", ".tar.gz")):
            packages.append(word)
    return packages
