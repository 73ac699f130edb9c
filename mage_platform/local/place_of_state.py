"""Which folder holds all local data, and which folder must not. Only the standard library: bootstrap asks too."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LOCK = "stack.lock"
"""Lies in every folder that a stack has been started on."""
_MADE_BEFORE_THE_FIRST_START = {
    "installer", "secrets", "logs", "bench", "runs", "mage", "serving", "postgres.unfinished", "lost+found",
    "images", "feast-environment", "peers-environment", "schemathesis-environment", "manifest-tools-environment",
}  # fmt: skip


def chosen(project: Path = PROJECT) -> Path:
    """The state folder the environment asks for; an empty variable asks for nothing."""
    return Path(os.environ.get("PLATFORM_STATE_FOLDER") or project / ".platform").absolute()


def why_not(folder: Path, project: Path = PROJECT) -> str:
    """Why a folder must not be the state folder: its rights are taken from others, and `make reset` removes it whole.

    Args:
        folder: Absolute path.
        project: Root of the checkout.

    Returns:
        What is wrong with it; empty for a folder that does not exist yet, is empty, or has been one before.
    """
    place = folder.resolve()
    if place == project or place in project.parents:
        return "it holds the checkout itself"
    if not place.is_dir() or (place / LOCK).exists():
        return ""
    foreign = sorted(each.name for each in place.iterdir() if each.name not in _MADE_BEFORE_THE_FIRST_START)
    if not foreign:
        return ""
    more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
    return f"it holds other files: {', '.join(foreign[:3])}{more}"
