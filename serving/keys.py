"""The keys that count at the moment, kept equal to their file.

The file is looked at every second, away from the requests, by what its path leads to: an atomic rename and the symbolic
link that Kubernetes swaps are seen alike. A file that is broken, or gone, leaves the keys as they were; the log and
`/health/ready` say so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import structlog

from mage_platform.api_keys import keys_file, read_keys
from mage_platform.contracts.keys import EVERY_USE_CASE, ApiKey, ApiKeys
from mage_platform.errors import SettingsInvalid
from mage_platform.settings import Settings
from serving.encoding import Fault
from serving.rate_limit import Bucket, bucket
from serving.refusals import NotAllowed

log = structlog.get_logger()
LOOK_SECONDS = 1.0

_Identity = tuple[int, int, int, int]


class Holder:
    """Whose key came with a request.

    Args:
        key: What is kept of the key.
        bucket: Its limit, if any.
    """

    __slots__ = ("_use_cases", "admin", "bucket", "expires", "key", "name")

    def __init__(self, key: ApiKey, bucket: Bucket | None) -> None:
        self.key = key
        self.name = key.name
        self.admin = key.right == "admin"
        self.bucket = bucket
        self.expires = key.expires.timestamp() if key.expires else None
        """POSIX seconds."""
        self._use_cases = None if EVERY_USE_CASE in key.use_cases else frozenset(key.use_cases)

    def allows(self, use_case: str) -> bool:
        """Whether the key is for a use case."""
        return self._use_cases is None or use_case in self._use_cases

    def require(self, use_case: str) -> None:
        """Let this caller use a use case.

        Raises:
            NotAllowed: The key is not for it.
        """
        if self._use_cases is not None and use_case not in self._use_cases:
            own = ", ".join(repr(name) for name in sorted(self._use_cases))
            raise NotAllowed(
                f"the key {self.name!r} is not for use case {use_case!r}, only for {own}",
                Fault("use_case", "is not what this key is for", use_case),
            )


class Keyring:
    """The keys that count.

    Args:
        file: Where they are kept.
        per_second: Limit of keys without one of their own.
        burst: Requests that such a key may make at once.

    Raises:
        SettingsInvalid: The file is there, but cannot be read or does not hold keys.
    """

    def __init__(self, file: Path, per_second: float | None = None, burst: int | None = None) -> None:
        self.file = file
        self.holders: Mapping[bytes, Holder] | None = None
        """By SHA-256 of the key; None as long as there was no file. Replaced as a whole, never changed."""
        self.fault = ""
        """Why what the file holds now is not what counts."""
        self._limit = per_second, burst
        self._seen = _identity(file)
        keys = read_keys(file)
        if keys is not None:
            self._take(keys)

    def look(self) -> None:
        """Take over what the file holds, if it has changed since the last look."""
        seen = _identity(self.file)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            keys = read_keys(self.file)
            if keys is None:
                raise SettingsInvalid(f"the key file {self.file} is gone")
        except SettingsInvalid as error:
            if self.holders is None:
                return self._keep("no key is needed as before", error)
            return self._keep(f"the {len(self.holders)} keys from before count on", error)
        before = self.holders or {}
        self._take(keys)
        self.fault = ""
        log.info("api keys read", keys=len(keys.keys), gone=sorted(_names(before) - _names(self.holders)))
        return None

    async def watch(self) -> None:
        """Say in the log who is let in; then look again and again, until cancelled."""
        if self.holders is None:
            log.warning("no api key is needed: everybody who reaches this address is answered", file=str(self.file))
        else:
            log.info("api keys read", keys=len(self.holders))
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.look)  # the folder may be on a network
            except Exception:  # the edge of the task: whatever it is, the watching goes on
                log.exception("watching the API keys failed")

    def _take(self, keys: ApiKeys) -> None:
        before = self.holders or {}
        self.holders = {bytes.fromhex(key.sha256): self._holder(key, before) for key in keys.keys}

    def _holder(self, key: ApiKey, before: Mapping[bytes, Holder]) -> Holder:
        same = before.get(bytes.fromhex(key.sha256))
        if same is not None and same.key == key:
            return same  # with what is left in its bucket
        if key.requests_per_second is not None:
            return Holder(key, bucket(key.requests_per_second, key.burst))
        per_second, burst = self._limit
        return Holder(key, bucket(per_second, key.burst or burst))

    def _keep(self, what: str, error: SettingsInvalid) -> None:
        self.fault = f"{error.message}; {what}"
        log.error("api keys not read", reason=error.message, consequence=what)


def keyring(settings: Settings) -> Keyring:
    """The keys of this deployment.

    Raises:
        SettingsInvalid: The file is broken; or there is none, which only a local sidecar on loopback may do without.
    """
    door = settings.sidecar
    keys = Keyring(keys_file(settings), door.requests_per_second, door.request_burst)
    if keys.holders is None and not door.anonymous:
        where = (
            "in production"
            if settings.environment == "production"
            else f"where it listens beyond this machine (on {door.host})"
            if not _loopback(door.host)
            else ""
        )
        if where:
            raise SettingsInvalid(
                f"there is no key file {keys.file}, and the prediction API does not answer everybody {where}: "
                "`mage-platform keys create NAME --use-case USE_CASE` makes a key and the file, or "
                "PLATFORM_SIDECAR__ANONYMOUS=true lets everybody in",
                field="sidecar.anonymous",
            )
    return keys


def _names(holders: Mapping[bytes, Holder] | None) -> set[str]:
    return {holder.name for holder in (holders or {}).values()}


def over(moment: float | None) -> bool:
    """Whether a moment (POSIX seconds) has passed.

    >>> over(None), over(1.7e9), over(1e12)
    (False, True, False)
    """
    return moment is not None and moment <= time.time()


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _identity(file: Path) -> _Identity | None:
    """What tells whether another file, or another content, lies at a path; None when there is nothing."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
