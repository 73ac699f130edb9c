"""Ports for servers that start a little later."""

from __future__ import annotations

import socket

from mage_platform.local.ports import free_port


def test_no_port_is_given_out_twice_while_its_server_has_not_started_yet() -> None:
    """By chance alone some of six hundred would be: there are about fourteen thousand to choose from."""
    assert len({free_port() for _ in range(600)}) == 600


def test_whoever_asks_for_it_by_its_number_gets_it() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1]
