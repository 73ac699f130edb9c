"""What the values of each feature look like, over all regions of the window that an ingest described last."""

from typing import Any

from mage_platform.blocks import BlockRun
from mage_platform.database import connect
from mage_platform.features.windows import feature_table, newest_statistics

if "xy" not in globals():
    from mage_ai.data_preparation.decorators import xy


@xy
def features(*args: Any, **kwargs: Any) -> tuple[list[str], list[list[Any]]]:
    block = BlockRun.of(kwargs)
    with connect(block.settings) as connection:
        table = feature_table(newest_statistics(connection, block.use_case))
    return list(table), table.values.tolist()
