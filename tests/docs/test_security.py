"""What docs/security.md says of secrets and of old packages is so."""

from __future__ import annotations

import re
from pathlib import Path

from mage_platform.bill_of_materials import pins_of
from mage_platform.local.passwords import keep_passwords
from mage_platform.settings import PROJECT, Settings, load_settings

TEXT = (PROJECT / "docs/security.md").read_text(encoding="utf-8")
HELD = {
    "cryptography", "pyjwt", "aiohttp", "tornado", "werkzeug", "requests", "pillow", "setuptools", "jupyter-server",
    "ipython", "paramiko", "ldap3", "bcrypt", "itsdangerous", "newrelic", "watchdog",
}  # fmt: skip
"""What Mage 0.9.80 holds in an old version, read from its metadata."""


def _table(first_column: str) -> list[list[str]]:
    lines = TEXT.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_the_table_of_old_packages_has_each_of_them_at_the_version_of_the_lock() -> None:
    rows = _table("package")
    assert [row[0] for row in rows] == sorted(HELD)
    locked = {pin.name: pin for pin in pins_of(PROJECT / "requirements.txt")}
    assert {row[0]: row[1] for row in rows} == {name: locked[name].version for name in HELD}
    assert [name for name in HELD if "mage-ai" not in locked[name].wanted_by] == []
    assert all(row[4] for row in rows)


def test_the_table_says_which_of_them_the_sidecar_has_and_there_they_are_newer() -> None:
    sidecar = {pin.name: pin.version for pin in pins_of(PROJECT / "serving/requirements.txt")}
    for name, held, there, *_ in _table("package"):
        assert there == sidecar.get(name, "–"), name
        assert there == "–" or _version(there) > _version(held)


def test_what_is_known_against_a_version_is_mended_in_a_later_one() -> None:
    cve = re.compile(r"CVE-\d{4}-\d{4,} \((?:after )?([\d.]+)\)")
    known = {row[0]: cve.findall(row[3]) for row in _table("package")}
    held = {row[0]: row[1] for row in _table("package")}
    assert sum(len(versions) for versions in known.values()) == len(re.findall("CVE-", TEXT))
    for name, versions in known.items():
        assert all(_version(held[name]) < _version(version) for version in versions), name


def test_every_secret_that_is_made_up_or_set_has_its_row(tmp_path: Path) -> None:
    rows = " ".join(row[0] for row in _table("file"))
    settings = load_settings(state_folder=tmp_path)
    keep_passwords(settings)
    made = {file.name for file in (settings.state_folder / "secrets").iterdir()}
    set_ = {f"platform_{name}" for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert sorted(name for name in made | set_ if f"`{name}`" not in rows) == []
