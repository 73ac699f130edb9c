"""Models that take scores apart, loaded at the first request that asks, kept within bounds.

A tree model explains itself. Beside a leader that cannot, training keeps the best tree model when the use case wants
explanations; it is fetched and verified like the leader itself, and explains in its place.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from mage_platform.errors import ArtifactCorrupt, ContractViolated, NotFound, SignatureInvalid
from serving.encoding import RowEncoder
from serving.jvm import Contributions, Mojo, Score
from serving.models import ServedModel
from serving.problems import ExplanationsNotAvailable
from serving.registry_source import ChampionSource
from serving.scorer import Lane

log = structlog.get_logger()
MAXIMUM_EXPLAINERS = 64
MAXIMUM_NODES = 400_000
"""Of all trees kept: around 100 bytes of the JVM's heap each."""
BATCH_ROWS = 32
"""A row costs about a hundred times its score; a batch must not keep a thread for long."""
RETRY_SECONDS = 5.0
"""For so long what failed is not tried again: requests must not fetch and refuse the same bytes over and over."""
TOLERANCE = 1e-4
"""By how much a sum may miss the prediction, of which XGBoost's is a float32."""

Scale = Literal["log_odds", "probability", "logarithm", "number"]
_SCALES: dict[str, tuple[Scale, Callable[[float], float]]] = {
    "logit": ("log_odds", lambda score: 0.5 + 0.5 * math.tanh(0.5 * score)),
    "probability": ("probability", lambda score: score),
    "log": ("logarithm", math.exp),
    "identity": ("number", lambda score: score),
}


@dataclass(frozen=True)
class Explanation:
    """One score taken apart."""

    bias: float
    contributions: Mapping[str, float]
    """Of every feature of the schema, in its order."""
    score: float
    prediction: Score
    """Of the explaining model."""


class Explainer:
    """A tree model that takes its scores apart.

    Args:
        model: The served model.
        mojo: The tree model: the served one, or the one kept beside it.
        algorithm: Of the tree model.

    Raises:
        ContractViolated: Its contributions cannot be told, or do not sum up to its scores.
    """

    def __init__(self, model: ServedModel, mojo: Mojo, algorithm: str) -> None:
        contributions = Contributions(mojo)
        self.lane = Lane(contributions.slot(BATCH_ROWS))
        self.algorithm = algorithm
        self.same_model = mojo is model.mojo
        self.scale, self._from_scale = _SCALES[contributions.scale]
        self.explains = None if mojo.labels is None else mojo.labels[1]
        self.nodes = contributions.nodes
        self._encoder = RowEncoder(model.version.input_schema, mojo.names, mojo.domains)
        places = {name: place for place, name in enumerate(mojo.names)}
        # A column that was constant in training is not in the MOJO: it moves no score.
        self._places = {name: places.get(name) for name in model.version.input_schema.columns}
        self._width = len(mojo.names)
        self._try(model)

    def row(self, model: ServedModel, features: Mapping[str, Any], region: str) -> bytes:
        """Encode a vector that fits the served model."""
        return self._encoder.encode(model.completed(features, region))

    def read(self, answer: Score) -> Explanation:
        """What one answer of the lane says.

        Raises:
            ExplanationsNotAvailable: Its parts do not sum up to the prediction.
        """
        width = self._width
        prediction = answer[width + 1 :]
        score = math.fsum(answer[: width + 1])
        expected = prediction[0] if self.explains is None else prediction[2]
        found = self._from_scale(score)
        if not abs(found - expected) <= TOLERANCE * max(1.0, abs(expected)):
            raise ExplanationsNotAvailable(
                f"the contributions of this {self.algorithm} model sum up to {found!r} where it predicts {expected!r}, "
                "so they would mislead"
            )
        parts = {name: 0.0 if place is None else answer[place] for name, place in self._places.items()}
        return Explanation(bias=answer[width], contributions=parts, score=score, prediction=prediction)

    def _try(self, model: ServedModel) -> None:
        row = self.row(model, model.example(), model.version.region)
        self.read(self.lane.model.score([row])[0])


class Explainers:
    """The explainers in memory, the least recently used given up first. Used from the event loop alone.

    Args:
        source: Where tree models kept beside a champion come from.
        maximum: How many are kept at most.
        maximum_nodes: How many nodes their trees may have together.
    """

    def __init__(
        self, source: ChampionSource, *, maximum: int = MAXIMUM_EXPLAINERS, maximum_nodes: int = MAXIMUM_NODES
    ) -> None:
        self._source = source
        self._maximum, self._maximum_nodes = maximum, maximum_nodes
        self._kept: OrderedDict[str, Explainer] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Explainer]] = {}

    async def of(self, model: ServedModel) -> Explainer:
        """What explains a served model; loaded once for all that wait for it.

        Raises:
            ExplanationsNotAvailable: Nothing does.
            SignatureInvalid, ArtifactCorrupt: The tree model is not the one that was registered.
            Unavailable: It could not be fetched now.
        """
        key = model.version.model_dump_json(include={"use_case", "region", "version", "mojo_sha256"})
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._load, model))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._land(key, done))
        # Shielded: one caller's cancellation must not cancel the others that wait for the same explainer.
        return await asyncio.shield(task)

    def _land(self, key: str, task: asyncio.Task[Explainer]) -> None:
        if task.cancelled() or task.exception() is not None:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._under_way.pop, key, None)
            return
        del self._under_way[key]
        self._kept[key] = task.result()
        while len(self._kept) > 1 and (
            len(self._kept) > self._maximum or sum(each.nodes for each in self._kept.values()) > self._maximum_nodes
        ):
            self._kept.popitem(last=False)

    def _load(self, model: ServedModel) -> Explainer:
        version = model.version
        name = f"version {version.version} of {version.use_case}/{version.region} ({version.algorithm})"
        if len(model.labels) > 2:
            raise ExplanationsNotAvailable(
                f"{name} tells {len(model.labels)} classes apart, and contributions are known for two classes or a "
                "number only"
            )
        try:
            return Explainer(model, model.mojo, version.algorithm)
        except ContractViolated as error:
            reason = error.message
        if version.explainer_sha256 is None:
            raise ExplanationsNotAvailable(
                f"{name} cannot explain itself: {reason}; and no tree model is kept beside it. Declare `serving: "
                "{explanations: true}` in use_case.yaml and train again"
            )
        try:
            with self._source.session() as reader:
                mojo = Mojo(*reader.explainer(version))
            return Explainer(model, mojo, version.explainer_algorithm or "tree model")
        except (ContractViolated, NotFound) as error:
            log.error(
                "explainer refused",
                audit=isinstance(error, (ArtifactCorrupt, SignatureInvalid)),
                use_case=version.use_case,
                region=version.region,
                version=version.version,
                explainer_sha256=version.explainer_sha256,
                signed_by=version.signed_by,
                reason=error.message,
            )
            raise ExplanationsNotAvailable(
                f"the tree model kept beside {name} does not explain it: {error.message}"
            ) from error
