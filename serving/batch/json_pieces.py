"""Reads a long JSON body in pieces, so that no single call keeps the interpreter from the event loop.

A parser holds the interpreter for as long as it works, and 100,000 rows take it a quarter of a second. Here each call
of the parser gets a piece of a long array that ends where an element ends. Where that is, is guessed from the bytes and
proved by the parser: JSON is read from left to right, so when `[` + piece + `]` is valid, the piece ended between two
elements. Where the guess is wrong (a comma inside of text) a regular expression that knows text and brackets finds
the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

from serving.problems import BodyMalformed

PIECE_BYTES = 1 << 16
_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_DEPTH = 6
"""Of what stands in an array; a feature vector in a row needs two."""


def _nested(depth: int) -> bytes:
    within = rb"|" + _nested(depth - 1) if depth > 1 else b""
    return rb'[\[{](?:[^{}\[\]"]++|' + _TEXT + within + rb")*+[\]}]"


_ELEMENT = rb"(?:" + _TEXT + rb'|[^\s",\[\]{}]++|' + _nested(_DEPTH) + rb")"
_some = re.compile(rb"(?:\s*+" + _ELEMENT + rb"\s*+,)*+", re.DOTALL).match
_last = re.compile(rb"\s*+(?:" + _ELEMENT + rb"\s*+)?+\]", re.DOTALL).match
_space = re.compile(rb"[ \t\r\n]*+").match
_key = re.compile(rb"[ \t\r\n]*+(" + _TEXT + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL).match
_scalar = re.compile(_TEXT + rb"|[^\s\",:\[\]{}]++", re.DOTALL).match

Parse = Callable[[bytes], list[Any]]
"""Reads a JSON array; ValueError for what is no JSON."""


class Cursor:
    """A place in a JSON text.

    Args:
        body: The text.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here. Whoever takes a key must read its value before the next one.

        Raises:
            BodyMalformed: There is no object here.
        """
        self._expect(b"{")
        if self._next_is(b"}"):
            return
        while True:
            found = _key(self._body, self.at)
            if found is None:
                raise self.malformed("a key and a colon")
            self.at = found.end()
            yield str(self._parsed(found[1]))
            if not self._next_is(b","):
                self._expect(b"}")
                return

    def scalar(self) -> Any:
        """The text, number, boolean or null that stands here.

        Raises:
            BodyMalformed: There is none.
        """
        found = _scalar(self._body, self.at)
        if found is None:
            raise self.malformed("a value")
        self.at = found.end()
        return self._parsed(found[0])

    def begins(self, opening: bytes) -> bool:
        """Whether an array (`[`) or an object (`{`) begins here."""
        return self._body.startswith(opening, self.at)

    def end(self) -> None:
        """Hold that nothing follows.

        Raises:
            BodyMalformed: Something does.
        """
        self._skip_space()
        if self.at != len(self._body):
            raise self.malformed("the end")

    def values(self) -> Iterator[list[Any]]:
        """The elements of the array that begins here, piece by piece.

        Raises:
            BodyMalformed: There is no array here, or it is nested too deep.
        """
        return self._pieces(from_json, (b",",))

    def rows(self, parse: Parse) -> Iterator[list[Any]]:
        """The elements of the array that begins here, most of them objects, piece by piece.

        Args:
            parse: Reads the array of some of them.

        Raises:
            BodyMalformed: As above.
        """
        return self._pieces(parse, (b"},{", b"}, {"))

    def skip_array(self) -> None:
        """Go past the array that begins here, without reading it.

        Raises:
            BodyMalformed: As above.
        """
        self._expect(b"[")
        while (found := _last(self._body, self.at)) is None:
            self.at = self._after_some()
        self.at = found.end()

    def malformed(self, wanted: str) -> BodyMalformed:
        """What is wrong here."""
        if len(self._body) <= 16 * PIECE_BYTES:
            try:
                from_json(self._body)
            except ValueError as error:
                return BodyMalformed(f"the body is not valid JSON: {error}")
        return BodyMalformed(f"byte {self.at} of the body: {wanted} should stand here")

    def _pieces(self, parse: Parse, ends: tuple[bytes, ...]) -> Iterator[list[Any]]:
        body = self._body
        self._expect(b"[")
        first = self.at
        while True:
            until = min(self.at + PIECE_BYTES, len(body))
            close = body.find(b"]", self.at, until)
            if close >= 0 and (piece := _try(parse, body[self.at : close])) is not None:
                self.at = close + 1
                yield from self._ending(piece, first)
                return
            before = max(body.rfind(end, self.at, until) for end in ends) if close < 0 else -1
            comma = body.find(b",", before) if before >= 0 else -1
            if comma >= 0 and (piece := _try(parse, body[self.at : comma])):
                self.at = comma + 1
                yield piece
                continue
            if (found := _last(body, self.at)) is not None:
                piece = self._certain(parse, found.end() - 1)
                self.at = found.end()
                yield from self._ending(piece, first)
                return
            after = self._after_some()
            piece = self._certain(parse, after - 1)
            self.at = after
            yield piece

    def _ending(self, piece: list[Any], first: int) -> Iterator[list[Any]]:
        if piece:
            yield piece
        elif self._body.rfind(b",", first, self.at) >= 0:
            raise self.malformed("an element after the comma")

    def _after_some(self) -> int:
        """The place after the comma that follows as many elements as fit a piece; at least one."""
        window = PIECE_BYTES
        while True:
            found = _some(self._body, self.at, self.at + window)
            if found is not None and found.end() > self.at:
                return found.end()
            if self.at + window >= len(self._body):
                raise self.malformed(f"an element and a comma, nested at most {_DEPTH} deep,")
            window *= 4

    def _certain(self, parse: Parse, end: int) -> list[Any]:
        piece = _try(parse, self._body[self.at : end])
        if piece is None:
            raise self.malformed("valid JSON")
        return piece

    def _parsed(self, text: bytes) -> Any:
        try:
            return from_json(text)
        except ValueError:
            raise self.malformed("valid JSON") from None

    def _skip_space(self) -> None:
        self.at = _space(self._body, self.at).end()  # type: ignore[union-attr]

    def _next_is(self, wanted: bytes) -> bool:
        self._skip_space()
        if self._body.startswith(wanted, self.at):
            self.at += 1
            return True
        return False

    def _expect(self, wanted: bytes) -> None:
        if not self._next_is(wanted):
            raise self.malformed(repr(wanted.decode()))


def _try(parse: Parse, inside: bytes) -> list[Any] | None:
    """What the array with this inside holds; None when that is no JSON."""
    try:
        return parse(b"[" + inside + b"]")
    except ValueError:
        return None
