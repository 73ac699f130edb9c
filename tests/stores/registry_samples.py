"""Versions to register, and keys of somebody else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from pydantic import SecretStr

from mage_platform.contracts import (
    BinaryMetrics,
    FeatureColumn,
    InputSchema,
    LeaderboardRow,
    Lineage,
    NewVersion,
    TrainingWindow,
)
from mage_platform.registry import SigningKey, signing_key
from mage_platform.registry.signatures import new_signing_key, with_public_half
from mage_platform.settings import Settings


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
