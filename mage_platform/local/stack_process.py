"""The process in which `running` keeps its stack; it tells its parent in one line of JSON how the start went."""

from __future__ import annotations

import json
import sys

from mage_platform.local.reporter import SilentReporter
from mage_platform.local.stack import run_stack
from mage_platform.settings import Settings, load_settings


class _PipeReporter(SilentReporter):
    def failed(self, sentence: str) -> None:
        """Hand the failure to the process that waits."""
        print(json.dumps({"failed": sentence}), flush=True)


def _say_ready(_: Settings) -> None:
    print(json.dumps({"ready": True}), flush=True)


def _main() -> int:
    services, migrate = sys.argv[1].split(","), sys.argv[2] == "1"
    return run_stack(
        load_settings(),
        services=services,
        on_ready=_say_ready,
        reporter=_PipeReporter(),
        migrate=migrate,
        stop_with_parent=True,
    )


if __name__ == "__main__":
    sys.exit(_main())
