"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One place that breaks a rule."""

    path: str
    """Relative to the project, with slashes."""
    line: int
    """From 1."""
    rule: str
    """Its id."""
    message: str
    """What stands there, with the value."""
