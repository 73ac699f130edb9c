"""A champion in memory: everything one request of it needs, made once when it is loaded."""

from __future__ import annotations

import json
import math
import random
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mage_platform.contracts import Champion, FeatureColumn, ModelVersion, entity_id_of
from serving.cache_policy import CacheUse
from serving.encoding import Fault, RowEncoder, VectorRefused, digest, has_gaps
from serving.jvm import Mojo, Score
from serving.outcomes import outcome_of
from serving.scorer import Lane
from serving.variants import Challenge

KEY_MARK = 49
"""Characters at the end of a cache key that stand before its value: the last of the MOJO's digest, and the vector's."""
WARM_UP_ROWS = 64
WARM_UP_SECONDS = 0.25
_warmed: dict[tuple[str, str], float] = {}
"""Seconds of warm-up that went into the code of an algorithm of an H2O version."""


class ServedModel:
    """One loaded model version.

    Args:
        champion: The version, and since when it is champion (or challenger).
        mojo: Its MOJO in the JVM.
        variant: As what it answers: champion, canary or shadow.

    Raises:
        ContractViolated: The MOJO does not fit the registered input schema.
    """

    def __init__(self, champion: Champion, mojo: Mojo, variant: str = "champion") -> None:
        self.version: ModelVersion = champion.model
        self.since: datetime = champion.since
        self.name = (self.version.use_case, self.version.region, str(self.version.version))
        self.encoder = RowEncoder(self.version.input_schema, mojo.names, mojo.domains)
        self.levels = {
            name: domain for name, domain in zip(mojo.names, mojo.domains, strict=True) if domain is not None
        }
        self.labels = mojo.labels or []
        self.mojo = mojo
        self.outcome = outcome_of(mojo)
        self.lane = Lane(mojo.slot())
        self.cache_use = CacheUse()
        self._key_prefix = f"pred:{self.version.mojo_sha256}:"
        reference = self.version.reference.model_dump_json()
        self.model_text = reference
        """The answering model, as answers name it."""
        self._model_text = f'{reference},"variant":"{variant}"'
        self.variant = variant
        self.challenge: Challenge | None = None
        """The challenger beside this champion."""
        self.bytes = 0
        """What its MOJO takes, unpacked; the JVM keeps trees as they are written."""
        self.uses = 0
        """Requests since they were last added to `heat`; counted without a lock."""
        self.heat, self.heat_at = 0.0, 0.0
        """How much it is used, and when (monotonic seconds) that was last brought up to date; see `ModelMemory`."""

    @classmethod
    def load(cls, champion: Champion, mojo: Path, genmodel: Path, variant: str = "champion") -> ServedModel:
        """Load a champion, or a challenger, from its two verified files."""
        model = cls(champion, Mojo(mojo, genmodel), variant)
        with zipfile.ZipFile(mojo) as archive:
            # What lies under experimental/ describes the model for people and is not loaded.
            sizes = [each.file_size for each in archive.infolist() if not each.filename.startswith("experimental/")]
            model.bytes = sum(sizes)
        return model

    def cache_key(self, row: bytes) -> str:
        """Key of the look-aside cache: model and vector, so that a promotion needs no invalidation."""
        return self._key_prefix + digest(row)

    def row(self, features: Mapping[str, Any], region: str) -> bytes:
        """Encode a vector; the pooled model takes the region of the request as one of its features.

        Raises:
            VectorRefused: Names every feature that does not fit.
        """
        name = self.version.region_feature
        if name is not None and name in features:
            raise VectorRefused([Fault(f"features.{name}", "is the region, which the request names", features[name])])
        return self.encoder.encode(self.completed(features, region))

    def completed(self, features: Mapping[str, Any], region: str) -> Mapping[str, Any]:
        """A vector with the region as one of its features, where that is one."""
        name = self.version.region_feature
        return features if name is None else {**features, name: region}

    def faults(self, features: Mapping[str, Any], region: str) -> list[Fault]:
        """Everything that is wrong with a vector."""
        return self.encoder.faults(self.completed(features, region))

    def gaps(self, features: Mapping[str, Any], region: str, row: bytes) -> str:
        """Which features were scored as missing, as members of the answer, each after a comma; mostly none."""
        if not has_gaps(row):
            return ""
        gaps = self.encoder.gaps(self.completed(features, region), row)
        return "".join([f',"{kind}":{json.dumps(names)}' for kind, names in gaps._asdict().items() if names])

    def cache_value(self, key: str, score: Score) -> bytes:
        """What the cache keeps of a prediction: a mark of its key, the class and the probabilities.

        Nothing of the request: what its vector lacks is told anew in each answer.
        """
        return f"{key[-KEY_MARK:]}{{{self.outcome.text(score)}}}".encode()

    def from_cache(self, key: str, value: bytes) -> Score | None:
        """The prediction a cache value stands for; None when it is not one this model could have given.

        By the mark an answer of Redis that belongs to another question is found out.
        """
        if value[:KEY_MARK] != key[-KEY_MARK:].encode():
            return None
        return self.outcome.parse(value[KEY_MARK:])

    def answer(
        self, entity_id: uuid.UUID, score: Score, *, cached: bool, fallback: bool = False, members: str = ""
    ) -> bytes:
        """The whole answer as JSON: `PredictResponse`, written once; `members` are further ones, each after a comma."""
        return (
            f'{{"entity_id":"{entity_id}",{self.outcome.text(score)},"model":{self._model_text},'
            f'"fallback":{"true" if fallback else "false"},"cached":{"true" if cached else "false"}{members}}}'
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

        Models of one algorithm share their code, so the second one and the thousandth only show that they score.

        Args:
            clock: Monotonic seconds.

        Returns:
            Rows scored.
        """
        choose = random.Random(1)
        vectors = [self.example(choose) for _ in range(WARM_UP_ROWS)]
        rows: Sequence[bytes] = [self.row(vector, self.version.region) for vector in vectors]
        code = self.version.genmodel_sha256, self.version.algorithm
        began = clock()
        until = began + WARM_UP_SECONDS - _warmed.get(code, 0.0)
        scored = 0
        while not scored or clock() < until:
            for score in self.lane.model.score(rows):
                self.outcome.text(score)
            scored += len(rows)
        _warmed[code] = _warmed.get(code, 0.0) + clock() - began
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
