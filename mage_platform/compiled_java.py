"""Small Java programs that lie in the tree compiled: what belongs together, and how to compile one anew.

    python -m mage_platform.compiled_java SOURCE JAR CLASSPATH

Needed only after a change of a source. The jars are package data, so that no compiler is needed to run them; the
manifest of each records the SHA-256 of the source it was compiled from, and nothing in it depends on the clock.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mage_platform.settings import PROJECT

MANIFEST = "META-INF/MANIFEST.MF"


@dataclass(frozen=True)
class CompiledJava:
    """A source with one public class, and its jar."""

    source: Path
    jar: Path

    @property
    def class_file(self) -> str:
        """Path of the class in the jar."""
        return str(self.source.relative_to(self.jar.parent / "src").with_suffix(".class"))

    def source_sha256(self) -> str:
        """SHA-256 of the source, in hexadecimal."""
        return hashlib.sha256(self.source.read_bytes()).hexdigest()

    def recorded_sha256(self) -> str:
        """SHA-256 of the source from which the jar was compiled, as its manifest says."""
        with zipfile.ZipFile(self.jar) as archive:
            lines = archive.read(MANIFEST).decode().replace("\r\n ", "").splitlines()
        return next(line.removeprefix("Source-SHA256: ") for line in lines if line.startswith("Source-SHA256: "))

    def class_bytes(self) -> bytes:
        """The compiled class in the jar."""
        with zipfile.ZipFile(self.jar) as archive:
            return archive.read(self.class_file)

    def compile(self, classpath: Path) -> bytes:
        """Compile the source for Java 8 and later.

        Args:
            classpath: A jar with h2o-genmodel's classes: h2o-genmodel.jar or h2o.jar.
        """
        with tempfile.TemporaryDirectory() as folder:
            options = ["--release", "8", "-Xlint:-options", "-cp", str(classpath), "-d", folder]
            subprocess.run(["javac", *options, str(self.source)], check=True)
            return (Path(folder) / self.class_file).read_bytes()

    def pack(self, compiled: bytes) -> None:
        """Write the jar."""
        # A manifest line ends at 72 bytes; the digest goes on after a line break and a space.
        digest = self.source_sha256()
        manifest = f"Manifest-Version: 1.0\r\nSource-SHA256: {digest[:50]}\r\n {digest[50:]}\r\n\r\n"
        with zipfile.ZipFile(self.jar, "w") as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
            archive.writestr(zipfile.ZipInfo(self.class_file), compiled)


def compiled_java() -> list[CompiledJava]:
    """Every compiled program of the tree."""
    return [
        CompiledJava(source, folder / f"{_snake_case(source.stem)}.jar")
        for folder in (PROJECT / "serving" / "java", PROJECT / "mage_platform" / "training" / "java")
        for source in folder.glob("src/**/*.java")
    ]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program = CompiledJava(Path(sys.argv[1]), Path(sys.argv[2]))
    program.pack(program.compile(Path(sys.argv[3])))
    print(program.jar)
