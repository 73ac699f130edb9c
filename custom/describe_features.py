"""Statistics of what the ingested window holds now, kept in the feature store and shown on the dashboard."""

from typing import Any

import pandas as pd

from mage_platform import ingestion
from mage_platform.blocks import BlockRun

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def describe_features(*args: Any, **kwargs: Any) -> pd.DataFrame:
    block = BlockRun.of(kwargs)
    variables = block.variables
    return ingestion.describe_window(
        block.settings, block.use_case, start=variables.window_start, end=variables.window_end
    )
