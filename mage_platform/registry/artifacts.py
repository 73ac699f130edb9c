"""Artifacts by content: MOJO zips and the genmodel jar, kept in chunks under their SHA-256."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mage_platform.database import Queries
from mage_platform.database.connections import Connection
from mage_platform.errors import ArtifactCorrupt, NotFound

CHUNK_BYTES = 1 << 20
UNUSED_SECONDS = 3600.0
QUERIES = Queries(Path(__file__).with_name("registry.sql"))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def store_artifact(connection: Connection, path: Path, kind: Literal["mojo", "genmodel"]) -> str:
    """Keep a file under its SHA-256, in the caller's transaction; bytes already kept are not written again.

    Returns:
        The SHA-256.
    """
    sha256 = sha256_of(path)
    parameters = {"sha256": sha256, "kind": kind, "bytes": path.stat().st_size}
    if connection.execute(QUERIES.add_artifact, parameters).fetchone() is None:
        return sha256
    with path.open("rb") as file, connection.cursor().copy(QUERIES.copy_chunks) as copy:
        copy.set_types(["text", "int4", "bytea"])
        number = 0
        while chunk := file.read(CHUNK_BYTES):
            copy.write_row((sha256, number, chunk))
            number += 1
    return sha256


def fetch_artifact(connection: Connection, sha256: str, folder: Path, *, suffix: str = ".zip") -> Path:
    """Bring an artifact to `<folder>/<sha256><suffix>`; a good copy already there is used as it is.

    The digest is verified in either case, and the file appears whole or not at all.

    Raises:
        NotFound: No artifact of this digest is registered.
        ArtifactCorrupt: The bytes in the registry do not match the digest.
    """
    target = folder / f"{sha256}{suffix}"
    if (kept := kept_artifact(sha256, folder, suffix=suffix)) is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{sha256[:12]}")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in _checked_chunks(connection, sha256):
                file.write(chunk)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def kept_artifact(sha256: str, folder: Path, *, suffix: str = ".zip") -> Path | None:
    """An artifact that lies in a folder since `fetch_artifact`; None when it does not, or not as it should be."""
    target = folder / f"{sha256}{suffix}"
    if not target.exists() or sha256_of(target) != sha256:
        return None
    with suppress(OSError):  # the disk is read-only
        os.utime(target)  # used now, see forget_artifacts
    return target


def forget_artifacts(folder: Path, needed: Collection[str], *, dry_run: bool = False) -> list[Path]:
    """Remove artifacts that were brought to a folder, are not needed, and were not used for an hour.

    The hour leaves alone what another process has just brought there and is about to load.

    Args:
        folder: Where `fetch_artifact` brought them; it need not exist.
        needed: Digests of those that stay.
        dry_run: Remove nothing.

    Returns:
        The files that were (or would be) removed.
    """
    before = time.time() - UNUSED_SECONDS
    gone = []
    for file in sorted(folder.glob("*")):
        with suppress(OSError):  # another process was quicker, or the disk is read-only
            if file.is_file() and file.name.split(".")[0] not in needed and file.stat().st_mtime < before:
                gone.append(file)
                if not dry_run:
                    file.unlink()
    return gone


def check_artifact(connection: Connection, sha256: str) -> None:
    """Read an artifact in the registry through and hold it against its digest.

    Raises:
        NotFound: No artifact of this digest is registered.
        ArtifactCorrupt: The bytes do not match the digest.
    """
    for _ in _checked_chunks(connection, sha256):
        pass


def _checked_chunks(connection: Connection, sha256: str) -> Iterator[bytes]:
    """The bytes of an artifact; the end is reached only by the right ones."""
    size = connection.execute(QUERIES.artifact_size, {"sha256": sha256}).fetchone()
    if size is None:
        raise NotFound(f"no artifact {sha256} is registered")
    if size[1] is not None:
        raise NotFound(f"artifact {sha256} was dropped by retention at {size[1].isoformat(timespec='seconds')}")
    digest = hashlib.sha256()
    for number in range(-(-size[0] // CHUNK_BYTES)):
        row = connection.execute(QUERIES.read_chunk, {"sha256": sha256, "number": number}, binary=True).fetchone()
        chunk = row[0] if row else b""
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise ArtifactCorrupt(
            f"artifact {sha256} does not match its SHA-256: it was altered or truncated in the registry; "
            "train again, or move the alias to another version with `mage-platform models rollback`"
        )
