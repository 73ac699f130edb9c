"""Model versions: registered once, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from mage_platform.contracts import ModelVersion, NewVersion
from mage_platform.database.connections import Connection
from mage_platform.errors import ModelNotFound, NotFound
from mage_platform.registry.artifacts import QUERIES, fetch_artifact, kept_artifact, store_artifact
from mage_platform.registry.signatures import SigningKey, VerificationKeys

_COLUMNS = {"use_case", "region", "algorithm", "run"}


def register(
    connection: Connection,
    new: NewVersion,
    *,
    mojo: Path,
    genmodel: Path,
    signing_key: SigningKey,
    explainer: Path | None = None,
) -> ModelVersion:
    """Register a version with its artifacts, signed, in the caller's transaction.

    A run registers at most one version of a region, and the same training at most one for ever: called again for
    the same run (a block that was retried) or the same training fingerprint it returns the version there is.

    Args:
        connection: An open connection.
        new: What is registered.
        mojo: The MOJO zip.
        genmodel: h2o-genmodel.jar of the H2O version that wrote the MOJO.
        signing_key: The deployment's key.
        explainer: MOJO of the tree model kept beside it, where there is one.
    """
    region = {"use_case": new.use_case, "region": new.region}
    connection.execute(QUERIES.lock_region, region)
    if (present := version_of_run(connection, new.use_case, new.region, new.run)) is not None:
        return present
    known = {**region, "fingerprint": new.lineage.training_fingerprint}
    if (row := connection.execute(QUERIES.version_of_training, known).fetchone()) is not None:
        return model_version(connection, new.use_case, new.region, row[0])
    digests = {
        "mojo_sha256": store_artifact(connection, mojo, "mojo"),
        "genmodel_sha256": store_artifact(connection, genmodel, "genmodel"),
    }
    explainer_sha256 = store_artifact(connection, explainer, "mojo") if explainer else None
    details = {**new.model_dump(mode="json", exclude=_COLUMNS), "explainer_sha256": explainer_sha256}
    row = connection.execute(
        QUERIES.add_version,
        {**region, **digests, "algorithm": new.algorithm, "run": new.run, "details": Jsonb(details)},
    ).fetchone()
    assert row is not None
    model = signing_key.sign(
        ModelVersion(**dict(new), **digests, explainer_sha256=explainer_sha256, version=row[0], registered_at=row[1])
    )
    keep_signature(connection, model)
    return model


def version_of_run(connection: Connection, use_case: str, region: str, run: str) -> ModelVersion | None:
    """The version of a region that a pipeline run registered, if it did."""
    parameters = {"use_case": use_case, "region": region, "run": run}
    row = connection.execute(QUERIES.version_of_run, parameters).fetchone()
    return model_version(connection, use_case, region, row[0]) if row is not None else None


def keep_signature(connection: Connection, signed: ModelVersion) -> None:
    """Write down the signature of a registered version, in the caller's transaction."""
    names = {"use_case", "region", "version", "mojo_sha256", "genmodel_sha256", "signature", "signed_by"}
    connection.execute(QUERIES.sign_version, signed.model_dump(include=names))


def fetch_model(connection: Connection, model: ModelVersion, folder: Path, keys: VerificationKeys) -> tuple[Path, Path]:
    """Bring a version's artifacts to a folder: the one way in which a model leaves the registry to be loaded.

    Its signature is verified first, and the digests of both files each time, also of copies already there.

    Returns:
        The paths of the MOJO zip and of the genmodel jar.

    Raises:
        SignatureInvalid: No known key signed these artifacts for this use case, region and version.
        ArtifactCorrupt: The bytes in the registry do not match the digest.
        NotFound: An artifact is not there.
    """
    keys.verify(model)
    mojo = fetch_artifact(connection, model.mojo_sha256, folder)
    return mojo, fetch_artifact(connection, model.genmodel_sha256, folder, suffix=".jar")


def fetch_explainer(
    connection: Connection, model: ModelVersion, folder: Path, keys: VerificationKeys
) -> tuple[Path, Path]:
    """Bring the tree model that is kept beside a version to a folder, verified as `fetch_model` verifies the version.

    The signature of the version is over the explainer's digest too.

    Returns:
        The paths of its MOJO zip and of the genmodel jar.

    Raises:
        SignatureInvalid, ArtifactCorrupt: See `fetch_model`.
        NotFound: There is none, or an artifact is not there.
    """
    keys.verify(model)
    if model.explainer_sha256 is None:
        raise NotFound(f"no tree model is kept beside version {model.version} of {model.use_case}/{model.region}")
    mojo = fetch_artifact(connection, model.explainer_sha256, folder)
    return mojo, fetch_artifact(connection, model.genmodel_sha256, folder, suffix=".jar")


def kept_model(model: ModelVersion, folder: Path, keys: VerificationKeys) -> tuple[Path, Path] | None:
    """A version's artifacts that lie in a folder since `fetch_model`, verified as it does.

    Returns:
        The paths of the MOJO zip and of the genmodel jar; None when one is not there, or is not what was signed.

    Raises:
        SignatureInvalid: No known key signed these artifacts for this use case, region and version.
    """
    keys.verify(model)
    mojo = kept_artifact(model.mojo_sha256, folder)
    genmodel = kept_artifact(model.genmodel_sha256, folder, suffix=".jar")
    return (mojo, genmodel) if mojo is not None and genmodel is not None else None


def model_versions(
    connection: Connection,
    *,
    use_case: str | None = None,
    region: str | None = None,
    version: int | None = None,
) -> list[ModelVersion]:
    """Registered versions, by use case and region, newest first; each argument narrows the list."""
    parameters = {"use_case": use_case, "region": region, "version": version}
    return [as_model_version(row) for row in connection.execute(QUERIES.versions, parameters)]


def model_version(connection: Connection, use_case: str, region: str, version: int) -> ModelVersion:
    """One registered version.

    Raises:
        ModelNotFound: There is none of that number.
    """
    found = model_versions(connection, use_case=use_case, region=region, version=version)
    if not found:
        raise ModelNotFound(
            f"no version {version} of use case {use_case!r}, region {region!r} is registered; "
            "`mage-platform models list` shows what is",
            field="version",
        )
    return found[0]


def as_model_version(row: Any) -> ModelVersion:
    """Model version from a row of the queries `versions` and `champions`."""
    use_case, region, version, algorithm, mojo_sha256, genmodel_sha256, run, details, registered_at = row[:9]
    signature, signed_by, artifacts_dropped_at = row[9:12]
    return ModelVersion(
        use_case=use_case,
        region=region,
        version=version,
        algorithm=algorithm,
        mojo_sha256=mojo_sha256,
        genmodel_sha256=genmodel_sha256,
        run=run,
        registered_at=registered_at,
        signature=signature,
        signed_by=signed_by,
        artifacts_dropped_at=artifacts_dropped_at,
        **details,
    )
