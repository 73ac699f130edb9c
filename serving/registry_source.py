"""Where champions come from: the registry in PostgreSQL, read over one connection of the watching thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg

from mage_platform.contracts import Champion
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.registry import champions, champions_marker, fetch_artifact
from mage_platform.settings import Settings


class ChampionReader(Protocol):
    """One open session with a source of champions."""

    def marker(self) -> int:
        """A number that changes exactly when some champion has."""

    def champions(self) -> list[Champion]:
        """The present champions."""

    def files(self, champion: Champion) -> tuple[Path, Path]:
        """MOJO and genmodel jar of a champion on local disk, their digests verified."""


class ChampionSource(Protocol):
    """Opens sessions. An error of the platform that leaves a session ends it; the next one starts anew."""

    def session(self) -> AbstractContextManager[ChampionReader]:
        """A session, closed at the end of the block."""


class RegistrySource:
    """The registry.

    Args:
        settings: Where PostgreSQL is.
        folder: Where verified artifacts are kept between starts.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder

    @contextmanager
    def session(self) -> Iterator[ChampionReader]:
        """A connection that is kept open.

        Raises:
            DatabaseUnavailable: PostgreSQL refused, or went away.
        """
        with connect(self._settings, application_name="mage_platform sidecar registry") as connection:
            # Each statement its own transaction: a transaction held between the looks would keep a pooled server
            # connection, and would never see an alias move.
            connection.autocommit = True
            yield _RegistryReader(connection, self._folder)


class _RegistryReader:
    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

    def marker(self) -> int:
        return champions_marker(self._connection)

    def champions(self) -> list[Champion]:
        return champions(self._connection)

    def files(self, champion: Champion) -> tuple[Path, Path]:
        model = champion.model
        try:
            mojo = fetch_artifact(self._connection, model.mojo_sha256, self._folder)
            return mojo, fetch_artifact(self._connection, model.genmodel_sha256, self._folder, suffix=".jar")
        except psycopg.OperationalError as error:
            # Told apart from an artifact that is wrong: this is not the model's fault.
            raise DatabaseUnavailable(f"PostgreSQL went away while a model was fetched: {error}") from error
