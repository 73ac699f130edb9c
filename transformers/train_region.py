"""The dynamic child: one region's AutoML run. It hands back a candidate or a reason, and never raises."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.contracts import RegionPlan
from mage_platform.training import regions

if "transformer" not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def train_region(plan: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    block = BlockRun.of(kwargs)
    return to_primitives(regions.train_region(block.settings, block.use_case, RegionPlan.model_validate(plan)))
