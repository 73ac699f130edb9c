"""The Python environments of the checkout: `.venv` for the platform, `.venv-serving` for the sidecar.

Both hold exactly what the locked requirements name, checked by hash. Only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mage_platform.local import place_of_state
from mage_platform.local.installer import Installer, Unsuccessful

PROJECT = Path(__file__).resolve().parents[2]
STAMP, UNFINISHED = "locked.json", "unfinished"
NEEDED_BYTES = 4 * 1024**3  # 1.5 GB of packages, the same again in the installer's cache, and room to unpack


@dataclass(frozen=True)
class Environment:
    """One virtual environment and the locked files it is made of."""

    folder: Path
    locks: tuple[Path, ...]
    optional_locks: tuple[Path, ...] = ()
    """Kept up to date where they are installed already, never added."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def wanted_locks(self) -> tuple[Path, ...]:
        """The locked files to install now."""
        _, present = self._stamp()
        return (*self.locks, *(lock for lock in self.optional_locks if lock.name in present))

    def is_current(self) -> bool:
        """True when everything the locked files name is installed. Takes milliseconds."""
        place, installed = self._stamp()
        if (self.folder / UNFINISHED).exists() or not self.python.exists() or place != self._place():
            return False
        return all(installed.get(lock.name) == digest(lock) for lock in self.locks)

    def is_broken(self) -> bool:
        """True when what is there was left half-made, or belongs to another place or interpreter."""
        if not self.folder.exists():
            return False
        place, _ = self._stamp()
        moved = bool(place) and place != self._place()
        return (self.folder / UNFINISHED).exists() or not self.python.exists() or moved

    def begin(self) -> None:
        """Note that the environment is being changed."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / UNFINISHED).touch()

    def finish(self, locks: Sequence[Path]) -> None:
        """Note that the environment is complete."""
        stamp = {"place": self._place(), "locks": {lock.name: digest(lock) for lock in locks}}
        (self.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def _place(self) -> str:
        # scripts hold the absolute path of the environment, and its interpreter is a link
        return f"{self.folder} with {sys.base_prefix}, Python {sys.version_info[0]}.{sys.version_info[1]}"

    def _stamp(self) -> tuple[str, dict[str, str]]:
        """Place and digests written down when it was last complete; empty when it never was."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            stamp = json.loads((self.folder / STAMP).read_text())
            return str(stamp["place"]), dict(stamp["locks"])
        return "", {}


def environments_for(command: str, project: Path = PROJECT) -> list[Environment]:
    """What a command needs: `test` adds the tools for tests and checks, among them Schemathesis in an environment of
    its own, and what examines the Kubernetes manifests in another; `bench-feast` and `bench-peers` a place for what
    they measure."""
    platform, tools = project / "requirements.txt", project / "requirements-dev.txt"
    main_environment = (
        Environment(project / ".venv", (platform, tools))
        if command == "test"
        else Environment(project / ".venv", (platform,), optional_locks=(tools,))
    )
    serving = Environment(project / ".venv-serving", (project / "serving" / "requirements.txt",))
    if command in ("bench-feast", "bench-peers"):
        whose = command.removeprefix("bench-")
        others = Environment(
            place_of_state.chosen(project) / f"{whose}-environment",
            (project / "benchmarks" / f"{whose}-requirements.txt",),
        )
        return [main_environment, others] if whose == "feast" else [main_environment, serving, others]
    if command == "test":
        schemathesis = Environment(
            place_of_state.chosen(project) / "schemathesis-environment",
            (project / "tests" / "serving" / "schemathesis-requirements.txt",),
        )
        return [main_environment, serving, manifest_tools(project), schemathesis]
    return [main_environment, serving]


def manifest_tools(project: Path = PROJECT) -> Environment:
    """What renders and examines the Kubernetes manifests: kubectl, kubernetes-validate, checkov, hadolint."""
    return Environment(
        place_of_state.chosen(project) / "manifest-tools-environment",
        (project / "tests" / "manifests" / "tools-requirements.txt",),
    )


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make(environment: Environment, installer: Installer) -> None:
    """Bring one environment up to date; a half-made one is removed and made anew."""
    if environment.is_current():
        return
    began = time.monotonic()
    locks = environment.wanted_locks()
    if environment.is_broken():
        print(f"{environment.folder.name}: was left unfinished or was moved, starting again", flush=True)
        shutil.rmtree(environment.folder)
    fresh = not environment.folder.exists()
    if fresh:
        installer.create(environment.folder)
    environment.begin()
    (environment.folder / STAMP).unlink(missing_ok=True)
    installer.install(environment.folder, locks)
    if environment.folder.name == ".venv":
        write_command(environment.folder)
    environment.finish(locks)
    print(f"{environment.folder.name}: ready after {time.monotonic() - began:.0f} s", flush=True)


def write_command(folder: Path) -> None:
    """Put `mage-platform` into the environment; the project itself is not installed, it is run where it lies."""
    command = folder / "bin" / "mage-platform"
    command.write_text(
        f"#!{folder / 'bin' / 'python'}\n"
        "import sys\n\n"
        f"sys.path.insert(0, {str(PROJECT)!r})\n"
        "from mage_platform.command_line import main\n\n"
        "main()\n"
    )
    command.chmod(0o755)


def main(arguments: Sequence[str]) -> int:
    """Carry out one command of the Makefile."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where SIGINT was ignored by whoever started make
        signal.signal(number, _interrupt)
    command = arguments[0] if arguments else "run"
    try:
        if reason := place_of_state.why_not(place_of_state.chosen()):
            raise Unsuccessful(
                f"PLATFORM_STATE_FOLDER={place_of_state.chosen()} cannot be used ({reason}): name a new folder"
            )
        if command == "reset":
            return _reset()
        installer = Installer(PROJECT)
        if command == "lock":
            installer.compile_locks(upgrade="--upgrade" in arguments)
            return 0
        outdated = [each for each in environments_for(command) if not each.is_current()]
        if outdated:
            _require_room()
        for environment in outdated:
            make(environment, installer)
    except Unsuccessful as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or PROJECT}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _require_room() -> None:
    free = shutil.disk_usage(PROJECT).free
    if free < NEEDED_BYTES:
        raise Unsuccessful(
            f"only {free / 1024**3:.1f} GiB are free on the disk of {PROJECT} and the Python environments need "
            f"{NEEDED_BYTES / 1024**3:.0f}: free some, or clone to another disk"
        )


def _reset() -> int:
    """Drop all local data, after a question, and never under a running stack."""
    import fcntl

    folder = place_of_state.chosen()
    if not folder.exists():
        print(f"nothing to drop: there is no {folder}")
        return 0
    if (folder / place_of_state.LOCK).exists():
        with (folder / place_of_state.LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unsuccessful(f"a stack runs on {folder} (pid {lock.read().strip()}): stop it first") from None
    print(f"This drops every feature, model, login and log kept in {folder}.")
    try:
        answer = input("Type yes to go on: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        print("nothing was dropped")
        return 1
    shutil.rmtree(folder)
    print("dropped")
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
