"""What a person is told while the local stack starts, runs and stops."""

from __future__ import annotations

import sys
from typing import Protocol


class Reporter(Protocol):
    """Told about every step of the stack's life. Implementations must not raise."""

    def note(self, sentence: str) -> None:
        """Something worth knowing that is not a failure."""

    def ready(self, service: str, address: str, seconds: float) -> None:
        """A service answers."""

    def stopped(self, service: str, seconds: float, *, killed: bool) -> None:
        """A service has ended; `killed` when it had to be forced."""

    def failed(self, sentence: str) -> None:
        """The stack cannot go on: one line with what is wrong and what cures it."""


class LineReporter:
    """One plain line a step: to standard output, failures to standard error."""

    def note(self, sentence: str) -> None:
        """Print the sentence."""
        print(sentence, flush=True)

    def ready(self, service: str, address: str, seconds: float) -> None:
        """Print name, address and seconds."""
        print(f"  {service:<10} ready after {seconds:5.1f} s   {address}", flush=True)

    def stopped(self, service: str, seconds: float, *, killed: bool) -> None:
        """Print name and seconds."""
        how = "killed" if killed else "stopped"
        print(f"  {service:<10} {how} after {seconds:.1f} s", flush=True)

    def failed(self, sentence: str) -> None:
        """Print the sentence."""
        print(f"error: {sentence}", file=sys.stderr, flush=True)


class SilentReporter:
    """Says nothing; failures reach the caller as exceptions or exit codes."""

    def note(self, sentence: str) -> None:
        """Nothing."""

    def ready(self, service: str, address: str, seconds: float) -> None:
        """Nothing."""

    def stopped(self, service: str, seconds: float, *, killed: bool) -> None:
        """Nothing."""

    def failed(self, sentence: str) -> None:
        """Nothing."""
