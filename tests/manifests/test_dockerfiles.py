"""The Dockerfiles: clean for hadolint, exact bases, a numeric user, nothing copied that is not there."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mage_platform.settings import PROJECT
from tests.manifests.admission import Rendered
from tests.manifests.admission.images import why_not_exact
from tests.manifests.overlays import MANIFESTS, ask, tool

DOCKERFILES = {path.parent.name: path for path in sorted((MANIFESTS / "images").glob("*/Dockerfile"))}
VERSION = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
_SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key|private_?key)\w*[= ]")

every_image = pytest.mark.parametrize("image", DOCKERFILES)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and arguments of each, continued lines put together."""
    whole = re.sub(r"(?m)^\s*#.*\n", "", text)
    for line in re.sub(r"\\\n", " ", whole).splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield name.upper(), arguments.strip()


def faults(text: str, context: Path) -> list[str]:
    """What a build, or a run with a read-only root and no root's rights, would stumble over."""
    said, stages = [], set()
    users: list[str] = []
    for name, arguments in instructions(text):
        words = [each for each in arguments.split() if not each.startswith("--")]
        if name == "FROM":
            if words[0] not in stages and (reason := why_not_exact(words[0])):
                said.append(f"FROM {words[0]}: {reason}")
            stages |= {words[2]} if len(words) == 3 else set()
        elif name in ("COPY", "ADD") and "--from=" not in arguments:
            said += [f"{name} {each}: not in the checkout" for each in words[:-1] if not list(context.glob(each))]
        elif name in ("ENV", "ARG") and _SECRET.search(arguments):
            said.append(f"{name} {arguments}: a secret would stand in the image")
        elif name == "USER":
            users.append(arguments)
        if "<<" in arguments or "--link" in arguments:
            said.append(f"{name}: here-documents and --link are not known to every builder")
    if not users or users[-1] != "10001:10001":
        said.append(f"USER {users[-1] if users else 'missing'}: end with 10001:10001")
    return said


def test_every_image_of_the_platform_has_a_dockerfile() -> None:
    assert set(DOCKERFILES) == {"mage", "sidecar", "h2o", "pgbouncer"}


@every_image
def test_a_dockerfile_is_sound(image: str) -> None:
    assert faults(DOCKERFILES[image].read_text(), PROJECT) == []


@every_image
@pytest.mark.integration
def test_hadolint_has_nothing_to_say(image: str) -> None:
    done = ask(tool("hadolint"), "--format", "json", str(DOCKERFILES[image]))
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stdout


@every_image
def test_what_hadolint_leaves_out_says_why(image: str) -> None:
    lines = DOCKERFILES[image].read_text().splitlines()
    for number, line in enumerate(lines):
        if "hadolint ignore" in line:
            assert lines[number - 1].startswith("# "), f"{image}: {line} without a reason above it"


@every_image
def test_an_image_bears_the_version_of_the_project(image: str) -> None:
    assert f'org.opencontainers.image.version="{VERSION}"' in DOCKERFILES[image].read_text()


@pytest.mark.integration
def test_the_manifests_ask_for_the_images_that_are_built(production: Rendered) -> None:
    asked = {str(c.spec["image"]) for w in production.workloads for c in w.containers if "converged" in c.spec["image"]}
    assert {each.rpartition("/")[2] for each in asked} == {f"{name}:{VERSION}" for name in DOCKERFILES}


GOOD = "FROM debian:12.13-slim\nCOPY README.md /app/\nENV HOME=/tmp\nUSER 10001:10001\n"


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("debian:12", "debian:12.13-slim", "FROM debian:12: the tag 12 moves"),
        ("COPY READYOU.md /app/", "COPY README.md /app/", "COPY READYOU.md: not in the checkout"),
        ("ENV API_KEY=x", "ENV HOME=/tmp", "ENV API_KEY=x: a secret"),
        ("USER root", "USER 10001:10001", "USER root: end with 10001:10001"),
        ("COPY --link README.md /app/", "COPY README.md /app/", "COPY: here-documents and --link"),
    ],
)
def test_a_fault_in_a_dockerfile_is_reported(wrong: str, right: str, words: str) -> None:
    assert faults(GOOD, PROJECT) == []
    [said] = faults(GOOD.replace(right, wrong), PROJECT)
    assert said.startswith(words)


@pytest.mark.integration
def test_hadolint_reports_a_bad_dockerfile(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install curl\n")
    done = ask(tool("hadolint"), "--format", "json", str(file))
    assert done.returncode == 1
    assert {"DL3007", "DL3008", "DL3014"} <= {each["code"] for each in json.loads(done.stdout)}
