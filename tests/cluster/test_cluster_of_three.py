"""Runs the tests of the files `inside_*.py` in network, mount and process namespaces of their own.

Whatever they start is gone with the first process in them, however it ends. Each of those tests is reported by its
own name here.
"""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mage_platform.local.child import preparation
from mage_platform.settings import PROJECT
from tests.cluster.kubernetes_network import in_private, why_not, with_system_programs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

INSIDE = sorted(Path(__file__).parent.glob("inside_*.py"))
NAMES = [
    node.name
    for path in INSIDE
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@dataclass(frozen=True)
class Inside:
    """What became of the tests inside."""

    folder: Path
    """Where everything they start works, and what stands in its command lines."""
    outcomes: dict[str, str]
    """What each test ended with; empty when it passed."""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """Each file in namespaces of its own, side by side."""
    if reason := why_not():
        pytest.skip(f"no cluster in namespaces here: {reason}")
    folder = tmp_path_factory.mktemp("inside")
    processes = [_start(path, folder / path.stem) for path in INSIDE]
    try:
        for process in processes:
            process.wait()
    finally:  # also when the time of a test is up
        for process in processes:
            process.kill()
    outcomes = {}
    for path in INSIDE:
        report = folder / f"{path.stem}.xml"
        assert report.exists(), (folder / f"{path.stem}.out").read_text()
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes[case.attrib["name"]] = "\n".join(fault.text or "" for fault in case)
    return Inside(folder, outcomes)


def _start(path: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", str(path), "-q", f"--basetemp={folder}", f"--junit-xml={folder}.xml"]
    with Path(f"{folder}.out").open("wb") as output:
        return subprocess.Popen(
            in_private(command), env=with_system_programs(), cwd=PROJECT, stdout=output, stderr=output,
            preexec_fn=preparation(stop_signal=signal.SIGKILL, as_nobody=False),
        )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_inside_namespaces(name: str, inside: Inside) -> None:
    assert inside.outcomes[name] == "", inside.outcomes[name]


def test_nothing_of_the_cluster_is_left_on_the_machine(inside: Inside) -> None:
    assert not Path("/sys/class/net/h2o-pods").exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if bytes(inside.folder) in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
