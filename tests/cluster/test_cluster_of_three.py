"""Runs the tests of the files `inside_*.py` in network, mount and process namespaces of their own.

Whatever they start is gone with the first process in them, however it ends. Each of those tests is reported by its
own name here.
"""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
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


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each test inside ended with; empty when it passed."""
    if reason := why_not():
        pytest.skip(f"no cluster in namespaces here: {reason}")
    report = tmp_path_factory.mktemp("report") / "report.xml"
    command = [sys.executable, "-m", "pytest", *map(str, INSIDE), f"--junit-xml={report}", "-q"]
    done = subprocess.run(
        in_private(command), env=with_system_programs(), cwd=PROJECT, capture_output=True, text=True, check=False,
        preexec_fn=preparation(stop_signal=signal.SIGKILL, as_nobody=False),
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    return {
        case.attrib["name"]: "\n".join(fault.text or "" for fault in case)
        for case in ElementTree.parse(report).iter("testcase")
    }


@pytest.mark.parametrize("name", NAMES)
def test_inside_namespaces(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == "", outcomes[name]


def test_nothing_of_the_cluster_is_left_on_the_machine(outcomes: dict[str, str]) -> None:
    assert not Path("/sys/class/net/h2o-pods").exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"inside_whole_cloud" in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
