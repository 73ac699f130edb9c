"""Keeps what was predicted in the database: in batches, from a thread of its own, never in the way of an answer.

A prediction costs the event loop no more than being put in a queue. The queue is bounded; when the database is gone
or slower than the requests, what waits is kept and what comes on top is dropped and counted. A batch is sent again
until it is known to be written, and stands in the table once however often it was sent.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from pydantic_core import to_json

from mage_platform.database import connect
from mage_platform.database.connections import Connection
from mage_platform.errors import DatabaseUnavailable
from mage_platform.predictions import add_predictions
from mage_platform.settings import Settings
from serving.calls import Call, MadeOf
from serving.decoding import RowDecoder
from serving.models import ServedModel
from serving.outcomes import Outcome

log = structlog.get_logger()
WRITE_SECONDS = 0.25
"""Pause between two turns of the writing thread."""
BATCH_ROWS = 1_000
CHUNK_ROWS = 32
"""Rows turned into JSON at once, about 0.1 ms: meanwhile the event loop has to wait for the interpreter."""
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""After the database was lost."""

_Row = tuple[str, float, str, str, bool, tuple[str, str, str], Outcome, MadeOf]
"""Request id, moment, region of the request, variant, cached, name of the model, what its scores mean, and what the
prediction was made of. Not the model itself, which could not be unloaded as long as its rows wait."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """A row of a batch as the model took it; it becomes a vector when it is written."""

    decoder: RowDecoder
    row: Any
    """Shape (columns,), float64."""

    def vector(self) -> dict[str, Any]:
        return self.decoder.vector(self.row.tolist())


@dataclass(frozen=True)
class _Batch:
    """Rows as they are sent, so that they can be sent again."""

    id: uuid.UUID
    lines: str
    rows: int


class PredictionLog:
    """Keeps predictions: an observer of the front door.

    Args:
        settings: Where PostgreSQL (or PgBouncer) is, and how many rows may wait. It need not be reachable.
    """

    def __init__(self, settings: Settings) -> None:
        self.written = 0
        self.dropped = 0
        """Rows that found the queue full, or were left at the end."""
        self.refused = 0
        """Rows that the database would not take."""
        self._settings = settings
        self._most = settings.sidecar.prediction_log_rows
        self._queue: deque[_Row] = deque()
        self._batch: _Batch | None = None
        self._pause = 0.0
        self._told = 0
        self._given_up = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        batch = self._batch
        return len(self._queue) + (0 if batch is None else batch.rows)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, as far as that succeeds in time, and end; the rest is counted as dropped."""
        self._stop.set()
        self._thread.join(timeout=seconds)
        self._given_up = True
        if left := self.waiting:
            self.dropped += left
        self._tell_dropped()

    def answered(self, call: Call) -> None:
        """Keep the prediction of a request that asked for one."""
        made_of, model = call.made_of, call.model
        if made_of is None or model is None or call.status != 200:
            return
        share = model.version.log_predictions
        if share < 1.0 and random.random() >= share:
            return
        if len(self._queue) >= self._most:
            self.dropped += 1
        else:
            cached, name, outcome = call.cached is True, model.name, model.outcome
            self._queue.append((call.id, call.began, call.region, call.variant, cached, name, outcome, made_of))

    def record(
        self, call: Call, model: ServedModel, rows: Sequence[MadeOf], *, variant: str = "champion", cached: bool = False
    ) -> None:
        """Keep predictions that are not the single one of a request, such as what a shadow would have said.

        Args:
            call: The request they belong to.
            model: Which made them.
            rows: What each was made of; only references are kept.
            variant: What the model was for this request.
            cached: Whether the scores came from the cache.
        """
        share = model.version.log_predictions
        if share < 1.0:
            rows = [row for row in rows if random.random() < share]
        room = max(0, self._most - len(self._queue))
        self.dropped += max(0, len(rows) - room)
        begun = (call.id, call.began, call.region, variant, cached, model.name, model.outcome)
        self._queue.extend((*begun, row) for row in rows[:room])

    def record_batch(
        self, call: Call, model: ServedModel, entity_ids: Sequence[str | None], rows: Any, scores: Any, refused: Any
    ) -> int:
        """Keep the rows of a batch that have an entity and were answered. May be called in any thread.

        Args:
            call: The request they belong to.
            model: Which made them.
            entity_ids: Of each row, None where it has none.
            rows: As the model took them, shape (rows, columns); kept, not copied.
            scores: Of each row, shape (rows, width of a score).
            refused: Which rows were faulty, shape (rows,).

        Returns:
            How many found no room; whoever calls adds them to `dropped` on the event loop.
        """
        share, decoder = model.version.log_predictions, RowDecoder(model.encoder, model.levels)
        kept = [
            row
            for row, entity_id in enumerate(entity_ids)
            if entity_id is not None and not refused[row] and (share >= 1.0 or random.random() < share)
        ]
        room = max(0, self._most - len(self._queue))
        begun = (call.id, call.began, call.region, "champion", call.cached is True, model.name, model.outcome)
        for row in kept[:room]:
            made_of: Any = (entity_ids[row], None, _Scored(decoder, rows[row]), scores[row])
            self._queue.append((*begun, made_of))
        return max(0, len(kept) - room)

    def shadowed(self, call: Call, model: ServedModel, score: Sequence[float]) -> None:
        """Keep what a shadow would have answered."""
        if call.made_of is not None:
            self.record(call, model, [(*call.made_of[:3], score)], variant="shadow")

    def _run(self) -> None:
        while True:
            try:
                with connect(self._settings, application_name="mage_platform sidecar predictions") as connection:
                    connection.autocommit = True
                    self._write(connection)
                return
            except (DatabaseUnavailable, psycopg.Error) as error:
                self._lost(error)
            except Exception:  # the edge of the thread: whatever it is, the writing goes on
                log.exception("writing predictions failed")
                self._pause = LONGEST_PAUSE_SECONDS
            if self._stop.wait(self._pause):
                if self._given_up or not self.waiting:
                    return
                time.sleep(SHORTEST_PAUSE_SECONDS)  # once more: the database may be back before the time is up

    def _write(self, connection: Connection) -> None:
        """Write until the end; an error of the connection leaves the present batch to the next one."""
        while True:
            stopped = self._stop.wait(WRITE_SECONDS)
            while self._queue or self._batch is not None:
                self._batch = self._batch or self._next()
                if self._batch is not None:
                    self._send(connection, self._batch)
                self._batch = None
            self._tell_dropped()
            if stopped:
                return

    def _send(self, connection: Connection, batch: _Batch) -> None:
        try:
            add_predictions(connection, batch.id, batch.lines)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            # Such a batch would fail for ever, and all others behind it.
            self.refused += batch.rows
            log.error("predictions refused", rows=batch.rows, reason=_first_line(error))
            return
        self.written += batch.rows
        if self._pause:
            self._pause = 0.0
            log.info("predictions written again", waiting=self.waiting - batch.rows)

    def _next(self) -> _Batch | None:
        rows = [self._queue.popleft() for _ in range(min(BATCH_ROWS, len(self._queue)))]
        # Moments are those of a clock without a date, which never jumps.
        zero = time.time() - time.perf_counter()
        try:
            parts = [_lines(zero, rows[at : at + CHUNK_ROWS]) for at in range(0, len(rows), CHUNK_ROWS)]
        except Exception as error:  # the edge: whatever cannot be written down must not end the writing
            self.refused += len(rows)
            log.error("predictions refused", rows=len(rows), reason=_first_line(error))
            return None
        return _Batch(uuid.uuid4(), "[" + ",".join(parts) + "]", len(rows))

    def _lost(self, error: Exception) -> None:
        if not self._pause:
            log.warning("predictions wait for the database", reason=_first_line(error), waiting=self.waiting)
        self._pause = min(max(self._pause * 2, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def _tell_dropped(self) -> None:
        if new := self.dropped - self._told:
            self._told += new
            log.warning("predictions dropped", rows=new, in_all=self._told, most_waiting=self._most)


def _lines(zero: float, rows: Sequence[_Row]) -> str:
    lines = [_line(zero, row) for row in rows]
    text = to_json(lines)[1:-1].decode()
    # PostgreSQL keeps no NUL in text; one in a category is kept as the sign for what cannot be read.
    return to_json(_without_nul(lines))[1:-1].decode() if "\\u0000" in text else text


def _line(zero: float, row: _Row) -> list[Any]:
    request_id, moment, region, variant, cached, name, outcome, (entity_id, event_time, features, score) = row
    use_case, model_region, version = name
    if isinstance(features, _Scored):
        features, score = features.vector(), [float(each) for each in score]
    prediction, probabilities = outcome.values(score)
    return [
        zero + moment, request_id, use_case, region, model_region, version, variant, entity_id, event_time, features,
        prediction, probabilities, cached,
    ]  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list) else value
