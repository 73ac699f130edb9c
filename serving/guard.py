"""The guard at the door: whose key came, whether it is good for what is asked, and whether it asks too often.

It looks at headers alone, so a refused request costs no more than they do. A key is looked up by its SHA-256: what the
time of the look-up tells is something about a digest, from which nobody gets to a key.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

from mage_platform.settings import Settings
from serving.calls import Call, Header
from serving.keys import Holder, Keyring, over
from serving.rate_limit import Bucket, bucket
from serving.refusals import KeyRefused, NotAllowed, TooManyRequests

HEALTH = ("/health/live", "/health/ready")
DOCUMENTS = ("/docs", "/openapi.json")
METRICS = "/metrics"


class DoorGuard:
    """Lets requests in by their key.

    Args:
        keys: The keys that count.
        anonymous: Whether requests without a key are let in although there are keys.
        open_paths: Need no key; each with all that lies below it.
        admin_paths: Need a key with the right `admin`; each with all that lies below it.
        limit: Of all requests without a key together.
    """

    def __init__(
        self,
        keys: Keyring,
        *,
        anonymous: bool = False,
        open_paths: Sequence[str] = HEALTH,
        admin_paths: Sequence[str] = (),
        limit: Bucket | None = None,
    ) -> None:
        self._keys = keys
        self._anonymous = anonymous
        self._open = tuple(open_paths)
        self._admin = tuple(admin_paths)
        self._limit = limit

    def admit(self, call: Call) -> None:
        """Let a request in, and note its caller.

        Raises:
            KeyRefused: It needs a key and brings none, or one that does not count.
            NotAllowed: The key lacks the right.
            TooManyRequests: The caller asks too often.
        """
        holders = self._keys.holders
        if holders is None:
            return self._admit_stranger(call)
        key = _key(call.headers)
        if key is None:
            if self._anonymous or _below(call.route, self._open):
                return self._admit_stranger(call)
            raise KeyRefused(
                "a key is needed: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`",
                sent=False,
                browser=_from_browser(call.headers),
            )
        holder = holders.get(sha256(key).digest())
        if holder is None or (holder.expires is not None and over(holder.expires)):
            if _below(call.route, self._open):
                return self._admit_stranger(call)
            raise _refused(holder, call.headers)
        call.caller = holder
        limit = holder.bucket
        if limit is not None and call.route not in HEALTH and (seconds := limit.take()):
            raise _too_many(f"the key {holder.name!r}", limit, seconds)
        if not holder.admin and _below(call.route, self._admin):
            raise NotAllowed(f"the key {holder.name!r} lacks the right admin, which {call.route} needs")
        return None

    def _admit_stranger(self, call: Call) -> None:
        limit = self._limit
        if limit is not None and call.route not in HEALTH and (seconds := limit.take()):
            raise _too_many("callers without a key together", limit, seconds)


def door_guard(settings: Settings, keys: Keyring) -> DoorGuard:
    """The guard that the settings ask for."""
    door = settings.sidecar
    documents = DOCUMENTS if door.docs == "open" else ()
    metrics = (METRICS,) if door.open_metrics else ()
    open_paths = (*HEALTH, *documents, *metrics)
    return DoorGuard(
        keys,
        anonymous=door.anonymous,
        open_paths=open_paths,
        admin_paths=[path for path in (*DOCUMENTS, METRICS) if path not in open_paths],
        limit=bucket(door.requests_per_second, door.request_burst),
    )


def _below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def _key(headers: Sequence[Header]) -> bytes | None:
    """The key that a request brings, if any.

    >>> _key([(b"authorization", b"Bearer mp_1")]), _key([(b"x-api-key", b"mp_2")]), _key([(b"accept", b"*/*")])
    (b'mp_1', b'mp_2', None)
    """
    found = None
    for name, value in headers:
        if name == b"authorization":
            if value[:7] == b"Bearer ":
                return value[7:]
            scheme, _, credentials = value.partition(b" ")
            scheme = scheme.lower()
            if scheme == b"bearer":
                return credentials.strip()
            if scheme == b"basic" and (password := _password(credentials, headers)) is not None:
                return password
        elif name == b"x-api-key":
            found = value
    return found


def _password(credentials: bytes, headers: Sequence[Header]) -> bytes | None:
    """The password of Basic credentials, which a browser asks its person for.

    Browsers then send it with every request, also with those that another site makes them send; those do not count.
    """
    sent = dict(headers)
    origin, host = sent.get(b"origin"), sent.get(b"host", b"")
    if origin is not None and origin.partition(b"://")[2] != host:
        return None
    try:
        return b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _from_browser(headers: Sequence[Header]) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in headers)


def _refused(holder: Holder | None, headers: Sequence[Header]) -> KeyRefused:
    if holder is None or holder.key.expires is None:
        message = "the key that was sent is unknown or was revoked: ask for a new one"
    else:
        message = f"the key {holder.name!r} ended at {holder.key.expires.isoformat()}: ask for a new one"
    return KeyRefused(message, sent=True, browser=_from_browser(headers))


def _too_many(whose: str, limit: Bucket, seconds: float) -> TooManyRequests:
    return TooManyRequests(
        f"{whose} may make {limit.per_second:g} requests a second, {limit.burst} at once: try again in "
        f"{seconds:.3g} seconds",
        seconds,
    )
