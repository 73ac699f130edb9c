"""Source rows of the use case, as its declaration says where they come from."""

from typing import Any

import pandas as pd

from mage_platform.blocks import BlockRun
from mage_platform.sources import load_rows

if "data_loader" not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def load_source_rows(*args: Any, **kwargs: Any) -> pd.DataFrame:
    block = BlockRun.of(kwargs)
    variables = block.variables
    return load_rows(
        block.settings,
        block.use_case,
        start=variables.window_start,
        end=variables.window_end,
        file=variables.source_file,
    )
