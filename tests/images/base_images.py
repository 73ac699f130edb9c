"""Stand-ins for the images that the Dockerfiles begin with, made of Debian's packages and this machine's Python.

They lie under the names that the Dockerfiles ask for, and no registry is asked. What is built on them shows what our
own layers do; it says nothing of the upstream images' own contents.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mage_platform.local import place_of_state
from mage_platform.settings import PROJECT
from tests.images.container_engine import Engine

RELEASE = "bookworm"
PACKAGES = (
    "ca-certificates", "netbase", "tzdata", "libsqlite3-0", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "zlib1g",
    "libreadline8", "libncursesw6", "libgdbm6", "libuuid1", "libexpat1", "libdb5.3", "libnsl2",
)  # fmt: skip
"""What the Python of this machine is linked with, beside what every image of Debian has."""
SLIM = ("man", "doc", "info", "locale", "lintian", "groff", "linda")
"""Folders below /usr/share that the slim images leave out."""
NOT_COPIED = shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*", "idlelib", "turtledemo")
DOCKERFILES = sorted((PROJECT / "k8s" / "images").glob("*/Dockerfile"))
_PYTHON = """FROM {debian}
COPY usr /usr
RUN ldconfig && ln -s python3.11 /usr/local/bin/python3 && ln -s python3.11 /usr/local/bin/python && \\
    python3 -m ensurepip && ln -s pip3 /usr/local/bin/pip && find /usr/local -name '*.pyc' -delete
ENV LANG=C.UTF-8
CMD ["python3"]
"""


def make_bases(engine: Engine) -> None:
    """Make both, or take Debian's part from where an earlier run has kept it."""
    debian, python = base("debian"), base("python")
    archive = _debian_archive()
    change = ["--change=ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--change=CMD bash"]
    engine.podman("import", *change, str(archive), f"localhost/{debian}")
    context = engine.folder / "python"
    _copy_python(context / "usr" / "local")
    (context / "Dockerfile").write_text(_PYTHON.format(debian=f"localhost/{debian}"))
    engine.build(context / "Dockerfile", f"localhost/{python}", context)
    shutil.rmtree(context)


def base(name: str) -> str:
    """The one image of this name that Dockerfiles begin with.

    Raises:
        AssertionError: They begin with several versions of it.
    """
    found = {image for path in DOCKERFILES for image in re.findall(rf"(?m)^FROM ({name}:\S+)", path.read_text())}
    assert len(found) == 1, f"the Dockerfiles begin with {sorted(found)}: one version is enough"
    return found.pop()


def _debian_archive() -> Path:
    sources = _debian_sources()
    options = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in SLIM]
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", *options, RELEASE]
    recipe = hashlib.sha256("\n".join([*command, *sources]).encode()).hexdigest()[:12]
    archive = place_of_state.chosen() / "images" / f"debian-{recipe}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        draft = archive.with_suffix(".unfinished.tar")
        subprocess.run([*command, str(draft), *sources], check=True, capture_output=True)
        draft.rename(archive)
    return archive


def _debian_sources() -> list[str]:
    """Where this machine's own apt gets this release of Debian from, updates included, as lines of sources.list."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(CREATED_BY)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    targets = [line.split() for line in done.stdout.splitlines()]
    found = [
        f"deb {mirror} {codename} main"
        for mirror, codename, component, kind in targets
        if codename.removesuffix("-updates").removesuffix("-security") == RELEASE
        and (component, kind) == ("main", "Packages")
    ]
    assert found, f"apt of this machine knows no mirror of Debian {RELEASE}: apt-get update"
    return found


def _copy_python(local: Path) -> None:
    """The interpreter that these tests run on, with its library and without what is installed into it."""
    prefix, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(prefix / "lib" / name, local / "lib" / name, ignore=NOT_COPIED, symlinks=True)
    (local / "lib" / name / "site-packages").mkdir()
    (local / "bin").mkdir()
    shutil.copy2(prefix / "bin" / name, local / "bin" / name)
    for library in (prefix / "lib").glob("libpython3*.so*"):
        shutil.copy2(library, local / "lib" / library.name, follow_symlinks=False)
