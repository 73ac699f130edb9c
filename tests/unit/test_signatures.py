"""Signatures of model versions: what is signed, what is refused, and keys that are wrong."""

from __future__ import annotations

import base64
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mage_platform.contracts import ModelVersion
from mage_platform.errors import SettingsInvalid, SignatureInvalid
from mage_platform.local.passwords import keep_passwords
from mage_platform.registry import signing_key, verification_keys
from mage_platform.registry.signatures import new_signing_key, with_public_half
from mage_platform.settings import Settings, load_settings
from tests.stores.registry_samples import a_version

# The first test of RFC 8032, section 7.1: a private key and its public half.
RFC_PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def settings_with(private: str | None, public: str | None) -> Settings:
    return load_settings(signing_key=private, verification_keys=public)


def pem_of(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def rfc_pem() -> str:
    return pem_of(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RFC_PRIVATE)))


def a_model(**changes: Any) -> ModelVersion:
    new = a_version(region="São Paulo")
    model = ModelVersion(**dict(new), version=3, mojo_sha256="a" * 64, genmodel_sha256="b" * 64, registered_at=NOW)
    return model.model_copy(update=changes)


@pytest.fixture
def settings() -> Settings:
    private = new_signing_key()
    return settings_with(private, with_public_half(private, ""))


def test_what_is_signed_is_the_written_statement() -> None:
    signed = signing_key(settings_with(rfc_pem(), with_public_half(rfc_pem(), ""))).sign(a_model())
    written = (
        '{"genmodel_sha256":"' + "b" * 64 + '","mojo_sha256":"' + "a" * 64 + '","region":"S\\u00e3o Paulo",'
        '"statement":"platform model version","use_case":"rides","version":3}'
    )
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(RFC_PUBLIC))
    assert signed.signature is not None
    public.verify(base64.b64decode(signed.signature), written.encode("ascii"))
    # sha256sum of the 32 bytes of the public key
    assert signed.signed_by == "21fe31dfa154a261"


def test_a_signed_version_passes(settings: Settings) -> None:
    verification_keys(settings).verify(signing_key(settings).sign(a_model()))


@pytest.mark.parametrize(
    "change",
    [
        {"use_case": "flights"},
        {"region": "Bern"},
        {"version": 4},
        {"mojo_sha256": "c" * 64},
        {"genmodel_sha256": "c" * 64},
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"signature": "not base64"},
        {"signature": "é"},
        {"signature": ""},
    ],
    ids=str,
)
def test_a_version_that_is_not_what_was_signed_is_refused(settings: Settings, change: dict[str, Any]) -> None:
    signed = signing_key(settings).sign(a_model()).model_copy(update=change)
    with pytest.raises(SignatureInvalid, match="does not fit"):
        verification_keys(settings).verify(signed)


def test_an_unsigned_version_is_refused_with_the_command_that_signs(settings: Settings) -> None:
    with pytest.raises(SignatureInvalid, match="version 3 of rides/São Paulo is not signed.*models sign"):
        verification_keys(settings).verify(a_model())


def test_a_version_signed_by_an_unknown_key_is_refused_even_under_a_known_name(settings: Settings) -> None:
    stranger = signing_key(settings_with(rfc_pem(), with_public_half(rfc_pem(), "")))
    signed = stranger.sign(a_model())
    with pytest.raises(SignatureInvalid, match=f"unknown key {stranger.key_id}"):
        verification_keys(settings).verify(signed)
    posing = signed.model_copy(update={"signed_by": signing_key(settings).key_id})
    with pytest.raises(SignatureInvalid, match="does not fit"):
        verification_keys(settings).verify(posing)


def test_several_keys_count_so_that_one_can_be_replaced(settings: Settings) -> None:
    old_model = signing_key(settings).sign(a_model())
    both = settings_with(rfc_pem(), with_public_half(rfc_pem(), settings.verification_keys or ""))
    keys = verification_keys(both)
    keys.verify(old_model)
    keys.verify(signing_key(both).sign(a_model()))
    new_only = verification_keys(settings_with(None, with_public_half(rfc_pem(), "")))
    with pytest.raises(SignatureInvalid, match="unknown key"):
        new_only.verify(old_model)


def _encrypted() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


@pytest.mark.parametrize(
    "private",
    ["", "secret words", rfc_pem()[:60], _encrypted(), pem_of(generate_private_key(65537, 2048))],
    ids=["empty", "no PEM", "truncated", "encrypted", "RSA"],
)
def test_a_malformed_signing_key_is_named_and_never_shown(private: str) -> None:
    with pytest.raises(SettingsInvalid, match="platform_signing_key is not an Ed25519 private key") as caught:
        signing_key(settings_with(private, None))
    told = "".join(traceback.format_exception(caught.value))
    body = [line for line in private.splitlines() if line and not line.startswith("-----")]
    assert not any(line in told for line in body)
    assert caught.value.field == "signing_key"


@pytest.mark.parametrize(
    ("public", "sentence"),
    [
        (None, "there is no key to verify models with"),
        ("", "holds no PEM block"),
        ("words", "holds no PEM block"),
        (with_public_half(rfc_pem(), "") + rfc_pem(), "key 2 of platform_verification_keys is not"),
    ],
)
def test_malformed_verification_keys_are_named(public: str | None, sentence: str) -> None:
    with pytest.raises(SettingsInvalid, match=sentence):
        verification_keys(settings_with(None, public))


def test_a_signing_key_whose_signatures_nobody_would_accept_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="is not in platform_verification_keys"):
        signing_key(settings_with(new_signing_key(), with_public_half(new_signing_key(), "")))
    with pytest.raises(SettingsInvalid, match="there is no key to sign models with"):
        signing_key(settings_with(None, with_public_half(new_signing_key(), "")))


def test_the_private_key_never_shows_in_text(settings: Settings) -> None:
    assert settings.signing_key is not None
    secret = settings.signing_key.get_secret_value().splitlines()[1]
    for text in (repr(settings), settings.model_dump_json(), repr(signing_key(settings))):
        assert secret not in text


def test_the_local_stack_makes_a_key_once_and_keeps_the_public_half_of_a_replaced_one(tmp_path: Path) -> None:
    place = load_settings(state_folder=tmp_path)
    first = keep_passwords(place)
    files = {name: tmp_path / "secrets" / name for name in ("platform_signing_key", "platform_verification_keys")}
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    again = keep_passwords(place)
    assert (again.signing_key, again.verification_keys) == (first.signing_key, first.verification_keys)
    old_model = signing_key(load_settings(state_folder=tmp_path)).sign(a_model())

    files["platform_signing_key"].unlink()
    second = keep_passwords(place)
    assert second.signing_key != first.signing_key
    reloaded = load_settings(state_folder=tmp_path)
    assert len(verification_keys(reloaded).keys) == 2
    verification_keys(reloaded).verify(old_model)
    verification_keys(reloaded).verify(signing_key(reloaded).sign(a_model()))


def test_keys_as_other_programs_write_them_are_read() -> None:
    """The example of RFC 8410, in the form of `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`."""
    private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    private += "-----END PRIVATE KEY-----\n"  # RFC 8410, section 10.3
    public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    public += "-----END PUBLIC KEY-----\n"  # RFC 8410, section 10.1
    settings = settings_with(private, public)
    verification_keys(settings).verify(signing_key(settings).sign(a_model()))
