"""What a check reports, and the list of all checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.manifests.admission.documents import Document, Rendered, Workload, name_of

Check = Callable[[Rendered], Iterator["Finding"]]
CHECKS: dict[str, Check] = {}
"""Every check by its name."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one object."""

    kind: str
    name: str
    field: str
    value: Any
    reason: str
    """What is wrong with the value, and what to do."""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}: {self.field} = {self.value!r}: {self.reason}"


def found(document: Document | Workload, field: str, value: Any, reason: str) -> Finding:
    """A finding about a document."""
    if isinstance(document, Workload):
        document = document.document
    return Finding(document["kind"], name_of(document), field, value, reason)


def check(function: Check) -> Check:
    """Put a function on the list of checks, under its own name."""
    CHECKS[function.__name__] = function
    return function


def examine(rendered: Rendered) -> dict[str, list[Finding]]:
    """The findings of every check that has any."""
    reported = {name: list(function(rendered)) for name, function in CHECKS.items()}
    return {name: findings for name, findings in reported.items() if findings}
