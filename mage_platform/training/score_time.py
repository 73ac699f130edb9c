"""How long one score by a MOJO takes, measured in a JVM of its own on held-out rows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

log = structlog.get_logger()
TIMER = Path(__file__).parent / "java" / "score_timer.jar"
ROWS = 500
MEASURED_SECONDS = 0.4
_GIVE_UP_SECONDS = 60


def score_microseconds(mojo: Path, genmodel: Path, rows: pa.Table) -> float | None:
    """Mean time of one score, in microseconds, after the JVM has warmed up; one thread.

    Args:
        mojo: The MOJO zip.
        genmodel: h2o-genmodel.jar of the same version.
        rows: The features of some rows; the first 500 are taken.

    Returns:
        None where there is no Java, or it failed; the log says why.
    """
    java = _java()
    if java is None:
        log.warning("score not timed", reason="no java on the path and no JAVA_HOME")
        return None
    classpath = os.pathsep.join([str(genmodel), str(TIMER)])
    command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-cp", classpath, "mageplatform.training.ScoreTimer"]
    try:
        done = subprocess.run(
            [*command, str(mojo), str(MEASURED_SECONDS)],
            input=_lines(rows.slice(0, ROWS)), capture_output=True, timeout=_GIVE_UP_SECONDS, check=True,
        )  # fmt: skip
        return round(float(done.stdout) / 1000, 3)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("score not timed", reason=str(error), said=_said(error))
        return None


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java")


def _lines(rows: pa.Table) -> bytes:
    columns = [[_field(value) for value in rows[name].to_pylist()] for name in rows.column_names]
    lines = ["\t".join(map(_field, rows.column_names)), *("\t".join(row) for row in zip(*columns, strict=True))]
    return ("\n".join(lines) + "\n").encode()


def _field(value: Any) -> str:
    return "" if value is None else str(value).translate({9: " ", 10: " ", 13: " "})


def _said(error: Exception) -> str:
    said = getattr(error, "stderr", None) or b""
    return str(said.decode(errors="replace").strip()[:300])
