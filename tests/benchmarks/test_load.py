"""The load generator of the serving benchmarks, against servers whose pauses are known."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from benchmarks.load import Client, Failed

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"
PAUSE = 0.4


@contextmanager
def server(answer: Callable[[int], bytes]) -> Iterator[int]:
    """One thread that answers one connection; its port. `answer` gets the number of the request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            number = 0
            while connection.recv(len(REQUEST), socket.MSG_WAITALL):
                for part in answer(number).split(b"|"):
                    connection.sendall(part)
                    time.sleep(0.001)
                number += 1

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(10)
        listener.close()


def pausing_once(number: int) -> bytes:
    if number == 5:
        time.sleep(PAUSE)
    return ANSWER


def test_in_the_open_loop_a_pause_of_the_server_is_paid_by_all_who_came_meanwhile() -> None:
    with server(pausing_once) as port, closing(Client(port, [REQUEST], 1)) as client:
        heard = client.open_loop(rate=100, seconds=1)
    late = [seconds for seconds in heard.latencies if seconds > PAUSE / 4]
    # About 40 requests come while the server pauses, and three quarters of them wait longer than a quarter of it.
    assert len(late) > 10
    assert max(late) >= PAUSE
    assert heard.failed == heard.unanswered == 0


def test_in_the_closed_loop_only_the_one_request_that_met_the_pause_is_late() -> None:
    with server(pausing_once) as port, closing(Client(port, [REQUEST], 1)) as client:
        heard = client.closed_loop(1)
    assert max(heard.latencies) >= PAUSE
    assert sorted(heard.latencies)[len(heard.latencies) // 2] < PAUSE


def test_requests_that_get_no_answer_in_time_count_with_the_time_they_waited() -> None:
    def never_after_ten(number: int) -> bytes:
        time.sleep(2 if number == 10 else 0)
        return ANSWER

    with server(never_after_ten) as port, closing(Client(port, [REQUEST], 1)) as client:
        heard = client.open_loop(rate=100, seconds=0.5)
    assert heard.unanswered > 10
    assert len(heard.latencies) == heard.unanswered + 10
    assert heard.milliseconds(0.99) > 500


def test_an_answer_in_parts_is_one_answer_and_other_statuses_are_counted() -> None:
    def in_parts(number: int) -> bytes:
        return b"HTTP/1.1 503 Busy\r\ncontent-|length: 4\r\n|\r\nbu|sy"

    with server(in_parts) as port, closing(Client(port, [REQUEST], 1)) as client:
        heard = client.closed_loop(0.1)
    assert heard.failed == len(heard.latencies) > 0


def test_an_answer_of_unknown_length_is_refused() -> None:
    with (
        server(lambda number: b"HTTP/1.1 200 OK\r\n\r\n") as port,
        closing(Client(port, [REQUEST], 1)) as client,
        pytest.raises(Failed, match="without content-length"),
    ):
        client.closed_loop(0.1)
