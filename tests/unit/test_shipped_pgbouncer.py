"""The pgbouncer.ini for production has the values the technology decision registry mandates."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from mage_platform.local.passwords import keep_passwords
from mage_platform.local.pgbouncer import MAGE_POOL, pgbouncer_service
from mage_platform.settings import PROJECT, load_settings

MANDATED = {
    "listen_addr": "0.0.0.0",
    "listen_port": "6432",
    "auth_type": "scram-sha-256",
    "pool_mode": "transaction",
    "max_client_conn": "1000",
    "default_pool_size": "20",
    "reserve_pool_size": "5",
}
"""Word for word as the registry has them."""


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def shipped() -> configparser.ConfigParser:
    return _read(PROJECT / "k8s" / "base" / "pgbouncer" / "pgbouncer.ini")


def test_the_values_are_the_mandated_ones(shipped: configparser.ConfigParser) -> None:
    assert {name: shipped["pgbouncer"][name] for name in MANDATED} == MANDATED
    assert shipped["databases"]["features"].startswith("host=postgres port=5432")


def test_passwords_come_from_postgresql_and_none_is_in_the_file(shipped: configparser.ConfigParser) -> None:
    assert shipped["pgbouncer"]["auth_query"] == "SELECT usename, passwd FROM pgb.get_auth($1)"
    assert all("auth_user=pgb_auth" in entry for entry in shipped["databases"].values())
    assert "password" not in " ".join([*shipped["databases"].values(), *shipped["pgbouncer"].values()])


def test_mage_has_a_pool_of_its_own(shipped: configparser.ConfigParser) -> None:
    assert f"pool_size={MAGE_POOL}" in shipped["databases"]["mage"]


def test_the_local_stack_differs_in_addresses_and_paths_only(
    shipped: configparser.ConfigParser, tmp_path: Path
) -> None:
    settings = load_settings(state_folder=tmp_path)
    pgbouncer_service(settings, keep_passwords(settings), Path("pgbouncer"))
    local = dict(_read(tmp_path / "pgbouncer" / "pgbouncer.ini")["pgbouncer"])
    placed = {"listen_addr", "listen_port", "auth_file", "log_stats"}
    production = dict(shipped["pgbouncer"])
    assert {name: local[name] for name in local if name not in placed} == {
        name: production[name] for name in production if name not in placed
    }
