"""The Mage server: Mage's own command line, with the guards installed.

    python -m mage_platform.orchestration.mage_server start <project> --host 127.0.0.1 --port 6789

Unlike `mage start` it refuses a port that is taken instead of quietly taking the next one, and its scheduler,
worker pool, blocks and notebook kernel end with it, however it ends. In production it takes Mage's secrets from their
files, and does not start without them. The project's folder may be read-only.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mage_platform.errors import PlatformError, PortTaken
from mage_platform.orchestration.mage_variables import forget_secrets, production_variables
from mage_platform.orchestration.process_family import found_family
from mage_platform.orchestration.project_environment import existing_project, project_environment
from mage_platform.settings import load_settings


def main(arguments: Sequence[str]) -> int:
    """Serve a project until the process is told to stop.

    Args:
        arguments: The command line without the program's name.

    Returns:
        Exit code: 0 when Mage ended by itself, 2 when it could not start.
    """
    asked = _parser().parse_args(arguments)
    try:
        project = existing_project(asked.project)
        settings = load_settings()
        secrets = production_variables(settings, os.environ, project) if settings.environment == "production" else {}
        refuse_taken_port(asked.host, asked.port)
        found_family(
            ["-m", "mage_platform.orchestration.mage_server", *arguments],
            project_environment(project, os.environ),
        )
        os.environ.update(secrets)
        _serve(project, asked.host, asked.port)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def refuse_taken_port(host: str, port: int) -> None:
    """Make sure that the server can listen where it is asked to.

    Args:
        host: Address to bind to.
        port: Port to bind to.

    Raises:
        PortTaken: Another process listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            raise PortTaken(
                f"The Mage server cannot listen on {host}:{port} ({error.strerror}). Stop what listens there, "
                "or choose another port with PLATFORM_MAGE__PORT.",
                field="mage.port",
            ) from error


def _serve(project: Path, host: str, port: int) -> None:
    from mage_ai.settings.repo import set_repo_path

    set_repo_path(str(project))  # before any other import of Mage: they read the project's settings
    from mage_ai.cli.main import app
    from mage_ai.server import server

    from mage_platform.orchestration.dashboard_route import serve_dashboard_charts
    from mage_platform.orchestration.guard import install_guards
    from mage_platform.orchestration.preload import preload_blocks
    from mage_platform.orchestration.read_only_project import keep_tunnel_note_out_of_project
    from mage_platform.orchestration.run_claim import leave_claimed_runs_alone
    from mage_platform.orchestration.trigger_files import leave_trigger_files_alone

    forget_secrets()
    # Mage looks for the next free port by itself; told that its port is free it fails when it is not.
    server.is_port_in_use = lambda port, host=None: False
    install_guards()
    leave_claimed_runs_alone()
    leave_trigger_files_alone()
    keep_tunnel_note_out_of_project()
    serve_dashboard_charts()
    preload_blocks(project)
    app(["start", str(project), "--host", host, "--port", str(port)], standalone_mode=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mage_server", description="Serve a Mage project, guarded.")
    commands = parser.add_subparsers(required=True, metavar="start")
    start = commands.add_parser("start", help="start the web server and the scheduler")
    start.add_argument("project", type=Path, help="folder with the project's metadata.yaml")
    start.add_argument("--host", default="127.0.0.1", help="address to bind to (%(default)s)")
    start.add_argument("--port", type=int, default=6789, help="port to bind to (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
