"""What the four images are, and what is not in them."""

from __future__ import annotations

import re

import pytest

from tests.images.base_images import base
from tests.images.conftest import NAMES, Images

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
MOST_MIB = {"mage": 2300, "sidecar": 420, "h2o": 700, "pgbouncer": 40}
"""Most that an image may have beside what it begins with."""
BASES = {"mage": "python", "sidecar": "python", "h2o": "debian", "pgbouncer": "debian"}
SECRET = re.compile(
    r"\.pem$|\.key$|\.env$|password|secret|userlist|id_(rsa|ed25519)|credentials|\.netrc$|pip\.conf$|verification_keys$"
)
PUBLIC = re.compile(
    r"^/(usr|etc/ssl|etc/pam\.d|var/lib/dpkg|var/lib/pam)/|^/(opt/venv/lib|app)/.*(\.py|\.pyc|\.pyi|\.js|\.html|\.css|cacert\.pem|\.ya?ml|\.template)$"
)
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "make", "javac", "cargo", "rustc")


def test_their_sizes_are_bounded(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: images.engine.inspect(images.tag(name))["Size"] / 2**20 for name in NAMES}
    own = {
        name: size - images.engine.inspect(f"localhost/{base(BASES[name])}")["Size"] / 2**20
        for name, size in sizes.items()
    }
    with capsys.disabled():
        print(f"\nimages: their bases took {images.seconds['bases']:.0f} s")
        for name in NAMES:
            print(
                f"  {name:10} {sizes[name]:5.0f} MiB, {own[name]:5.0f} without its base, {images.seconds[name]:4.0f} s"
            )
    assert {name: size for name, size in own.items() if size > MOST_MIB[name]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_nobody_in_particular_under_tini_and_says_what_it_is(images: Images, name: str) -> None:
    image = images.engine.inspect(images.tag(name))
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Entrypoint"] == ["/usr/bin/tini", "--"]
    assert image["Healthcheck"]["Test"][0] == "CMD"
    assert image["Labels"]["org.opencontainers.image.title"] == f"converged-platform/{name}"
    assert image["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    assert image["Labels"]["org.opencontainers.image.description"]
    said = images.engine.once(
        images.tag(name), "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status; touch /app/x || echo no"
    )
    assert said.split() == ["10001", "10001", "CapEff:", "0000000000000000", "no"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_no_secrets_compilers_caches_or_files_that_its_user_may_change(images: Images, name: str) -> None:
    look = (
        "find / -xdev -type f -size +0",
        f"for each in {' '.join(COMPILERS)}; do command -v $each; done",
        "find / -xdev \\( -user 10001 -o -group 10001 -o -perm -o+w \\) \\( -type f -o -type d \\)",
        "find /var/lib/apt/lists /var/cache/apt -xdev -type f",
    )
    said = images.engine.once(images.tag(name), "sh", "-c", f"{{ {'; echo ---; '.join(look)}; }} 2>/dev/null; true")
    files, compilers, changeable, apt = (part.split() for part in said.split("---\n"))
    assert len(files) > 1000
    assert [file for file in files if SECRET.search(file) and not PUBLIC.search(file)] == []
    assert [file for file in files if "/.cache/" in file or file.startswith("/build")] == []
    assert compilers == []
    assert sorted({*changeable} - {"/tmp", "/var/tmp", "/run/lock"}) == (["/state"] if name == "mage" else [])
    assert [file for file in apt if not file.endswith("/lock")] == []


def test_the_sidecar_has_no_library_of_the_training_side(images: Images) -> None:
    libraries = images.engine.once(images.tag("sidecar"), "ls", "/opt/venv/lib/python3.11/site-packages").split()
    assert {"fastapi", "jpype", "pyarrow"} <= set(libraries)
    assert not {"mage_ai", "h2o", "pandas", "great_expectations", "sklearn", "pip", "setuptools"} & set(libraries)
    code = images.engine.once(images.tag("sidecar"), "sh", "-c", "ls /app /app/mage_platform; ls /opt/java/bin")
    assert not {"training", "ingestion.py", "local", "orchestration", "javac", "tests", "blocks.py"} & set(code.split())


def test_what_is_imported_is_compiled_already(images: Images) -> None:
    for name, module in {"mage": "mage_platform.command_line.program", "sidecar": "serving.app"}.items():
        uncompiled = (
            f"import {module}, sys; from pathlib import Path; "
            "print([m.__name__ for m in list(sys.modules.values()) if str(getattr(m, '__file__', '')).endswith('.py')"
            " and m.__spec__ and not Path(m.__spec__.cached or '').exists()])"
        )
        assert images.engine.once(images.tag(name), "python", "-c", uncompiled).strip() == "[]"
