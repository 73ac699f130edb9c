"""The sidecar's environment stays small, and its Java source and jar belong together."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h2o
import pytest

from mage_platform.compiled_java import CompiledJava, compiled_java
from mage_platform.settings import PROJECT
from tests.serving.sidecar_process import INTERPRETER, Trained

HEAVY = ["h2o", "pandas", "mage_ai", "great_expectations", "sklearn", "sqlalchemy"]
LOADED_WHEN_NEEDED = ["pyarrow", "opentelemetry.sdk.trace"]


@pytest.mark.integration
def test_the_sidecar_has_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from importlib.util import find_spec
import serving.app, serving.__main__
print([name for name in {HEAVY} if name in sys.modules or find_spec(name)])
print([name for name in {LOADED_WHEN_NEEDED} if name in sys.modules])
"""
    done = subprocess.run(
        [str(INTERPRETER), "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("program", compiled_java(), ids=lambda program: program.source.stem)
def test_a_jar_was_compiled_from_its_source(program: CompiledJava) -> None:
    assert program.recorded_sha256() == program.source_sha256(), "run python -m mage_platform.compiled_java"


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs javac")
@pytest.mark.parametrize("program", compiled_java(), ids=lambda program: program.source.stem)
def test_compiling_a_source_gives_the_class_in_its_jar(program: CompiledJava) -> None:
    server = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
    assert program.compile(server) == program.class_bytes()


def test_every_program_is_known() -> None:
    assert sorted(program.source.stem for program in compiled_java()) == [
        "BatchScorer",
        "ContributionScorer",
        "ScoreTimer",
    ]


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
