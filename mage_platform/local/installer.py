"""Installs locked requirements: with uv, which a pinned and hashed wheel brings, else with pip.

Only the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mage_platform.local import place_of_state
from mage_platform.local.package_index import pip_settings, uv_variables

_PYTHON = "3.11"
# what a failed command said, and what to do about it; the first that fits counts
_ADVICE = (
    (r"No space left on device|os error 28\b|Disk quota exceeded", "the disk is full: free some space"),
    (
        r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED|UnknownIssuer",
        "the package index shows a certificate that is not trusted here: set PIP_CERT to your company's certificates",
    ),
    (
        r"401 Unauthorized|403 Forbidden|status code 40[13]|[Ee]rror 40[13]",
        "the package index refuses access: check the user and password in PIP_INDEX_URL",
    ),
    (
        r"dns error|failed to lookup|Name or service not known|Temporary failure in name|Network is unreachable"
        r"|[Cc]onnection (refused|reset|timed out)|error sending request|NewConnectionError|from versions: none"
        r"|[Rr]ead timed out|operation timed out",
        "the package index does not answer: check the network; behind a company network set PIP_INDEX_URL, PIP_CERT "
        "or HTTPS_PROXY",
    ),
)


class Unsuccessful(Exception):
    """The environment cannot be made; the message says why and what to do."""


class _Failed(Exception):
    """A command failed.

    Args:
        said: The end of what it said.
    """

    def __init__(self, said: str) -> None:
        lines = [line.strip(" ×╰─▶├│") for line in said.splitlines() if line.strip()]
        super().__init__("; ".join(lines[-2:])[-400:] or "it said nothing")
        self.said = said


class Installer:
    """Creates and fills virtual environments.

    Args:
        project: Root of the checkout.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._folder = place_of_state.chosen(project) / "installer"
        self._log = self._folder / "installer.log"
        self._uv: Path | None = None
        self._variables: dict[str, str] | None = None

    def create(self, folder: Path) -> None:
        """Make an empty virtual environment of this interpreter."""
        try:
            self._run("venv", [sys.executable, "-m", "venv", "--without-pip", str(folder)])
        except _Failed as error:
            raise Unsuccessful(
                f"{sys.executable} cannot make virtual environments ({error}): install its package venv "
                "(python3.11-venv), or name another interpreter with PYTHON=..."
            ) from None

    def install(self, folder: Path, locks: Sequence[Path]) -> None:
        """Make an environment hold exactly what the locked files name, by hash."""
        python = str(folder / "bin" / "python")
        title = f"{folder.name}: installing {sum(map(_count, locks))} packages"
        try:
            uv = [str(self._find_uv()), "pip", "sync", "--require-hashes", "--no-progress", "--python", python]
            self._run(title, [*uv, *map(str, locks)], self._uv_environment())
            return
        except _Failed as error:
            _give_up_when_hopeless(error)
            print(f"{folder.name}: uv could not do it ({error}), trying pip", flush=True)
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        pip += ["install", "--no-input", "--no-deps", "--require-hashes"]
        try:
            self._run(f"{title} with pip", [*pip, *(f"--requirement={lock}" for lock in locks)])
        except _Failed as error:
            _give_up_when_hopeless(error)
            raise Unsuccessful(f"the requirements cannot be installed ({error}); all of it: {self._log}") from None

    def compile_locks(self, *, upgrade: bool) -> None:
        """Write every locked requirements file anew from what it is made of.

        Args:
            upgrade: Take the newest versions allowed, instead of keeping those that still fit.
        """
        for source, locked in (
            ("requirements-bootstrap.in", "requirements-bootstrap.txt"),
            ("requirements.in", "requirements.txt"),
            ("requirements-dev.in", "requirements-dev.txt"),
            ("serving/requirements.in", "serving/requirements.txt"),
            ("tests/serving/schemathesis-requirements.in", "tests/serving/schemathesis-requirements.txt"),
            ("tests/manifests/tools-requirements.in", "tests/manifests/tools-requirements.txt"),
            ("benchmarks/feast-requirements.in", "benchmarks/feast-requirements.txt"),
            ("benchmarks/peers-requirements.in", "benchmarks/peers-requirements.txt"),
        ):
            argv = [str(self._find_uv()), "pip", "compile", "--generate-hashes", "--no-header", "--quiet"]
            argv += ["--no-emit-index-url", "--no-emit-find-links", "--python-version", _PYTHON]
            argv += [*(["--upgrade"] if upgrade else []), "--output-file", locked, source]
            try:
                self._run(f"{locked}: resolving", argv, self._uv_environment())
            except _Failed as error:
                _give_up_when_hopeless(error)
                raise Unsuccessful(f"{source} cannot be resolved ({error}); all of it: {self._log}") from None
            print(f"{locked}: {_count(self._project / locked)} packages", flush=True)

    def _find_uv(self) -> Path:
        """uv of the pinned version, in a folder of its own; installed at the first call."""
        if self._uv is None:
            lock = self._project / "requirements-bootstrap.txt"
            folder = self._folder / f"uv-{_version_of_uv(lock)}"
            if not (folder / "bin" / "uv").exists():
                draft = folder.with_suffix(".unfinished")
                shutil.rmtree(draft, ignore_errors=True)
                pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
                pip += ["--require-hashes", "--no-deps", "--target", str(draft), "--requirement", str(lock)]
                self._run("installing uv", pip)
                shutil.rmtree(folder, ignore_errors=True)
                draft.rename(folder)
            self._uv = folder / "bin" / "uv"
        return self._uv

    def _uv_environment(self) -> Mapping[str, str]:
        if self._variables is None:
            self._variables = uv_variables(pip_settings(sys.executable), os.environ)
            home = os.environ.get("HOME", "")
            if not os.access(home or "/nowhere", os.W_OK) and "UV_CACHE_DIR" not in os.environ:
                self._variables["UV_CACHE_DIR"] = str(self._folder / "cache")
        return self._variables

    def _run(self, title: str, argv: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        """Run a command, its words in the log, the elapsed time on the terminal."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        began = told = time.monotonic()
        with self._log.open("ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                argv,
                cwd=self._project,
                env={**os.environ, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                while process.poll() is None:
                    time.sleep(0.05)
                    now = time.monotonic()
                    if now - told >= (1 if told == began else 5):
                        told = now
                        print(f"{title} ... {now - began:.0f} s", flush=True)
            except BaseException:  # Ctrl-C too must not leave the installer running
                process.kill()
                process.wait()
                raise
        if process.returncode:
            raise _Failed(_end_of(self._log, start))


def _count(lock: Path) -> int:
    return sum(1 for line in lock.read_text().splitlines() if re.match(r"[A-Za-z0-9]\S*==", line))


def _version_of_uv(lock: Path) -> str:
    found = re.search(r"^uv==(\S+)", lock.read_text(), re.MULTILINE)
    return found.group(1) if found else "unknown"


def _give_up_when_hopeless(error: _Failed) -> None:
    """Some failures would meet pip just as well: name the cure at once."""
    for pattern, advice in _ADVICE:
        if re.search(pattern, error.said):
            raise Unsuccessful(f"{advice}, then run the same command again") from None


def _end_of(log: Path, start: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 8192))
        return file.read().decode(errors="replace")
