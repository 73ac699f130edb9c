"""Images are named by an exact version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifests.admission.documents import Rendered
from tests.manifests.admission.findings import Finding, check, found

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:[-_+.a-z0-9]*)")
_TWO_NUMBERS = {"postgres", "debian"}
"""Projects whose whole version is two numbers."""


@check
def images_have_exact_versions(rendered: Rendered) -> Iterator[Finding]:
    """`:latest`, `:7` or `:3.11` is another image tomorrow."""
    for workload in rendered.workloads:
        for container in workload.containers:
            image = str(container.spec.get("image", ""))
            if reason := why_not_exact(image):
                yield found(workload, f"{container.where}.image", image, reason)


def why_not_exact(image: str) -> str:
    """What is missing in the name of an image; empty when it is exact.

    >>> why_not_exact("python:3.11.7-slim-bookworm"), why_not_exact("docker.io/library/postgres:15.8")
    ('', '')
    >>> why_not_exact("valkey/valkey:7")
    'the tag 7 moves: give the whole version'
    """
    name, _, digest = image.partition("@")
    if digest:
        return "" if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else f"{digest} is not a digest"
    path, _, tag = name.rpartition(":")
    if not path or "/" in tag:
        return "has no tag: give the whole version"
    version = _VERSION.fullmatch(tag)
    wanted = 2 if path.rpartition("/")[2] in _TWO_NUMBERS else 3
    if version is None or len(version.group(1).split(".")) < wanted:
        return f"the tag {tag} moves: give the whole version"
    return ""
