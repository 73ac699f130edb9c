"""The dynamic child: AutoML runs of its regions. It hands back candidates or reasons, and never raises."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.contracts import RegionBatch
from mage_platform.training.batches import train_batch

if "transformer" not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def train_region(batch: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    block = BlockRun.of(kwargs)
    return to_primitives(train_batch(block.settings, block.use_case, RegionBatch.model_validate(batch)))
