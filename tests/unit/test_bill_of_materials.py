"""The bill of materials: all of a lock file and nothing else, valid, and the same each time."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mage_platform.bill_of_materials import IMAGES, LOCAL_SERVERS, bill_of_materials, pins_of
from mage_platform.command_line.program import program
from mage_platform.errors import ContractViolated
from mage_platform.settings import PROJECT

LOCK = """\
alpha-beta==1.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via
    #   -r requirements.in
    #   gamma
gamma[extra]==2.0.post1 ; python_version < "4" \\
    --hash=sha256:{c}
    # via -r requirements.in
""".format(a="1" * 64, b="0" * 64, c="2" * 64)


def _bill(image: str) -> dict[str, Any]:
    return bill_of_materials(image, pins_of(PROJECT / IMAGES[image].lock))


def _pinned(lock: str) -> set[tuple[str, str]]:
    """Read with nothing but a pattern, for comparison with the parser."""
    return set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^ ;\\]+)", (PROJECT / lock).read_text(), re.MULTILINE))


def _held(image: str) -> set[tuple[str, str]]:
    return {(each["name"], each["version"]) for each in _bill(image)["components"]}


@pytest.mark.parametrize("image", IMAGES)
def test_it_is_valid_against_the_schema_of_cyclonedx(image: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(_bill(image))) is None
    broken = _bill(image)
    broken["components"][0]["hashes"][0]["content"] = "none"
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize(("image", "lock"), [("platform", "requirements.txt"), ("sidecar", "serving/requirements.txt")])
def test_every_pin_of_the_lock_is_in_it_and_nothing_else(image: str, lock: str) -> None:
    assert _held(image) == _pinned(lock)
    hashes = [each["content"] for component in _bill(image)["components"] for each in component["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", (PROJECT / lock).read_text()))


def test_the_images_leave_out_what_is_not_installed_there() -> None:
    assert {name for name, _ in _held("platform") - _held("mage")} == LOCAL_SERVERS
    assert _held("mage") <= _held("platform")
    assert _held("h2o") == {("h2o", "3.46.0.11")}


def test_names_hashes_and_needs_are_those_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    bill = bill_of_materials("sidecar", pins_of(tmp_path / "lock.txt"))
    assert bill["metadata"]["component"]["name"] == "converged-platform/sidecar"
    first, second = bill["components"]
    assert (first["purl"], second["purl"]) == ("pkg:pypi/alpha-beta@1.0", "pkg:pypi/gamma@2.0.post1")
    assert [each["content"] for each in first["hashes"]] == ["0" * 64, "1" * 64]
    assert bill["dependencies"] == [
        {"ref": "converged-platform", "dependsOn": [first["purl"], second["purl"]]},
        {"ref": first["purl"]},
        {"ref": second["purl"], "dependsOn": [first["purl"]]},
    ]


def test_every_reference_between_packages_is_to_one_that_is_listed() -> None:
    for image in IMAGES:
        bill = _bill(image)
        known = {"converged-platform"} | {each["bom-ref"] for each in bill["components"]}
        assert len(known) == len(bill["components"]) + 1
        assert {each["ref"] for each in bill["dependencies"]} == known
        assert {ref for each in bill["dependencies"] for ref in each.get("dependsOn", ())} <= known


def test_the_same_lock_gives_the_same_bytes_and_another_one_another_number() -> None:
    pins = pins_of(PROJECT / "serving/requirements.txt")
    first = bill_of_materials("sidecar", pins)
    assert json.dumps(first) == json.dumps(bill_of_materials("sidecar", reversed(pins)))
    assert "timestamp" not in first["metadata"]
    assert first["serialNumber"] != bill_of_materials("sidecar", pins[1:])["serialNumber"]
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stamped = bill_of_materials("sidecar", pins, when)
    assert stamped["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(stamped)) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LOCK.replace("==1.0", ">=1.0"), "lock.txt:1: 'alpha-beta>=1.0' names no exact version"),
        ("alpha==1.0\n", "alpha without a hash"),
        ("-e .\n", "lock.txt:1: '-e .' is no requirement"),
    ],
)
def test_a_lock_that_does_not_say_everything_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "lock.txt").write_text(text)
    with pytest.raises(ContractViolated, match=re.escape(says)):
        pins_of(tmp_path / "lock.txt")
    with pytest.raises(ContractViolated, match="cannot be read"):
        pins_of(tmp_path / "missing.txt")


def test_the_command_writes_the_bill_and_tells_what_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.cdx.json"
    done = CliRunner().invoke(program, ["sbom", "--image", "sidecar", "--output", str(file), "--json"])
    assert done.exit_code == 0, done.output
    told, bill = json.loads(done.output), json.loads(file.read_text())
    assert (told["components"], told["serial_number"]) == (len(bill["components"]), bill["serialNumber"])
    printed = CliRunner().invoke(program, ["sbom", "--image", "sidecar"])
    assert printed.output == file.read_text()
    stamped = CliRunner().invoke(program, ["sbom", "--timestamp", "2026-01-02T03:04:05Z"])
    assert json.loads(stamped.output)["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert CliRunner().invoke(program, ["sbom", "--image", "none"]).exit_code == 2
