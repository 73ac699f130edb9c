"""Tables in files: parquet and CSV."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mage_platform.errors import SourceInvalid
from mage_platform.sources.moments import zoned_text

_CSV = (".csv", ".csv.gz", ".csv.zip")
READABLE = (".parquet", *_CSV)


def read_file(path: Path, *, limit: int | None = None) -> pd.DataFrame:
    """A table as it lies in the file; text that is a time with a zone in every row becomes times in UTC.

    Args:
        path: Parquet or CSV file.
        limit: Read at most so many rows, from the beginning; None reads all.

    Raises:
        SourceInvalid: It is missing, cannot be read, or is no such file.
    """
    if not path.is_file():
        raise SourceInvalid(f"the source file {path} does not exist", field="source.file")
    if not path.name.endswith(READABLE):
        raise SourceInvalid(f"{path.name}: only .parquet and .csv files are read", field="source.file")
    try:
        rows = _parquet(path, limit) if path.suffix == ".parquet" else pd.read_csv(path, nrows=limit)
    except (ValueError, OSError, pa.ArrowException) as error:
        cause = "it is empty" if isinstance(error, pd.errors.EmptyDataError) else str(error)
        raise SourceInvalid(f"{path} cannot be read: {cause}", field="source.file") from error
    for column in rows.select_dtypes(object).columns:
        if zoned_text(rows[column]):
            # CSV has no type for moments
            rows[column] = pd.to_datetime(rows[column], utc=True, format="ISO8601")
    return rows


def _parquet(path: Path, limit: int | None) -> pd.DataFrame:
    if limit is None:
        return pd.read_parquet(path)
    with pq.ParquetFile(path) as file:
        read = 0

        def wanted(batch: pa.RecordBatch) -> bool:
            nonlocal read
            read += len(batch)
            return read - len(batch) < limit

        batches = takewhile(wanted, file.iter_batches(batch_size=min(limit, 65_536)))
        table = pa.Table.from_batches(batches, file.schema_arrow)
    rows: pd.DataFrame = table.slice(0, limit).to_pandas()
    return rows
