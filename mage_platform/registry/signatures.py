"""Signatures of model versions: Ed25519, made by training, verified before anything of a version is loaded.

Signed is a statement that binds both artifacts to what they may be served as, so that neither other bytes nor a good
MOJO under another name pass:

    {"genmodel_sha256":"...","mojo_sha256":"...","region":"JFK","statement":"platform model version","use_case":
    "flight_delays","version":3}

as JSON in ASCII with sorted keys and without spaces; with `explainer_sha256` where a tree model is kept beside it.
Keys are PEM files, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them. This module is the
one door to the library `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mage_platform.contracts import ModelVersion
from mage_platform.errors import SettingsInvalid, SignatureInvalid
from mage_platform.settings import Settings

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class SigningKey:
    """The private key of a deployment."""

    _key: Ed25519PrivateKey = field(repr=False)

    @property
    def key_id(self) -> str:
        """Id under which its signatures are kept."""
        return _key_id(self._key.public_key())

    def sign(self, model: ModelVersion) -> ModelVersion:
        """The same version, signed."""
        signature = base64.b64encode(self._key.sign(statement(model))).decode("ascii")
        return model.model_copy(update={"signature": signature, "signed_by": self.key_id})


@dataclass(frozen=True)
class VerificationKeys:
    """The public keys whose signatures count, by their ids."""

    keys: Mapping[str, Ed25519PublicKey]

    def verify(self, model: ModelVersion) -> None:
        """Pass a version that one of the keys signed as what it now claims to be.

        Raises:
            SignatureInvalid: It is not signed, signed by another key, or signed as something else.
        """
        name = f"version {model.version} of {model.use_case}/{model.region}"
        if model.signature is None or model.signed_by is None:
            raise SignatureInvalid(
                f"{name} is not signed: if it was registered before versions were signed, "
                "`mage-platform models sign` checks and signs it; otherwise train again"
            )
        key = self.keys.get(model.signed_by)
        if key is None:
            known = ", ".join(self.keys)
            raise SignatureInvalid(
                f"{name} is signed by the unknown key {model.signed_by}; known are {known}: add its public key to "
                "the secret file platform_verification_keys if it is one of yours, otherwise train again"
            )
        try:
            key.verify(base64.b64decode(model.signature, validate=True), statement(model))
        except (InvalidSignature, ValueError):  # ValueError: no base64
            raise SignatureInvalid(
                f"the signature of {name} does not fit it: MOJO, genmodel jar, use case, region or version is not the "
                "one that was signed. Move the alias to another version, or train again"
            ) from None


def statement(model: ModelVersion) -> bytes:
    """What is signed of a version."""
    bound: dict[str, str | int] = {
        "statement": "platform model version",
        "use_case": model.use_case,
        "region": model.region,
        "version": model.version,
        "mojo_sha256": model.mojo_sha256,
        "genmodel_sha256": model.genmodel_sha256,
    }
    if model.explainer_sha256 is not None:
        bound["explainer_sha256"] = model.explainer_sha256
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode("ascii")


def signing_key(settings: Settings) -> SigningKey:
    """The private key of this deployment.

    Raises:
        SettingsInvalid: There is none, it is no Ed25519 key, or its public half is not among the verification keys,
            so that nothing it signs would be served.
    """
    if settings.signing_key is None:
        raise SettingsInvalid(
            "there is no key to sign models with: mount the secret file platform_signing_key, a PEM file as "
            "`openssl genpkey -algorithm ed25519` writes it; the local stack makes one at its start",
            field="signing_key",
        )
    key = SigningKey(_private_key(settings.signing_key.get_secret_value()))
    known = verification_keys(settings).keys
    if key.key_id not in known:
        raise SettingsInvalid(
            f"the public half of platform_signing_key ({key.key_id}) is not in platform_verification_keys "
            f"({', '.join(known)}): add what `openssl pkey -pubout -in platform_signing_key` prints, and to the "
            "sidecar's file too",
            field="verification_keys",
        )
    return key


def verification_keys(settings: Settings) -> VerificationKeys:
    """The public keys this process trusts.

    Raises:
        SettingsInvalid: There are none, or one is no Ed25519 public key.
    """
    if settings.verification_keys is None:
        raise SettingsInvalid(
            "there is no key to verify models with: mount the file platform_verification_keys beside the secrets, "
            "with what `openssl pkey -pubout -in platform_signing_key` prints",
            field="verification_keys",
        )
    blocks = [found.group() for found in _PEM.finditer(settings.verification_keys)]
    if not blocks:
        raise SettingsInvalid(
            "platform_verification_keys holds no PEM block (-----BEGIN PUBLIC KEY----- ...): write what "
            "`openssl pkey -pubout -in platform_signing_key` prints, one key after the other",
            field="verification_keys",
        )
    keys = [_public_key(block, number) for number, block in enumerate(blocks, 1)]
    return VerificationKeys({_key_id(key): key for key in keys})


def new_signing_key() -> str:
    """A new private key, as PEM (PKCS 8, not encrypted)."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii").strip()


def with_public_half(private_pem: str, public_pems: str) -> str:
    """Verification keys that hold the public half of a private key, put first when it is not among them yet.

    Raises:
        SettingsInvalid: The private key is malformed.
    """
    public = _private_key(private_pem).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pem = public.decode("ascii")
    return public_pems if pem.strip() in public_pems else pem + public_pems


def _private_key(pem: str) -> Ed25519PrivateKey:
    # Neither the key nor the library's own words about it go into the message or its cause.
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsInvalid(
            "platform_signing_key is not an Ed25519 private key in PEM without a passphrase: write one with "
            "`openssl genpkey -algorithm ed25519 -out platform_signing_key`",
            field="signing_key",
        )
    return key


def _public_key(pem: str, number: int) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsInvalid(
            f"key {number} of platform_verification_keys is not an Ed25519 public key in PEM: write what "
            "`openssl pkey -pubout -in platform_signing_key` prints",
            field="verification_keys",
        )
    return key


def _key_id(key: Ed25519PublicKey) -> str:
    """The first 16 digits of the SHA-256 of the 32 bytes of the public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
