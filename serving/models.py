"""A champion in memory: everything one request of it needs, made once when it is loaded."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mage_platform.contracts import Champion, FeatureColumn, ModelVersion, entity_id_of
from serving.cache_policy import HitShare
from serving.encoding import Fault, RowEncoder, VectorRefused, digest
from serving.jvm import Mojo, Score
from serving.outcomes import outcome_of
from serving.scorer import Lane

WARM_UP_ROWS = 64
WARM_UP_SECONDS = 0.25


class ServedModel:
    """One loaded model version.

    Args:
        champion: The version, and since when it is champion.
        mojo: Its MOJO in the JVM.

    Raises:
        ContractViolated: The MOJO does not fit the registered input schema.
    """

    def __init__(self, champion: Champion, mojo: Mojo) -> None:
        self.version: ModelVersion = champion.model
        self.since: datetime = champion.since
        self.encoder = RowEncoder(self.version.input_schema, mojo.names, mojo.domains)
        self.levels = {
            name: domain for name, domain in zip(mojo.names, mojo.domains, strict=True) if domain is not None
        }
        self.labels = mojo.labels or []
        self.mojo = mojo
        self.outcome = outcome_of(mojo)
        self.lane = Lane(mojo.slot())
        self.hit_share = HitShare()
        self._key_prefix = f"pred:{self.version.mojo_sha256}:"
        self.model_text = self.version.reference.model_dump_json()

    @classmethod
    def load(cls, champion: Champion, mojo: Path, genmodel: Path) -> ServedModel:
        """Load a champion from its two verified files."""
        return cls(champion, Mojo(mojo, genmodel))

    def cache_key(self, row: bytes) -> str:
        """Key of the look-aside cache: model and vector, so that a promotion needs no invalidation."""
        return self._key_prefix + digest(row)

    def row(self, features: Mapping[str, Any], region: str) -> bytes:
        """Encode a vector; the pooled model takes the region of the request as one of its features.

        Raises:
            VectorRefused: Names every feature that does not fit.
        """
        name = self.version.region_feature
        if name is None:
            return self.encoder.encode(features)
        if name in features:
            raise VectorRefused([Fault(f"features.{name}", "is the region, which the request names", features[name])])
        return self.encoder.encode({**features, name: region})

    def faults(self, features: Mapping[str, Any], region: str) -> list[Fault]:
        """Everything that is wrong with a vector."""
        name = self.version.region_feature
        return self.encoder.faults(features if name is None else {**features, name: region})

    def cache_value(self, score: Score) -> bytes:
        """What the cache keeps of a prediction: the class and the probabilities, nothing of the request."""
        return f"{{{self.outcome.text(score)}}}".encode()

    def from_cache(self, value: bytes) -> Score | None:
        """The prediction a cache value stands for; None when it is not one this model could have given."""
        return self.outcome.parse(value)

    def answer(self, entity_id: uuid.UUID, score: Score, *, cached: bool, fallback: bool = False) -> bytes:
        """The whole answer as JSON: `PredictResponse`, written once."""
        return (
            f'{{"entity_id":"{entity_id}",{self.outcome.text(score)},"model":{self.model_text},'
            f'"fallback":{"true" if fallback else "false"},"cached":{"true" if cached else "false"}}}'
        ).encode()

    def example(self, choose: random.Random | None = None) -> dict[str, Any]:
        """A vector this model takes: typical values, or random ones within the declared ranges."""
        columns = self.version.input_schema.columns
        return {
            name: _example_value(column, self.levels.get(name, []), choose)
            for name, column in columns.items()
            if name != self.version.region_feature
        }

    def example_request(self) -> dict[str, Any]:
        """A whole request this model answers."""
        version = self.version
        entity_id = entity_id_of(version.use_case, ["example"])
        return {
            "use_case": version.use_case,
            "region": version.region,
            "entity_id": str(entity_id),
            "features": self.example(),
        }

    def warm_up(self, clock: Any) -> int:
        """Score random vectors until the JIT has had its chance, so that no request pays for it.

        Args:
            clock: Monotonic seconds.

        Returns:
            Rows scored.
        """
        choose = random.Random(1)
        vectors = [self.example(choose) for _ in range(WARM_UP_ROWS)]
        rows: Sequence[bytes] = [self.row(vector, self.version.region) for vector in vectors]
        until = clock() + WARM_UP_SECONDS
        scored = 0
        while not scored or clock() < until:
            for score in self.lane.model.score(rows):
                self.cache_value(score)
            scored += len(rows)
        return scored


def _example_value(column: FeatureColumn, levels: Sequence[str], choose: random.Random | None) -> Any:
    if column.type == "category":
        return (choose.choice(levels) if choose else levels[0]) if levels else "other"
    if column.type == "boolean":
        return choose.random() < 0.5 if choose else True
    low = column.minimum if column.minimum is not None else min(0.0, column.maximum or 0.0)
    high = column.maximum if column.maximum is not None else low + 100.0
    value = choose.uniform(low, high) if choose else (low + high) / 2
    if column.type == "number":
        return value
    return min(max(round(value), math.ceil(low)), math.floor(high))
