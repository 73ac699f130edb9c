"""`python -m serving`: the sidecar as a process of its own."""

from __future__ import annotations

import argparse
import resource
import signal
import socket
import sys

import structlog
import uvicorn

from mage_platform.errors import PlatformError, PortTaken
from mage_platform.logs import configure_logging
from mage_platform.settings import Settings, load_settings
from serving.app import create_app
from serving.connections import Limits, connection_kind
from serving.log_forwarding import forward
from serving.workers import Workers, stop_with

log = structlog.get_logger()
DRAIN_SECONDS = 10
FILES_BESIDE_CONNECTIONS = 256
"""Open files kept for everything else: models, logs, PostgreSQL, Redis."""


def main() -> int:
    """Serve until SIGTERM or Ctrl-C, then answer what is under way.

    Returns:
        0 after a stop that was asked for, 2 when it cannot start; then one line says why.
    """
    arguments = _arguments()
    try:
        settings = load_settings()
        application = create_app(settings)
        listener = socket.socket(fileno=arguments.listener) if arguments.listener else _listen(settings)
    except PlatformError as error:
        print(f"the sidecar cannot start: {error}", file=sys.stderr)
        return 2
    configure_logging(settings)
    forward()
    if arguments.lifeline:
        stop_with(arguments.lifeline)
    elif settings.sidecar.workers > 1:
        log.info("sidecar started", address=settings.sidecar.url, workers=settings.sidecar.workers)
        code = Workers(listener, settings.sidecar.workers, DRAIN_SECONDS + 5.0).run()
        log.info("sidecar stopped")
        return code
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=connection_kind(_limits(settings), application.door.room),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing goes by `x-forwarded-*`, so nobody is believed who sends it
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    # uvicorn raises the signal once more when it has drained; with these the process then ends with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    log.info("sidecar started", address=settings.sidecar.url, worker=arguments.worker)
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    log.info("sidecar stopped")
    return 0 if server.started else 2


def _limits(settings: Settings) -> Limits:
    """What clients may do; no more connections than there may be files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.sidecar.maximum_connections + FILES_BESIDE_CONNECTIONS
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connections = settings.sidecar.maximum_connections
    if resource.RLIM_INFINITY != soft < wanted:
        connections = max(1, soft - FILES_BESIDE_CONNECTIONS)
        log.warning("fewer connections than wanted: raise the limit of open files", connections=connections, files=soft)
    return Limits(connections, settings.sidecar.patience_seconds, settings.sidecar.keep_alive_seconds)


def _arguments() -> argparse.Namespace:
    """What `serving.workers` tells a worker; a sidecar that is started by itself gets none of it."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--worker", type=int, default=0, help="its number among the workers")
    parser.add_argument("--listener", type=int, help="file descriptor of the listening socket")
    parser.add_argument("--lifeline", type=int, help="file descriptor that ends when the parent does")
    return parser.parse_args()


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.sidecar.host, settings.sidecar.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port} ({error.strerror}): set PLATFORM_SIDECAR__PORT to a free port",
            field="sidecar.port",
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
