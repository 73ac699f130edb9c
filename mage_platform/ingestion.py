"""The steps of `ingest_features` that touch the database: validation with its quarantine, export, description."""

from __future__ import annotations

import time
from datetime import datetime

import pandas as pd
import structlog

from mage_platform.contracts import UseCase
from mage_platform.database import connect
from mage_platform.features import windows
from mage_platform.features.bulk import ingest_in_bulk, mend_index
from mage_platform.features.ingest import IngestReport, ingest
from mage_platform.features.vector_cache import forget
from mage_platform.settings import Settings
from mage_platform.validation import record, validate

log = structlog.get_logger()


def validate_rows(settings: Settings, use_case: UseCase, rows: pd.DataFrame, *, run: str) -> pd.DataFrame:
    """Validate source rows, keep the report and the refused rows, and hand on the rest.

    Raises:
        ValidationStopped: A table-level expectation is broken, or too many rows are bad. The refused rows are in
            quarantine all the same.
        DatabaseUnavailable: PostgreSQL did not answer.
    """
    validated = validate(rows, use_case, run=run)
    with connect(settings) as connection:
        record(connection, validated)
    log.info("rows validated", **validated.report.model_dump(mode="json", exclude={"started_at"}))
    validated.raise_if_stopped(use_case)
    return validated.passed


def store_vectors(settings: Settings, use_case: UseCase, vectors: pd.DataFrame, *, bulk: bool = False) -> IngestReport:
    """Write vectors and labels to the feature store, all or nothing, and let the sidecar read them at once.

    Args:
        settings: Where the feature store is.
        use_case: Whose vectors.
        vectors: As `build_vectors` gives them.
        bulk: Take the index on the vectors away for the load and make it anew afterwards, without stopping readers.

    Raises:
        FeaturesInvalid: A vector breaks the contract. Nothing is written.
        DatabaseUnavailable: PostgreSQL did not answer; in bulk also: another bulk load runs.
    """
    if bulk:
        return ingest_in_bulk(settings, use_case, vectors)
    with connect(settings) as connection:
        report = ingest(connection, use_case, vectors)
    # After the commit, and even when nothing changed: an earlier run may have ended between the two.
    forget(settings, use_case.name)
    mend_index(settings)  # where a bulk load was interrupted
    return report


def describe_window(
    settings: Settings, use_case: UseCase, *, start: datetime | None = None, end: datetime | None = None
) -> pd.DataFrame:
    """Compute and keep what the ingested window holds, of all regions and of each, and the statistics of its features.

    Args:
        settings: Where the feature store is.
        use_case: Whose window.
        start: Event times from here on, with time zone; None from the first.
        end: Event times before this moment, with time zone; None to the last.

    Returns:
        One row a region, all regions first: vectors, labels, label rate and the window.
    """
    clock = time.monotonic()
    with connect(settings) as connection:
        described = windows.describe_window(connection, use_case, start=start, end=end)
    seconds = round(time.monotonic() - clock, 3)
    log.info("window described", use_case=use_case.name, vectors=described[0].vectors, seconds=seconds)
    return windows.region_table(described)
