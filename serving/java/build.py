"""Compile the batch scorer: `python -m serving.java.build GENMODEL_JAR`.

Needed only after a change of the Java source. The jar is package data, so that no compiler is needed to serve; its
manifest records the SHA-256 of the source it was compiled from, and nothing in it depends on the clock.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "src" / "mageplatform" / "scoring" / "BatchScorer.java"
JAR = FOLDER / "batch_scorer.jar"
CLASS_FILE = "mageplatform/scoring/BatchScorer.class"
MANIFEST = "META-INF/MANIFEST.MF"


def source_sha256() -> str:
    """SHA-256 of the Java source, in hexadecimal."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def recorded_sha256(jar: Path = JAR) -> str:
    """SHA-256 of the source from which a jar was compiled, as its manifest says."""
    with zipfile.ZipFile(jar) as archive:
        lines = archive.read(MANIFEST).decode().replace("\r\n ", "").splitlines()
    return next(line.removeprefix("Source-SHA256: ") for line in lines if line.startswith("Source-SHA256: "))


def class_bytes(jar: Path = JAR) -> bytes:
    """The compiled class in a jar."""
    with zipfile.ZipFile(jar) as archive:
        return archive.read(CLASS_FILE)


def build(genmodel: Path, jar: Path = JAR) -> Path:
    """Compile the source for Java 8 and later, against the genmodel jar, and pack it.

    Args:
        genmodel: h2o-genmodel.jar, for the class `GenModel`.
        jar: Where the result goes.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["javac", "--release", "8", "-Xlint:-options", "-cp", str(genmodel), "-d", folder, str(SOURCE)]
        subprocess.run(command, check=True)
        compiled = (Path(folder) / CLASS_FILE).read_bytes()
    # A manifest line ends at 72 bytes; the digest goes on after a line break and a space.
    digest = source_sha256()
    manifest = f"Manifest-Version: 1.0\r\nSource-SHA256: {digest[:50]}\r\n {digest[50:]}\r\n\r\n"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
        archive.writestr(zipfile.ZipInfo(CLASS_FILE), compiled)
    return jar


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(build(Path(sys.argv[1])))
