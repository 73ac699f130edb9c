"""Back-fills: load first, index afterwards, and never stop a reader.

While it lasts, reads by key are as fast as ever, and containment queries or the search for the nearest embeddings scan.
A crash in between leaves the index declared but invalid; `mend_index`, called at each start and after each ingest,
finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
from numpy.typing import NDArray
from psycopg import sql

from mage_platform.contracts import UseCase
from mage_platform.database import Queries, connect
from mage_platform.features.admission import admitted
from mage_platform.features.deferred_index import DeferredIndex
from mage_platform.features.embeddings import EmbeddingReport, store_embeddings, store_few_embeddings
from mage_platform.features.ingest import IngestReport, ingest
from mage_platform.features.vector_cache import forget
from mage_platform.settings import Settings

QUERIES = Queries(Path(__file__).with_name("bulk.sql"))
VECTOR_INDEX = DeferredIndex("idx_features_vector_gin", "feature_vector", sql.SQL(QUERIES.declare_index))
EMBEDDING_INDEX = DeferredIndex("features_by_embedding", "embedding", sql.SQL(""), kibibytes_a_value=5)
"""An embedding takes 3 KiB, its neighbours in the graph one more. Where pgvector has no HNSW, there is none."""
APPLICATION = "mage_platform bulk load"


def ingest_in_bulk(settings: Settings, use_case: UseCase, vectors: pd.DataFrame) -> IngestReport:
    """Store vectors and labels as `ingest` does, with the index on the vectors taken away for the time being.

    Worth it from about as many vectors as are stored already; below that the pending list of the index is cheaper.

    Raises:
        FeaturesInvalid: A vector breaks the contract. Nothing is written, and the index is there again.
        DatabaseUnavailable: PostgreSQL did not answer, another bulk load runs, or readers hold the table for minutes.
    """
    vectors = admitted(use_case, vectors)  # before anything is taken away
    report = VECTOR_INDEX.load(settings, lambda connection: ingest(connection, use_case, vectors))
    forget(settings, use_case.name)
    return report


def store_embeddings_in_bulk(
    settings: Settings,
    use_case: str,
    ids: Sequence[UUID],
    event_times: Sequence[datetime],
    matrix: NDArray[Any],
) -> EmbeddingReport:
    """Store embeddings as `store_embeddings` does, in a transaction of its own, whatever their number.

    Where at least 500 change, and a quarter as many as are stored, the index on embeddings is taken away, and built
    afterwards: until then `similar` compares with all. Writers of a partition wait while its part is being built.

    Args:
        settings: Where PostgreSQL is.
        use_case: Whose vectors.
        ids: Entity ids, (n,).
        event_times: Event times of the vectors, (n,), with time zone.
        matrix: The embeddings, (n, 768), finite and none of them all zero.

    Returns:
        What was done; its `seconds` cover the index as well.

    Raises:
        FeaturesInvalid: The embeddings are not as above, or two have the same entity and event time.
        ContractViolated: PostgreSQL has no pgvector.
        DatabaseUnavailable: PostgreSQL did not answer, another bulk load runs, or readers hold the table for minutes.
    """
    clock = time.monotonic()
    load = (use_case, ids, event_times, matrix)
    with connect(settings, application_name=APPLICATION) as connection:
        report = store_few_embeddings(connection, *load)
    if report is None:
        report = EMBEDDING_INDEX.load(settings, lambda connection: store_embeddings(connection, *load))
    return report.model_copy(update={"seconds": round(time.monotonic() - clock, 3)})


def mend_index(settings: Settings) -> bool:
    """Finish the indexes where a bulk load was interrupted.

    Returns:
        Whether they are there now; False while another process is at it.
    """
    return all(index.mend(settings) for index in (VECTOR_INDEX, EMBEDDING_INDEX))
