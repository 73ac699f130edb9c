"""The one sentence out of what Mage keeps about a block that failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NOTHING_KNOWN = "The block failed without leaving an error; see its log."
_EXCEPTION_LINE = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$")


def reason_of(error: Mapping[str, Any]) -> str:
    """Say why a block failed, without the traceback.

    Errors of the platform speak for themselves; of any other the kind is named as well, since
    `KeyError: 'origin'` says more than `'origin'`.

    Args:
        error: What Mage records: `error` is the exception's text, `message` its traceback.

    Returns:
        The exception's text, which can have several lines where the exception's has.

    >>> reason_of({"error": "'origin'", "message": "Traceback ...\\nKeyError: 'origin'\\n"})
    "KeyError: 'origin'"
    >>> reason_of({"error": "Too few.", "message": "mage_platform.errors.NothingToTrain: Too few."})
    'Too few.'
    """
    text = str(error.get("error") or "").strip()
    traceback = str(error.get("message") or "").strip()
    if text in ("", "None"):
        return traceback.splitlines()[-1].strip() if traceback else _NOTHING_KNOWN
    kind = _kind_of(text, traceback)
    return text if kind is None or kind.startswith("mage_platform.") else f"{kind}: {text}"


def _kind_of(text: str, traceback: str) -> str | None:
    first_line = text.splitlines()[0]
    for line in reversed(traceback.splitlines()):
        found = _EXCEPTION_LINE.match(line)
        if found and (found["text"] or "").startswith(first_line):
            return found["kind"]
    return None
