"""Where a model comes from: fingerprints of the rows and of all that decides the outcome, and the state of the code."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mage_platform.contracts import InputSchema, Lineage, RegionPlan, UseCase
from mage_platform.settings import PROJECT, Settings

_GIT_SECONDS = 10


class RowsFingerprint:
    """SHA-256 over the values of rows as they pass by, whatever batches they come in."""

    def __init__(self) -> None:
        # gaps, lengths and values apart, so that where a batch ends does not matter
        self._digests: dict[tuple[str, str, int], Any] = {}

    def add(self, part: str, rows: pa.Table | pa.RecordBatch) -> None:
        """Take rows of a part into account, in their order."""
        for name in rows.schema.names:
            column = rows[name]
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                for place, block in enumerate(_plain(chunk)):
                    self._digests.setdefault((part, name, place), hashlib.sha256()).update(block)

    def hexdigest(self) -> str:
        """The fingerprint of all that was added."""
        return _digest([[*key, digest.hexdigest()] for key, digest in sorted(self._digests.items())])


def _plain(chunk: pa.Array) -> list[bytes | memoryview]:
    """The values as bytes that depend on nothing else: not on offsets, padding or what lies under a null."""
    valid = chunk.is_valid().cast(pa.uint8())
    blocks: list[bytes | memoryview] = [memoryview(valid.to_numpy(zero_copy_only=False))]
    if not (pa.types.is_floating(chunk.type) or pa.types.is_timestamp(chunk.type) or pa.types.is_integer(chunk.type)):
        text = chunk.cast(pa.large_binary()).fill_null(b"")
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        blocks.append(np.diff(offsets).tobytes())
        blocks.append(memoryview(text.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])])
    else:
        numbers = chunk if pa.types.is_floating(chunk.type) else chunk.cast(pa.int64())
        blocks.append(memoryview(numbers.fill_null(0).to_numpy(zero_copy_only=False)))
    return blocks


def lineage_of(
    settings: Settings, use_case: UseCase, plan: RegionPlan, schema: InputSchema, rows: str, h2o_version: str,
    validation_run: str | None,
) -> Lineage:  # fmt: skip
    """What is known of a training's origin.

    Args:
        settings: Where use cases lie.
        use_case: As declared.
        plan: What is trained.
        schema: Of the vectors.
        rows: Fingerprint of the rows that were read.
        h2o_version: That trains.
        validation_run: The newest validation of the use case.
    """
    decides = {
        "use_case": plan.use_case,
        "region": plan.region,
        "rows": rows,
        "schema": schema.model_dump(mode="json"),
        "target": use_case.target.model_dump(mode="json"),
        "metric": use_case.deciding_metric,
        "options": use_case.training.model_dump(mode="json", exclude={"pooled", "slices", "minimum_rows"}),
        "explanations": use_case.serving.explanations,
        "plan": plan.model_dump(mode="json", include={"window", "seed", "maximum_models", "maximum_runtime_seconds"}),
        "h2o": h2o_version,
    }
    commit, changed = _code_state()
    return Lineage(
        rows_fingerprint=rows,
        training_fingerprint=_digest(decides),
        maximum_models=plan.maximum_models,
        declaration_sha256=_declaration(settings.use_cases_folder / use_case.name),
        code_commit=commit,
        code_changed=changed,
        validation_run=validation_run,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _declaration(folder: Path) -> str:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".py", ".sql"))
    return _digest({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})


def _code_state() -> tuple[str | None, bool | None]:
    """Commit of the project, and whether files differ from it; None where there is no checkout or no git."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS).stdout
