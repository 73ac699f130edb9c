"""The items of the dynamic fan-out: one for each region, or for several small ones."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.training import plan
from mage_platform.training.batches import batches_of, child_name

if "data_loader" not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def plan_regions(*args: Any, **kwargs: Any) -> list[list[dict[str, Any]]]:
    block = BlockRun.of(kwargs)
    plans = plan.plan_regions(block.settings, block.use_case, run=block.run, regions=block.variables.regions)
    batches = batches_of(plans, block.settings.training)
    # Mage's form of a generator: the items, and the name of each item's child.
    return [
        [to_primitives(batch) for batch in batches],
        [{"block_uuid": child_name(batch)} for batch in batches],
    ]
