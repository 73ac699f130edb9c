"""Why models are not the ones that answer, and when each is tried again."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from mage_platform.contracts import ModelVersion
from mage_platform.errors import ArtifactCorrupt, SignatureInvalid

log = structlog.get_logger()
RETRY_SECONDS = 5.0
"""Pause before a model that could not be loaded is tried again; doubled each time."""
LONGEST_RETRY_SECONDS = 60.0

Key = tuple[str, str]
"""Use case and region."""


@dataclass(frozen=True)
class LoadFault:
    """Why a version is not the one that answers."""

    use_case: str
    region: str
    version: int
    reason: str
    since: datetime
    retry_at: float
    """Monotonic seconds."""
    pause_seconds: float


class LoadFaults:
    """The faults of one alias.

    Args:
        alias: champion or challenger.
    """

    def __init__(self, alias: str) -> None:
        self.by_key: Mapping[Key, LoadFault] = {}
        """Replaced as a whole, never changed."""
        self._alias = alias

    def of(self, key: Key, version: int) -> LoadFault | None:
        """The fault of this very version."""
        fault = self.by_key.get(key)
        return fault if fault is not None and fault.version == version else None

    def waits(self, key: Key, version: int) -> bool:
        """Whether a version has failed and is not to be tried yet."""
        fault = self.of(key, version)
        return fault is not None and fault.retry_at > time.monotonic()

    def due(self) -> bool:
        """Whether some version is to be tried again."""
        now = time.monotonic()
        return any(fault.retry_at <= now for fault in self.by_key.values())

    def clear(self, key: Key) -> None:
        """Forget a fault."""
        if key in self.by_key:
            self.by_key = {other: fault for other, fault in self.by_key.items() if other != key}

    def keep(self, keys: Collection[Key]) -> None:
        """Forget the faults of all others."""
        self.by_key = {key: fault for key, fault in self.by_key.items() if key in keys}

    def note(self, model: ModelVersion, error: Exception, keeps_serving: int | None) -> None:
        """Keep why a version could not be loaded, and say it once in the log; what was refused, for whoever audits.

        Args:
            model: The version.
            error: What went wrong.
            keeps_serving: Version that answers meanwhile, if any.
        """
        key = model.use_case, model.region
        before = self.of(key, model.version)
        pause = min(before.pause_seconds * 2, LONGEST_RETRY_SECONDS) if before else RETRY_SECONDS
        fault = LoadFault(
            use_case=model.use_case,
            region=model.region,
            version=model.version,
            reason=str(error) or type(error).__name__,
            since=before.since if before else datetime.now(UTC),
            retry_at=time.monotonic() + pause,
            pause_seconds=pause,
        )
        self.by_key = {**self.by_key, key: fault}
        if before is not None and before.reason == fault.reason:
            return  # said once; /health/ready tells it as long as it lasts
        refused = isinstance(error, (ArtifactCorrupt, SignatureInvalid))
        log.error(
            "model refused" if refused else "model not loaded",
            audit=refused,
            alias=self._alias,
            use_case=model.use_case,
            region=model.region,
            version=model.version,
            mojo_sha256=model.mojo_sha256,
            signed_by=model.signed_by,
            reason=fault.reason,
            keeps_serving=keeps_serving,
        )
