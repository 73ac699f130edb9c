"""What the fan-out trains: one plan for each region that has labels."""

from __future__ import annotations

from mage_platform.contracts import POOLED, RegionPlan, UseCase
from mage_platform.database import connect
from mage_platform.errors import NothingToTrain
from mage_platform.features.training_set import labelled_rows_by_region
from mage_platform.registry import signing_key
from mage_platform.settings import Settings


def plan_regions(
    settings: Settings, use_case: UseCase, *, run: str, regions: list[str] | None = None
) -> list[RegionPlan]:
    """One plan for each region with labelled vectors in the use case's window, in the order of their names.

    Before them, where there are several, one for the pooled model of all.

    Args:
        settings: The database.
        use_case: What to train.
        run: Id of the pipeline run.
        regions: Only these (`*` is the pooled model); None takes every region there is, and the pooled model. A
            region named here without any labels still gets a plan, and ends with a reason.

    Raises:
        SettingsInvalid: There is no key to sign the models with.
        NothingToTrain: There is no region at all. Raised here, before the fan-out, because Mage waits two minutes
            for the items of a generator that gives none.
    """
    signing_key(settings)  # a missing key is told now, not after hours of training
    window = use_case.training.window
    with connect(settings) as connection:
        rows = labelled_rows_by_region(connection, use_case.name, window)
    if regions:
        every = {**rows, POOLED: sum(rows.values())}
        rows = {region: every.get(region, 0) for region in sorted(set(regions))}
    if not rows:
        raise NothingToTrain(
            f"no region of {use_case.name} has a label known by {window.test_until.isoformat()}: run "
            f"`mage-platform run ingest_features --use-case {use_case.name}` first, or move training.test_until",
            field="training.test_until",
        )
    pooled = use_case.training.pooled
    if pooled.enabled and len(rows) > 1 and not regions:
        # The longest of all, so it comes first.
        rows = {POOLED: sum(rows.values()), **rows}
    return [
        RegionPlan(
            use_case=use_case.name,
            region=region,
            run=run,
            window=window,
            seed=use_case.training.seed,
            maximum_models=pooled.maximum_models if region == POOLED else use_case.training.maximum_models,
            maximum_runtime_seconds=use_case.training.maximum_runtime_seconds,
            labelled_rows=count,
        )
        for region, count in rows.items()
    ]
