"""Signing versions that are registered already: those from before there were signatures, or all after a new key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mage_platform.contracts import ModelVersion
from mage_platform.database.connections import Connection
from mage_platform.errors import ArtifactCorrupt, NotFound, SignatureInvalid
from mage_platform.registry.artifacts import check_artifact
from mage_platform.registry.signatures import SigningKey, VerificationKeys
from mage_platform.registry.versions import keep_signature, model_versions


@dataclass(frozen=True)
class Signing:
    """What became of one version."""

    model: ModelVersion
    refused: str = ""
    """Why it was not signed; empty when it was."""


def sign_registered(
    connection: Connection,
    signing_key: SigningKey,
    keys: VerificationKeys,
    *,
    use_case: str | None = None,
    region: str | None = None,
    again: bool = False,
) -> Iterator[Signing]:
    """Sign what is not signed, in the caller's transaction, each version once its artifacts have shown to be whole.

    Args:
        connection: An open connection.
        signing_key: The deployment's key.
        keys: The keys whose signatures count.
        use_case: Only this one.
        region: Only this one.
        again: Also versions that another of the keys signed, so that it can be taken out of use.

    Yields:
        Each version that was unsigned (or signed by another key), signed or with the reason why not; versions
        whose artifacts retention has dropped are left out.
    """
    whole: set[str] = set()
    for model in model_versions(connection, use_case=use_case, region=region):
        if model.artifacts_dropped_at is not None:
            continue
        if model.signature is not None and (not again or model.signed_by == signing_key.key_id):
            continue
        try:
            if model.signature is not None:
                keys.verify(model)
            for sha256 in {model.mojo_sha256, model.genmodel_sha256} - whole:
                check_artifact(connection, sha256)
                whole.add(sha256)
        except (ArtifactCorrupt, NotFound, SignatureInvalid) as error:
            yield Signing(model, str(error))
            continue
        signed = signing_key.sign(model)
        keep_signature(connection, signed)
        yield Signing(signed)
