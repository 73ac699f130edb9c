"""The model registry in PostgreSQL: immutable versions, their artifacts, and the aliases that move."""

from mage_platform.registry.aliases import (
    alias_history,
    champion,
    champions,
    champions_marker,
    lock_region,
    move_alias,
)
from mage_platform.registry.artifacts import sha256_of
from mage_platform.registry.decisions import last_decision, record_decision
from mage_platform.registry.signatures import SigningKey, VerificationKeys, signing_key, verification_keys
from mage_platform.registry.signing import Signing, sign_registered
from mage_platform.registry.versions import fetch_model, model_version, model_versions, register

__all__ = [
    "Signing",
    "SigningKey",
    "VerificationKeys",
    "alias_history",
    "champion",
    "champions",
    "champions_marker",
    "fetch_model",
    "last_decision",
    "lock_region",
    "model_version",
    "model_versions",
    "move_alias",
    "record_decision",
    "register",
    "sha256_of",
    "sign_registered",
    "signing_key",
    "verification_keys",
]
