"""Moves `champion` by the rule, writes the reports, clears up, and fails the run when a region failed, naming it."""

from typing import Any

from mage_platform.blocks import BlockRun, to_primitives
from mage_platform.training.promotion import promote
from mage_platform.training.pruning import prune
from mage_platform.training.registration import Registration

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def promote_champions(registration: dict[str, Any], *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    block = BlockRun.of(kwargs)
    registered = Registration.model_validate(registration)
    decisions = promote(block.settings, block.use_case, registered, moved_by=block.moved_by)
    prune(block.settings, block.use_case)
    registered.raise_if_failed()
    return [to_primitives(decision) for decision in decisions]
