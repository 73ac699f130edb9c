"""Versions and candidates to register, and keys of somebody else."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import SecretStr

from mage_platform.contracts import (
    BinaryMetrics,
    FeatureColumn,
    GoodCandidate,
    InputSchema,
    LeaderboardRow,
    Lineage,
    ModelVersion,
    NewVersion,
    RegionPlan,
    TrainingWindow,
)
from mage_platform.database import connect
from mage_platform.registry import SigningKey, sha256_of, signing_key
from mage_platform.registry.signatures import new_signing_key, with_public_half
from mage_platform.settings import Settings
from mage_platform.training.held_out import CANDIDATE, NAIVE, held_out
from mage_platform.training.registration import Registration


def with_new_key(settings: Settings) -> Settings:
    """The same deployment after its key was replaced: the old public half still counts."""
    private = new_signing_key()
    public = with_public_half(private, settings.verification_keys or "")
    return settings.model_copy(update={"signing_key": SecretStr(private), "verification_keys": public})


def stranger(settings: Settings) -> SigningKey:
    """A key this deployment does not know."""
    private = new_signing_key()
    update = {"signing_key": SecretStr(private), "verification_keys": with_public_half(private, "")}
    return signing_key(settings.model_copy(update=update))


def a_lineage(training: str) -> Lineage:
    """The origin of a training; trainings of different names are different ones."""
    fingerprint = hashlib.sha256(training.encode()).hexdigest()
    return Lineage(
        rows_fingerprint=fingerprint,
        training_fingerprint=fingerprint,
        maximum_models=1,
        declaration_sha256=fingerprint,
    )


def a_version(run: str = "1", region: str = "Bern", auc: float = 0.7) -> NewVersion:
    """A registration of one region."""
    day = [datetime(2024, month, 1, tzinfo=UTC) for month in (3, 4, 5, 6)]
    metrics = BinaryMetrics(auc=auc, log_loss=0.5, average_precision=0.6, rows=80, positive_share=0.4)
    return NewVersion(
        use_case="rides",
        region=region,
        algorithm="GBM",
        target="late",
        input_schema=InputSchema(columns={"hour": FeatureColumn(type="integer", minimum=0, maximum=23)}),
        cache_ttl_seconds=60,
        metrics=metrics,
        naive_metrics=metrics.model_copy(update={"auc": 0.6}),
        leaderboard=[LeaderboardRow(model="GBM_1", algorithm="GBM", values={"auc": 0.71, "logloss": 0.49})],
        window=TrainingWindow(train_until=day[0], validate_until=day[1], blend_until=day[2], test_until=day[3]),
        rows={"train": 300, "validate": 50, "blend": 40, "test": 80},
        seed=7,
        h2o_version="3.46.0.11",
        mojo_bytes=1000,
        lineage=a_lineage(f"{run}/{region}"),
        run=run,
    )


def a_candidate(runs_folder: Path, run: str, region: str) -> GoodCandidate:
    """What a branch of the fan-out hands back, with its files in the folder of the run."""
    new = a_version(run=run, region=region)
    folder = runs_folder / run / region
    folder.mkdir(parents=True)
    mojo, genmodel = folder / "model.zip", folder / "h2o-genmodel.jar"
    mojo.write_bytes(f"a model of {region}, run {run}".encode())
    genmodel.write_bytes(b"jar")
    plan = RegionPlan(
        use_case=new.use_case, region=region, run=run, window=new.window, seed=1, maximum_models=1,
        maximum_runtime_seconds=60, labelled_rows=470,
    )  # fmt: skip
    return GoodCandidate(
        plan=plan, mojo_path=str(mojo), mojo_sha256=sha256_of(mojo), genmodel_path=str(genmodel),
        genmodel_sha256=sha256_of(genmodel), algorithm=new.algorithm, h2o_version=new.h2o_version, rows=new.rows,
        metrics=new.metrics, naive_metrics=new.naive_metrics, leaderboard=new.leaderboard, training_seconds=1.0,
        mojo_bytes=mojo.stat().st_size, input_schema=new.input_schema, lineage=new.lineage,
        test_path=str(folder / "held_out.parquet"),
    )  # fmt: skip


def handed_on(versions: list[ModelVersion], folder: Path) -> Registration:
    """As the exporter hands it on: held-out rows beside each version, the candidate right and the baseline not."""
    table = pa.table(
        {
            "_entity_id": [number.to_bytes(16, "big") for number in range(40)],
            "_event_time": pa.array(range(40), pa.timestamp("us", tz="UTC")),
            "_region": ["Bern"] * 40,
            "_label": ["0", "1"] * 20,
            "carrier": ["fast"] * 40,
            "hour": [7.0] * 40,
        }
    )
    right, flat = np.array([0.1, 0.9] * 20), np.full(40, 0.5)
    held_out(table, "binary", (), {CANDIDATE: right, NAIVE: flat}).write(folder / "rows.parquet")
    files = {version.region: str(folder / "rows.parquet") for version in versions}
    return Registration(versions=versions, held_out=files, failed=[])


def await_waiting(settings: Settings) -> None:
    """Wait until somebody waits for one of the registry's locks."""
    until = time.monotonic() + 20
    question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid "
    question += "FROM pg_database WHERE datname = current_database())"
    while True:
        with connect(settings) as connection:
            if connection.execute(question).fetchone() != (0,):  # type: ignore[arg-type]
                return
        assert time.monotonic() < until
        time.sleep(0.05)
