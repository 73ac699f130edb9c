"""The path of one explanation: as of a prediction, then its score taken apart into what each feature contributed."""

from __future__ import annotations

import asyncio

from pydantic_core import from_json

from mage_platform.contracts import Contribution, ExplainedBy, ExplainResponse
from serving.calls import Call
from serving.explainers import Explainers
from serving.prediction import Predictions
from serving.scorer import Scorer

NOTE = (
    "The model that answers cannot be taken apart. The contributions sum up to the score of this tree model, which was "
    "trained on the same rows, and not to the prediction."
)


class Explanations:
    """Answers explanations.

    Args:
        predictions: Answers predictions.
        explainers: What takes scores apart.
        scorer: Runs the explainers.
    """

    def __init__(self, predictions: Predictions, explainers: Explainers, scorer: Scorer) -> None:
        self._predictions = predictions
        self._explainers = explainers
        self._scorer = scorer

    async def answer(self, body: bytes, call: Call) -> bytes:
        """Answer one request.

        Args:
            body: `PredictRequest` as JSON.
            call: The request; what becomes known of it is noted there.

        Returns:
            `ExplainResponse` as JSON.

        Raises:
            PlatformError: The request cannot be answered.
        """
        request, model = self._predictions.parse(body, call)
        vector = await self._predictions.choose(model, request)
        explainer = await self._explainers.of(model)
        call.mark_encoded()
        row = explainer.row(model, vector.features, request.region)
        if explainer.same_model:
            explanation = explainer.read(await self._scorer.submit(explainer.lane, row))
            prediction = explanation.prediction
        else:
            (prediction, _), parts = await asyncio.gather(
                self._predictions.score(model, vector.row), self._scorer.submit(explainer.lane, row)
            )
            explanation = explainer.read(parts)
        call.mark_scored()
        values = model.completed(vector.features, request.region)
        said = from_json(f"{{{model.outcome.text(prediction)}}}")
        return ExplainResponse(
            entity_id=request.entity_id,
            prediction=said["prediction"],
            probabilities=said["probabilities"],
            model=model.version.reference,
            fallback=call.fallback,
            vector=vector.used,
            explained_by=ExplainedBy(
                algorithm=explainer.algorithm,
                same_model=explainer.same_model,
                note=None if explainer.same_model else NOTE,
            ),
            scale=explainer.scale,
            explains=explainer.explains,
            score=explanation.score,
            bias=explanation.bias,
            contributions=[
                Contribution(feature=name, value=values.get(name), contribution=part)
                for name, part in sorted(explanation.contributions.items(), key=lambda item: -abs(item[1]))
            ],
        ).model_dump_json().encode()  # fmt: skip
