"""Rows that keep the use case's expectations; the others are in quarantine."""

from typing import Any

import pandas as pd

from mage_platform import ingestion
from mage_platform.blocks import BlockRun

if "transformer" not in globals():
    from mage_ai.data_preparation.decorators import transformer


@transformer
def validate_rows(rows: pd.DataFrame, *args: Any, **kwargs: Any) -> pd.DataFrame:
    block = BlockRun.of(kwargs)
    return ingestion.validate_rows(block.settings, block.use_case, rows, run=block.run)
