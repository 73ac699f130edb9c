"""The deployments last seen in the registry, kept on the disk beside their artifacts for a start without PostgreSQL.

The file holds what the registry said of each version. Nothing of it is trusted for being there: before a model is
loaded, its signature is verified against the keys of this process, and its files against the digests that were signed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import AwareDatetime, ValidationError

from mage_platform.contracts import Deployment
from mage_platform.contracts.strict import Contract

log = structlog.get_logger()
STEM = "last_seen"


class LastSeen(Contract):
    """What the registry said when it was last read.

    Args:
        seen_at: When.
        deployments: Champions and challengers, the most used first.
    """

    seen_at: AwareDatetime
    deployments: list[Deployment]


def keep(folder: Path, seen_at: AwareDatetime, deployments: Sequence[Deployment]) -> None:
    """Write the deployments down; the file appears whole or not at all.

    Args:
        folder: Where the artifacts are.
        seen_at: When the registry was read.
        deployments: The most used first.
    """
    text = LastSeen.model_construct(seen_at=seen_at, deployments=list(deployments)).model_dump_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{STEM}")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            Path(name).replace(_place(folder))
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        # It serves all the same; only a start without PostgreSQL would find an older state, or none.
        log.warning("last seen champions not kept", folder=str(folder), reason=str(error))


def read(folder: Path) -> LastSeen | None:
    """What was kept; None when nothing was, or what lies there cannot be read."""
    try:
        return LastSeen.model_validate_json(_place(folder).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("last seen champions not readable", file=str(_place(folder)), reason=str(error).splitlines()[0])
        return None


def _place(folder: Path) -> Path:
    return folder / f"{STEM}.json"
