"""Good candidates into the registry, each MOJO with its metrics in one transaction."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.contracts import BatchOutcome
from mage_platform.training.registration import register_candidates

if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def register_models(outcomes: list[dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
    block = BlockRun.of(kwargs)
    batches = [BatchOutcome.model_validate(outcome) for outcome in outcomes]
    candidates = [candidate for batch in batches for candidate in batch.candidates]
    return to_primitives(register_candidates(block.settings, block.use_case, candidates))
