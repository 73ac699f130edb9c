"""Tables that a query answers: on the platform's own database, or on another PostgreSQL."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error as DriverError
from psycopg import conninfo, sql

from mage_platform.errors import DatabaseUnavailable, SettingsInvalid, SourceInvalid
from mage_platform.settings import Settings, source_connection

BATCH_BYTES = 4 << 20
_BATCH_BYTES_OPTION = "adbc.postgresql.batch_size_hint_bytes"
_CONNECT_SECONDS = "10"
_UNBOUNDED = {"start": "-infinity", "end": "infinity"}


def read_query(
    settings: Settings,
    path: Path,
    connection: str | None,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """What one query answers, as typed columns, read in batches in a transaction that writes nothing.

    Integers with missing values become floats, NUMERIC float64, UUIDs and JSON text.

    Args:
        settings: The platform's database, and where secrets lie.
        path: File with the query.
        connection: Name of the other PostgreSQL; None is the platform's own.
        start: Stands for `%(start)s`; None for minus infinity.
        end: Stands for `%(end)s`; None for infinity.
        limit: Stop after so many rows; None reads all.

    Raises:
        SourceInvalid: The file is missing, or PostgreSQL refused the query; the message is PostgreSQL's.
        SettingsInvalid: The secret is missing or no connection string.
        DatabaseUnavailable: The database does not answer.
    """
    if not path.is_file():
        raise SourceInvalid(f"the query file {path} does not exist: write one SELECT into it", field="source.query")
    text = path.read_text(encoding="utf-8")
    return read_text(settings, text, str(path), connection, start=start, end=end, limit=limit)


def read_text(
    settings: Settings,
    text: str,
    name: str,
    connection: str | None,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """What the text of a query answers; `name` stands for it in errors, all else as in `read_query`."""
    query = bounded(text, start=start, end=end)
    address, shown = _address(settings, connection)
    try:
        with adbc.connect(address) as server, server.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.adbc_statement.set_options(**{_BATCH_BYTES_OPTION: str(BATCH_BYTES)})
            cursor.execute(query)
            table = _read(cursor.fetch_record_batch(), limit)
            server.rollback()
    except (DriverError, pa.ArrowException, OSError) as error:  # what goes wrong amid the batches is an OSError
        if "ERROR:" not in str(error):
            raise DatabaseUnavailable(f"{name} runs on {shown}, which does not answer: {_cause(error)}") from None
        raise SourceInvalid(f"{name}: PostgreSQL ({shown}) refused it: {_cause(error)}", field="source.query") from None
    return _as_frame(table, name)


def bounded(query: str, *, start: datetime | None, end: datetime | None) -> str:
    """The query with its bounds written in.

    >>> bounded("SELECT * FROM t WHERE t.at < %(end)s AND name LIKE '%x%';", start=None, end=None)
    "SELECT * FROM t WHERE t.at < 'infinity'::timestamptz AND name LIKE '%x%'"
    """
    text = re.sub(r"[\s;]+\Z", "", query)
    for name, moment in (("start", start), ("end", end)):
        literal = sql.Literal(moment.isoformat() if moment else _UNBOUNDED[name]).as_string(None)
        text = text.replace(f"%({name})s", f"{literal.strip()}::timestamptz")
    # a comment on the last line must not swallow what the driver puts behind the query
    return text + "\n" if "--" in text.rsplit("\n", 1)[-1] else text


def _address(settings: Settings, connection: str | None) -> tuple[str, str]:
    """Connection string, and how to name the server without its password."""
    if connection is None:
        return settings.database_url(), f"the platform's database {settings.database.name}"
    secret = source_connection(settings, connection).get_secret_value()
    try:
        parts = conninfo.conninfo_to_dict(secret)
    except psycopg.ProgrammingError:  # its message may hold a part of the password
        raise SettingsInvalid(
            f"the secret platform_source_{connection} is no PostgreSQL connection string: write "
            "postgresql://user:password@host:5432/database, special characters in the password as %xx",
            field="source.connection",
        ) from None
    shown = f"{connection}: {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
    return conninfo.make_conninfo(secret, connect_timeout=parts.get("connect_timeout") or _CONNECT_SECONDS), shown


def _read(reader: pa.RecordBatchReader, limit: int | None) -> pa.Table:
    batches, rows = [], 0
    for batch in reader:
        batches.append(batch)
        rows += len(batch)
        if limit is not None and rows >= limit:
            break
    return pa.Table.from_batches(batches, reader.schema).slice(0, limit)


def _as_frame(table: pa.Table, path: str) -> pd.DataFrame:
    names = table.schema.names
    if not names:
        raise SourceInvalid(f"{path}: the query answers no columns: write one SELECT", field="source.query")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceInvalid(
            f"{path}: the query answers {twice[0]!r} more than once: give each column a name of its own by AS",
            field="source.query",
        )
    columns = [_plain(column, field) for column, field in zip(table.columns, table.schema, strict=True)]
    frame: pd.DataFrame = pa.table(columns, names).to_pandas()
    return frame


def _plain(column: pa.ChunkedArray, field: pa.Field[Any]) -> pa.ChunkedArray:
    """PostgreSQL's own types as ones that pandas has."""
    kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"")
    if kind == b"numeric":
        return pc.cast(_storage(column), pa.float64())
    if kind == b"uuid":
        return pa.chunked_array([[None if each is None else str(each) for each in column.to_pylist()]], pa.string())
    return _storage(column)


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _cause(error: Exception) -> str:
    """PostgreSQL's own sentence, with the line of the query it points at."""
    text = str(error)
    text = text[text.find("ERROR:") + 6 :] if "ERROR:" in text else text.removeprefix("IO: [libpq] ")
    lines = [line.strip() for line in text.split("\n\nQuery was")[0].splitlines()]
    return " ".join(line for line in lines if line and line != "^").split(". SQLSTATE")[0].strip()
