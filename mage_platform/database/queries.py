"""Named queries, read from a `.sql` file beside the module that runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Queries:
    """The queries of one `.sql` file, as attributes.

    A query starts at a line `-- name: some_name`; the comment lines below it say why it is as it is.

    Args:
        path: The `.sql` file.
    """

    def __init__(self, path: Path) -> None:
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        self._path = path
        self._texts = dict(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))

    def __getattr__(self, name: str) -> LiteralString:
        try:
            return cast(LiteralString, self.__dict__["_texts"][name])
        except KeyError:
            raise AttributeError(f"no query named {name} in {self.__dict__['_path']}") from None
