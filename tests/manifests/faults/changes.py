"""One small change to rendered documents, and what is said of it."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.manifests.admission import Document

Change = Callable[[list[Document]], None]
POD = "spec.template.spec"
FIRST = f"{POD}.containers[0]"
_STEP = re.compile(r"\{([^}]+)\}|\[([^\]]+)\]|([^.\[\]{}]+)")


@dataclass(frozen=True)
class Fault:
    """Something wrong, which exactly one check reports.

    Args:
        name: What is wrong.
        change: Makes it wrong.
        check: The check that must say so.
        words: Stand in what it says, beside the object's name.
        also: Checks that cannot but say something too.
    """

    name: str
    change: Change
    check: str
    words: Sequence[str]
    also: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NearMiss:
    """Something that looks wrong and is right: nothing may be reported."""

    name: str
    change: Change


def changed(documents: Sequence[Document], change: Change) -> list[Document]:
    """A changed copy of documents."""
    draft = copy.deepcopy(list(documents))
    change(draft)
    return draft


def put(which: str, field: str, value: Any) -> Change:
    """Set a field.

    Args:
        which: `Kind/name`; `*` as kind stands for whatever makes pods.
        field: As in `spec.ports[0].targetPort`; a key with dots stands in braces; `[mage]` is the item of this
            name (or mount path), `[+]` a new one.
        value: What to put there.
    """

    def change(documents: list[Document]) -> None:
        parent, last = _parent(one(documents, which), field)
        if last == "+":
            parent.append(copy.deepcopy(value))
        else:
            parent[last] = copy.deepcopy(value)

    return change


def drop(which: str, field: str) -> Change:
    """Remove a field or an item of a list."""

    def change(documents: list[Document]) -> None:
        parent, last = _parent(one(documents, which), field)
        del parent[last]

    return change


def remove(which: str) -> Change:
    """Leave out a whole object."""
    return lambda documents: documents.remove(one(documents, which))


def add(document: Document) -> Change:
    """Add an object, into the namespace of the others."""

    def change(documents: list[Document]) -> None:
        namespace = next(each["metadata"]["name"] for each in documents if each["kind"] == "Namespace")
        added = copy.deepcopy(document)
        added["metadata"].setdefault("namespace", namespace)
        documents.append(added)

    return change


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(documents: list[Document]) -> None:
        for each in changes:
            each(documents)

    return change


def one(documents: Sequence[Document], which: str) -> Document:
    """The object of a kind and a name; the hash that kustomize puts behind a name does not count."""
    kind, name = which.split("/")
    found = [
        each
        for each in documents
        if re.fullmatch(rf"{name}(-[2-9bcdfghkmt]{{10}})?", each["metadata"]["name"])
        and (each["kind"] == kind or (kind == "*" and each["kind"] in ("Deployment", "StatefulSet", "CronJob", "Job")))
    ]
    assert len(found) == 1, f"{which}: {len(found)} such objects"
    return found[0]


def _parent(document: Document, field: str) -> tuple[Any, Any]:
    """Where the last step of a field leads off, and that step; what is missing on the way is made."""
    steps = [braced or named or plain for braced, named, plain in _STEP.findall(field)]
    here: Any = document
    for step, following in itertools.pairwise(steps):
        key = _key(here, step)
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = [] if following == "+" else {}
        here = here[key]
    return here, _key(here, steps[-1])


def _key(here: Any, step: str) -> Any:
    if not isinstance(here, list) or step == "+":
        return step
    if step.isdigit():
        return int(step)
    return next(number for number, each in enumerate(here) if step in (each.get("name"), each.get("mountPath")))
