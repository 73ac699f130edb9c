"""Where champions come from: the registry in PostgreSQL, and this disk while that is away."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

import psycopg

from mage_platform.contracts import Deployment, ModelVersion
from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.registry import (
    VerificationKeys,
    champions_marker,
    deployments,
    fetch_explainer,
    fetch_model,
    forget_artifacts,
    kept_model,
    verification_keys,
)
from mage_platform.settings import Settings
from serving import last_seen
from serving.last_seen import LastSeen


class ChampionReader(Protocol):
    """One open session with a source of champions."""

    def marker(self) -> int:
        """A number that changes exactly when some champion or challenger has."""

    def deployments(self, known: Collection[ModelVersion]) -> list[Deployment]:
        """The present champions and challengers.

        Args:
            known: Versions that need not be read again.
        """

    def files(self, model: ModelVersion) -> tuple[Path, Path]:
        """MOJO and genmodel jar of a version on local disk, their signature and digests verified.

        Raises:
            SignatureInvalid: No known key signed them as this version.
            ArtifactCorrupt: Their bytes are not those that were registered.
        """

    def explainer(self, model: ModelVersion) -> tuple[Path, Path]:
        """MOJO and genmodel jar of the tree model kept beside a version, verified in the same way.

        Raises:
            SignatureInvalid, ArtifactCorrupt: As of `files`.
            NotFound: None is kept.
        """

    def forget_others(self, kept: Collection[ModelVersion]) -> None:
        """Remove from the local disk what none of these versions needs, once it was not used for a while."""


class ChampionSource(Protocol):
    """Opens sessions. An error of the platform that leaves a session ends it; the next one starts anew."""

    def session(self) -> AbstractContextManager[ChampionReader]:
        """A session, closed at the end of the block."""

    def kept_files(self, model: ModelVersion) -> tuple[Path, Path] | None:
        """As `ChampionReader.files`, from the local disk alone; None when they are not there as they should be.

        Raises:
            SignatureInvalid: No known key signed them as this version.
        """

    def keep(self, seen_at: datetime, deployments: Sequence[Deployment]) -> None:
        """Keep on the local disk what was last seen, the most used first."""

    def last_seen(self) -> LastSeen | None:
        """What was kept there, if it can be read."""


class RegistrySource:
    """The registry.

    Args:
        settings: Where PostgreSQL is, and the keys whose signatures count.
        folder: Where artifacts are kept between starts; they are verified again whenever they are loaded.

    Raises:
        SettingsInvalid: There is no key to verify with, or one is malformed.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._keys = verification_keys(settings)

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
            yield _RegistryReader(connection, self._folder, self._keys)

    def kept_files(self, model: ModelVersion) -> tuple[Path, Path] | None:
        """See `ChampionSource`."""
        return kept_model(model, self._folder, self._keys)

    def keep(self, seen_at: datetime, deployments: Sequence[Deployment]) -> None:
        """See `ChampionSource`."""
        last_seen.keep(self._folder, seen_at, deployments)

    def last_seen(self) -> LastSeen | None:
        """See `ChampionSource`."""
        return last_seen.read(self._folder)


class _RegistryReader:
    def __init__(self, connection: Connection, folder: Path, keys: VerificationKeys) -> None:
        self._connection = connection
        self._folder = folder
        self._keys = keys

    def marker(self) -> int:
        return champions_marker(self._connection)

    def deployments(self, known: Collection[ModelVersion]) -> list[Deployment]:
        return deployments(self._connection, known)

    def files(self, model: ModelVersion) -> tuple[Path, Path]:
        try:
            return fetch_model(self._connection, model, self._folder, self._keys)
        except psycopg.OperationalError as error:
            # Told apart from an artifact that is wrong: this is not the model's fault.
            raise DatabaseUnavailable(f"PostgreSQL went away while a model was fetched: {error}") from error

    def explainer(self, model: ModelVersion) -> tuple[Path, Path]:
        try:
            return fetch_explainer(self._connection, model, self._folder, self._keys)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"PostgreSQL went away while an explainer was fetched: {error}") from error

    def forget_others(self, kept: Collection[ModelVersion]) -> None:
        digests = {digest for each in kept for digest in _digests(each)}
        forget_artifacts(self._folder, digests | {last_seen.STEM})


def _digests(model: ModelVersion) -> list[str]:
    found = [model.mojo_sha256, model.genmodel_sha256]
    return found if model.explainer_sha256 is None else [*found, model.explainer_sha256]
