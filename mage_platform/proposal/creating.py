"""A proposal becomes a use case: its folder, tried on the table before it stands under its name."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mage_platform.contracts import UseCase
from mage_platform.errors import ContractViolated, UseCaseInvalid
from mage_platform.features.vectors import ENTITY_ID, EVENT_TIME, REGION
from mage_platform.proposal.propose import Proposal
from mage_platform.proposal.writing import written
from mage_platform.settings import Settings
from mage_platform.sources import load_rows
from mage_platform.trial import try_rows
from mage_platform.use_cases import FILE, load_use_case

LOOKED_AT = 1_000_000
"""Rows of a table, from its beginning, that a proposal looks at."""
COPIED_BYTES = 100_000_000
"""A data file up to this size is copied into the folder; a larger one is read where it lies."""
QUERY_FILE = "rows.sql"


@dataclass(frozen=True)
class Created:
    """A use case that stands, and what its trial showed."""

    use_case: UseCase
    folder: Path
    vectors: int
    refused: int
    entity_id: str
    """Of the newest vector that was tried."""
    region: str


def require_absent(settings: Settings, name: str) -> None:
    """Refuse a name that is taken.

    Raises:
        ContractViolated: There is such a folder.
    """
    folder = settings.use_cases_folder / name
    if folder.exists():
        raise ContractViolated(f"{folder} exists already and is left as it is: choose another name", field="name")


def declared_file(path: Path) -> str:
    """How a data file is named in the declaration: by its name when it is copied, else by its absolute path."""
    return path.name if path.stat().st_size <= COPIED_BYTES else str(path.resolve())


def create(settings: Settings, proposal: Proposal, *, file: Path | None, query: str | None) -> Created:
    """Write the use case, try it on its table, and only then give it its name.

    Args:
        settings: Where use cases lie.
        proposal: What is declared.
        file: The data file, where the source is one.
        query: The query, where the source is one.

    Raises:
        ContractViolated: The name is taken, or the declaration does not fit the table; nothing is left behind.
    """
    require_absent(settings, proposal.name)
    settings.use_cases_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new_", dir=settings.use_cases_folder) as staging:
        folder = Path(staging) / proposal.name
        folder.mkdir()
        (folder / FILE).write_text(written(proposal), encoding="utf-8")
        if file is not None and proposal.source["file"] == file.name:
            shutil.copyfile(file, folder / file.name)
        if query is not None:
            (folder / QUERY_FILE).write_text(query.strip() + "\n", encoding="utf-8")
        staged = settings.model_copy(update={"use_cases_folder": Path(staging)})
        try:
            use_case = load_use_case(staged, proposal.name)
            vectors, refused = try_rows(staged, use_case, load_rows(staged, use_case, limit=LOOKED_AT))
        except ContractViolated as error:
            why = str(error).replace(f"{staging}/", "")
            raise UseCaseInvalid(
                f"the proposal does not fit the table, and nothing was written: {why}", field=error.field
            ) from error
        newest = _newest(proposal, vectors)
        place = settings.use_cases_folder / proposal.name
        try:
            folder.rename(place)
        except OSError:
            require_absent(settings, proposal.name)
            raise
    return Created(use_case, place, len(vectors), refused, str(newest[ENTITY_ID]), str(newest[REGION]))


def _newest(proposal: Proposal, vectors: pd.DataFrame) -> pd.Series[str]:
    if not len(vectors):
        raise UseCaseInvalid(f"no row of the table became a vector: all {proposal.rows:,} were refused")
    newest: pd.Series[str] = vectors.sort_values(EVENT_TIME).iloc[-1]
    return newest
