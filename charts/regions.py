"""Vectors, labels and label rate of each region, in the window that an ingest described last."""

from typing import Any

from mage_platform.blocks import BlockRun
from mage_platform.database import connect
from mage_platform.features.windows import newest_window, region_table

if "xy" not in globals():
    from mage_ai.data_preparation.decorators import xy


@xy
def regions(*args: Any, **kwargs: Any) -> tuple[list[str], list[list[Any]]]:
    block = BlockRun.of(kwargs)
    with connect(block.settings) as connection:
        table = region_table(newest_window(connection, block.use_case))
    return list(table), table.values.tolist()
