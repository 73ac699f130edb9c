"""The load of the serving benchmarks: keep-alive connections of one thread, one request under way on each.

Two kinds. In the *closed* loop a connection sends its next request when the answer to the last is complete: what a
server can do at all. In the *open* loop requests come at a fixed average rate (exponential gaps, the same for every
server), whether the earlier ones are answered or not, and wait for a free connection. Their latency counts from the
moment they should have been sent, so a server that stalls pays for all who came meanwhile.

Sockets and `select` rather than an event loop, whose timers are a millisecond wide.
"""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CLOCK = time.perf_counter
PATIENCE_SECONDS = 60.0
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Failed(Exception):
    """A server closed the connection, or speaks in a way this client does not read."""


@dataclass
class Heard:
    """What one round of load brought.

    Args:
        offered: Requests a second that came, in the open loop.
        latencies: In seconds; of an unanswered request, how long it had waited.
        failed: Answers with another status than 200.
        unanswered: Requests without an answer when the round was given up.
        seconds: From the first request to the last answer.
        busy: Share of that time in which this process itself was at work. Near 1 it is the client that is measured.
    """

    offered: float | None = None
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    busy: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return (len(self.latencies) - self.unanswered) / self.seconds

    def milliseconds(self, share: float) -> float:
        """Latency that this share of the requests kept below, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3


class _Connection:
    __slots__ = ("_parts", "_still", "since", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0
        self._parts: list[bytes] = []
        self._still = -1

    def receive(self) -> bytes | None:
        """The status of the answer, such as `200`, once it is complete; None before."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise Failed("the server closed a connection in the middle of an answer")
        self._parts.append(data)
        if self._still < 0:
            data = b"".join(self._parts)
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._parts = [data]
                return None
            self._still = _length(data[:head]) - (len(data) - head - 4)
        else:
            self._still -= len(data)
        if self._still > 0:
            return None
        status = self._parts[0][9:12]
        self._parts, self._still = [], -1
        return status


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        raise Failed(f"an answer without content-length: {head.decode('latin-1')}")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0])


class Client:
    """Connections to one server, and the requests that are sent over them in turn.

    Args:
        port: On the loopback interface.
        requests: Whole HTTP requests.
        connections: How many.
    """

    def __init__(self, port: int, requests: Sequence[bytes], connections: int) -> None:
        self._requests = requests
        self._next = 0
        self._made = [_Connection(port) for _ in range(connections)]
        self._by_number = {one.socket.fileno(): one for one in self._made}
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for one in self._made:
            one.socket.close()

    def closed_loop(self, seconds: float) -> Heard:
        """As many requests as go, for so long; then the answers under way are awaited."""
        heard, until = Heard(), CLOCK() + seconds
        began, at_work = CLOCK(), time.process_time()
        for one in self._made:
            self._send(one, CLOCK())
        under_way = len(self._made)
        while under_way:
            for one in self._ready(PATIENCE_SECONDS):
                if (status := one.receive()) is None:
                    continue
                now = CLOCK()
                heard.latencies.append(now - one.since)
                heard.failed += status != b"200"
                if now < until:
                    self._send(one, now)
                else:
                    under_way -= 1
        return _ended(heard, began, at_work)

    def open_loop(self, rate: float, seconds: float) -> Heard:
        """Requests at an average rate, for so long; then at most as long again for the answers still missing.

        Args:
            rate: Requests a second.
            seconds: For so long they come.
        """
        moments = _moments(rate, seconds)
        heard = Heard(offered=len(moments) / seconds)
        began, at_work = CLOCK(), time.process_time()
        given_up = began + 2 * seconds
        free, coming = deque(self._made), deque(began + moment for moment in moments)
        while coming or len(free) < len(self._made):
            now = CLOCK()
            if now > given_up:
                under_way = [one.since for one in self._made if one not in free]
                heard.latencies += [now - since for since in (*coming, *under_way)]
                heard.unanswered = len(coming) + len(under_way)
                break
            while coming and free and coming[0] <= now:
                self._send(free.popleft(), coming.popleft())
            # Without a free connection there is nothing to do before an answer comes.
            next_moment = coming[0] if coming and free else given_up
            for one in self._ready(max(0.0, next_moment - CLOCK())):
                if (status := one.receive()) is not None:
                    heard.latencies.append(CLOCK() - one.since)
                    heard.failed += status != b"200"
                    free.append(one)
        return _ended(heard, began, at_work)

    def _send(self, one: _Connection, since: float) -> None:
        one.since = since
        one.socket.sendall(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def _ready(self, seconds: float) -> list[_Connection]:
        # `select` waits by microseconds, `epoll` by milliseconds.
        select.select([self._poll], [], [], seconds)
        return [self._by_number[number] for number, _ in self._poll.poll(0)]


def _moments(rate: float, seconds: float) -> list[float]:
    chance, moments, at = random.Random(1), [], 0.0
    while (at := at + chance.expovariate(rate)) < seconds:
        moments.append(at)
    return moments


def _ended(heard: Heard, began: float, at_work: float) -> Heard:
    heard.seconds = CLOCK() - began
    heard.busy = (time.process_time() - at_work) / heard.seconds
    return heard


def process_tree(pid: int) -> list[int]:
    """A process and all below it."""
    children = (
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    )
    return [pid, *(below for child in children for below in process_tree(child))]


def cpu_seconds(pid: int) -> float:
    """Processor time a process and those below it have used."""
    total = 0
    for one in process_tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mebibytes(pid: int) -> float:
    """Resident memory of a process and those below it; pages that two of them share count twice."""
    pages = (int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in process_tree(pid))
    return sum(pages) * PAGE / 2**20
