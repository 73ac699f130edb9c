"""What a registered version says of held-out rows, scored by H2O on those very rows."""

from __future__ import annotations

import pyarrow as pa

from mage_platform.contracts import ModelVersion, RegionPlan
from mage_platform.database import connect
from mage_platform.features.vectors import LABEL
from mage_platform.registry import fetch_model, verification_keys
from mage_platform.settings import Settings
from mage_platform.training.h2o_server import Branch, h2o_server
from mage_platform.training.held_out import HeldOut
from mage_platform.training.metrics import Floats


def registered_scores(settings: Settings, model: ModelVersion, rows: HeldOut, *, run: str) -> Floats:
    """Predictions of a registered version, in the order of the rows.

    Args:
        settings: Registry and H2O server.
        model: Its MOJO is fetched and verified.
        rows: What it is asked about.
        run: Names what this puts on the H2O server, and removes at its end.

    Raises:
        SignatureInvalid: No known key signed the version as it is.
        ArtifactCorrupt: Its bytes are not those that were registered.
        H2OUnavailable: H2O does not answer.
    """
    with connect(settings) as connection:
        mojo, _ = fetch_model(connection, model, settings.state_folder / "artifacts", verification_keys(settings))
    plan = RegionPlan(
        use_case=model.use_case,
        region=model.region,
        run=run,
        window=model.window,
        seed=model.seed,
        maximum_models=1,
        maximum_runtime_seconds=1,
        labelled_rows=len(rows),
    )
    with h2o_server(settings):
        branch = Branch(plan, model.input_schema)
        try:
            frame = branch.upload("test", _as_model_wants(rows.table, model), rows.kind)
            return branch.predictions(branch.upload_mojo(mojo), frame)
        finally:
            branch.remove()


def _as_model_wants(table: pa.Table, model: ModelVersion) -> pa.Table:
    """The model's own features; one that is no longer made is missing in every row."""
    region = model.region_feature
    columns = {
        name: table["_region"] if name == region and name not in table.column_names else _column(table, name, each.type)
        for name, each in model.input_schema.columns.items()
    }
    return pa.table({LABEL: table[LABEL], **columns})


def _column(table: pa.Table, name: str, kind: str) -> pa.ChunkedArray | pa.Array:
    if name in table.column_names:
        return table[name]
    return pa.nulls(len(table), pa.float64() if kind in ("integer", "number") else pa.string())
