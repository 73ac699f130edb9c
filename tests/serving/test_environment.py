"""The sidecar's environment stays small, and its Java source and jar belong together."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h2o
import pytest

from mage_platform.settings import PROJECT
from serving.java import build
from tests.serving.sidecar_process import INTERPRETER, Trained

HEAVY = ["h2o", "pandas", "mage_ai", "great_expectations", "sklearn", "pyarrow", "sqlalchemy"]


@pytest.mark.integration
def test_the_sidecar_has_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from importlib.util import find_spec
import serving.app, serving.__main__
print([name for name in {HEAVY} if name in sys.modules or find_spec(name)])
"""
    done = subprocess.run(
        [str(INTERPRETER), "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_jar_was_compiled_from_this_source() -> None:
    assert build.recorded_sha256() == build.source_sha256(), "run python -m serving.java.build"


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs javac")
def test_compiling_the_source_gives_the_class_in_the_jar(tmp_path: Path) -> None:
    server = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
    again = build.build(server, tmp_path / "again.jar")
    assert build.class_bytes(again) == build.class_bytes()


@pytest.mark.integration
def test_the_jvm_scores_a_whole_batch_to_the_last_bit(trained: Trained) -> None:
    from serving import jvm
    from serving.encoding import RowEncoder
    from tests.serving.sidecar_process import SCHEMA

    jvm.start(heap_mib=256)
    for name in ("gbm", "glm", "xgboost"):
        mojo = jvm.Mojo(trained.mojo(name), trained.genmodel)
        encoder = RowEncoder(SCHEMA, mojo.names, mojo.domains)
        rows = [encoder.encode(vector) for vector in trained.vectors()]
        scores = mojo.slot(len(rows)).score(rows)
        answers = [
            {
                "prediction": mojo.labels[int(index)],
                "probabilities": dict(zip(mojo.labels, probabilities, strict=True)),
            }
            for index, *probabilities in scores
        ]
        assert answers == trained.predictions(name)
