"""Show a run in the terminal while it goes on: which block, which region, how long, what is left."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mage_platform.orchestration.progress import BlockProgress, BlockStatus, RunProgress

_SIGNS = {
    BlockStatus.INITIAL: ("·", "dim"),
    BlockStatus.QUEUED: ("·", "cyan"),
    BlockStatus.RUNNING: ("▸", "cyan"),
    BlockStatus.COMPLETED: ("✓", "green"),
    BlockStatus.FAILED: ("✗", "red"),
    BlockStatus.CANCELLED: ("–", "yellow"),
    BlockStatus.UPSTREAM_FAILED: ("–", "yellow"),
    BlockStatus.CONDITION_FAILED: ("–", "dim"),
}
_WORDS = {
    BlockStatus.INITIAL: "waiting",
    BlockStatus.UPSTREAM_FAILED: "not run: a block before it failed",
    BlockStatus.CONDITION_FAILED: "not run: its condition is false",
}


class LiveRunView:
    """Listener that draws a run: a table that redraws itself on a terminal, else a line for each change.

    Use it as a context manager and hand it to `run_and_follow` as the listener.

    Args:
        console: Where to draw; standard error when None, so that standard output stays free for data.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._seen: dict[str, BlockStatus] = {}
        self._latest: RunProgress | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, progress: RunProgress) -> None:
        """Show a state of the run.

        Args:
            progress: The run as it stands.
        """
        self._latest = progress
        if self._live is None:
            self._print_changes(progress)

    def _print_changes(self, progress: RunProgress) -> None:
        for block in progress.steps:
            before = self._seen.get(block.name, BlockStatus.INITIAL)
            self._seen[block.name] = block.status
            if block.status is before or block.status is BlockStatus.QUEUED:
                continue
            ended = f"{progress.steps_ended}/{len(progress.steps)}"
            self._console.print(
                f"{self._clock()} {progress.pipeline} [{ended}] {block.name}: {_described(block)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _draw(self) -> RenderableType:
        progress = self._latest
        if progress is None:
            return Spinner("dots", text=Text(f"starting {self._clock()}", style="dim"))
        head = Text.assemble(
            (progress.pipeline, "bold"),
            (f"  run {progress.run_id}  {self._clock()}  ", "dim"),
            _how_far(progress),
        )
        return Group(head, _table(progress))

    def _clock(self) -> str:
        return _seconds(time.monotonic() - self._began)


def _how_far(progress: RunProgress) -> str:
    if not progress.steps:
        return "waiting for the scheduler"
    return f"{progress.steps_ended} of {len(progress.steps)} done"


def _table(progress: RunProgress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column(overflow="ellipsis", no_wrap=True)
    for block in progress.blocks:
        children = progress.children_of(block.block)
        if children and block.child is None:
            ended = sum(each.status.ended for each in children)
            table.add_row(Text(f"  {block.block}", style="bold"), "", Text(f"{ended} of {len(children)}", style="dim"))
            continue
        sign, style = _SIGNS[block.status]
        name = f"{sign} {block.block}" if block.child is None else f"  {sign} {block.child}"
        table.add_row(Text(name, style=style), Text(_duration(block), style="dim"), Text(_remark(block), style="dim"))
    return table


def _remark(block: BlockProgress) -> str:
    if block.status is BlockStatus.FAILED:
        return _first_line(block.reason or "failed")
    if block.attempt > 1:
        return f"attempt {block.attempt}: its process died before"
    return "" if block.status is BlockStatus.COMPLETED else _words(block)


def _described(block: BlockProgress) -> str:
    parts = [_words(block)]
    if block.attempt > 1:
        parts.append(f"(attempt {block.attempt}: its process died before)")
    if block.status is BlockStatus.COMPLETED:
        parts.append(f"in {_duration(block)}")
    if block.reason:
        # one line a change; whoever ran it tells the whole reason at the end
        parts.append(f"- {_first_line(block.reason)}")
    return " ".join(parts)


def _first_line(reason: str) -> str:
    return reason.splitlines()[0].rstrip(":")


def _words(block: BlockProgress) -> str:
    return _WORDS.get(block.status, block.status.value)


def _duration(block: BlockProgress) -> str:
    elapsed = block.elapsed_seconds(datetime.now(UTC))
    return "" if elapsed is None else _seconds(elapsed)


def _seconds(seconds: float) -> str:
    """Say a duration.

    >>> _seconds(3.14), _seconds(75)
    ('3.1 s', '1:15')
    """
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02d}"
