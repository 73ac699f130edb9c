"""Feature vectors with their labels, by the use case's own pure function."""

from typing import Any

import pandas as pd

from mage_platform.blocks import BlockRun
from mage_platform.features.vectors import build_vectors

if "transformer" not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def build_features(rows: pd.DataFrame, *args: Any, **kwargs: Any) -> pd.DataFrame:
    block = BlockRun.of(kwargs)
    return build_vectors(block.settings, block.use_case, rows, start=block.variables.window_start)
