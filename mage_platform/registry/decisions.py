"""Decisions on versions, each with the evaluation it rests on."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from mage_platform.contracts import PromotionDecision
from mage_platform.database.connections import Connection
from mage_platform.registry.artifacts import QUERIES


def record_decision(connection: Connection, decision: PromotionDecision) -> None:
    """Keep a decision for ever, in the caller's transaction."""
    columns = {"use_case", "region", "version", "decided_at", "promoted"}
    values = decision.model_dump(include=columns)
    connection.execute(QUERIES.record_decision, {**values, "decision": Jsonb(decision.model_dump(mode="json"))})


def last_decision(connection: Connection, use_case: str, region: str, version: int) -> PromotionDecision | None:
    """The newest decision on a version; None where none was made."""
    key = {"use_case": use_case, "region": region, "version": version}
    row = connection.execute(QUERIES.last_decision, key).fetchone()
    return PromotionDecision.model_validate(row[0]) if row else None
