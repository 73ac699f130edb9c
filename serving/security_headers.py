"""Headers that keep browsers and caches from doing with an answer what it is not meant for."""

from __future__ import annotations

from collections.abc import Iterable

from serving.calls import Header

SHORT = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""For predictions, which no browser takes for a page: each header more costs about a third of a microsecond."""
_ALL = (
    *SHORT,
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)


def missing(headers: Iterable[Header]) -> list[Header]:
    """What an answer of the framework lacks; what a route says itself counts.

    >>> [name for name, _ in missing([(b"Cache-Control", b"max-age=60"), (b"referrer-policy", b"origin")])][:2]
    [b'x-content-type-options', b'x-frame-options']
    """
    said = {name.lower() for name, _ in headers}
    if b"etag" in said:  # a file that may be kept and asked for again
        said.add(b"cache-control")
    return [header for header in _ALL if header[0] not in said]
