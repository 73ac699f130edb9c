"""Vectors and labels into the feature store; the same rows twice change nothing."""

from typing import Any

import pandas as pd

from mage_platform import ingestion
from mage_platform.blocks import BlockRun, to_primitives

if "data_exporter" not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def export_features(vectors: pd.DataFrame, *args: Any, **kwargs: Any) -> dict[str, Any]:
    block = BlockRun.of(kwargs)
    report = ingestion.store_vectors(block.settings, block.use_case, vectors, bulk=block.variables.bulk)
    return to_primitives(report)
