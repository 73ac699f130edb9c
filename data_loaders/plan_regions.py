"""One plan for each region: the items of the dynamic fan-out."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.training import plan

if "data_loader" not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def plan_regions(*args: Any, **kwargs: Any) -> list[list[dict[str, Any]]]:
    block = BlockRun.of(kwargs)
    plans = plan.plan_regions(block.settings, block.use_case, run=block.run, regions=block.variables.regions)
    # Mage's form of a generator: the items, and the name of each item's child.
    return [
        [to_primitives(item) for item in plans],
        [{"block_uuid": f"train_{item.region}"} for item in plans],
    ]
