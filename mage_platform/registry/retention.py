"""Retention: which superseded versions lose their artifacts. Their rows and the history of aliases stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from mage_platform.contracts import AliasMove, ModelVersion
from mage_platform.contracts.use_case import Retention
from mage_platform.database.connections import Connection
from mage_platform.registry.aliases import alias_history, rollback_target
from mage_platform.registry.artifacts import QUERIES
from mage_platform.registry.versions import model_versions


def past_retention(
    rule: Retention,
    registered_at: Mapping[int, datetime],
    aliased: Collection[int],
    moves: Sequence[AliasMove],
    now: datetime,
) -> list[int]:
    """The versions of one region that need their artifacts no longer. Pure: it depends on its arguments alone.

    Kept are the newest `keep_versions`, those registered within `keep_days`, those an alias points to, those an alias
    left within `keep_days`, and the one to which `mage-platform models rollback` would go back, however old.

    Args:
        rule: Of the use case.
        registered_at: Every version of the region, and when it was registered.
        aliased: Versions that an alias points to.
        moves: Every move of the region's aliases, newest first.
        now: The present moment.

    Returns:
        Version numbers, ascending.
    """
    since = now - timedelta(days=rule.keep_days)
    kept = set(sorted(registered_at)[-rule.keep_versions :]) | set(aliased)
    kept |= {version for version, moment in registered_at.items() if moment >= since}
    kept |= {move.from_version for move in moves if move.from_version is not None and move.moved_at >= since}
    kept |= {target for version in aliased if (target := rollback_target(moves, version)) is not None}
    return sorted(set(registered_at) - kept)


def drop_artifacts(
    connection: Connection, use_case: str, rule: Retention, now: datetime, *, dry_run: bool = False
) -> tuple[list[ModelVersion], int]:
    """Drop the artifacts that only versions past their retention refer to, in the caller's transaction.

    Registrations and moves of aliases wait meanwhile, so that none comes to rely on what is being dropped.

    Args:
        connection: An open connection.
        use_case: Whose versions are judged.
        rule: By which.
        now: The present moment.
        dry_run: Change nothing.

    Returns:
        The versions that can be served no longer (or could not), by region and number, and the bytes freed.
    """
    connection.execute(QUERIES.lock_artifacts)
    present = model_versions(connection, use_case=use_case)
    past = _past(connection, use_case, rule, present, now)
    parameters = {"use_case": use_case, "regions": [each.region for each in past]}
    rows = connection.execute(QUERIES.unneeded_artifacts, {**parameters, "versions": [each.version for each in past]})
    unneeded = dict(rows.fetchall())
    if unneeded and not dry_run:
        connection.execute(QUERIES.drop_chunks, {"digests": list(unneeded)})
        connection.execute(QUERIES.mark_dropped, {"digests": list(unneeded)})
    losing = [each for each in past if each.mojo_sha256 in unneeded or each.genmodel_sha256 in unneeded]
    return [each for each in losing if each.artifacts_dropped_at is None], sum(unneeded.values())


def digests_of_runs(connection: Connection, runs: Sequence[str]) -> dict[str, set[str]]:
    """SHA-256 of the MOJOs that each of these pipeline runs registered and decided on; runs without are left out."""
    digests: dict[str, set[str]] = {}
    for run, sha256 in connection.execute(QUERIES.digests_of_runs, {"runs": list(runs)}):
        digests.setdefault(run, set()).add(sha256)
    return digests


def _past(
    connection: Connection, use_case: str, rule: Retention, versions: Sequence[ModelVersion], now: datetime
) -> list[ModelVersion]:
    moves = alias_history(connection, use_case=use_case)
    aliased = connection.execute(QUERIES.aliased, {"use_case": use_case}).fetchall()
    past: list[ModelVersion] = []
    for region in sorted({each.region for each in versions}):
        mine = {each.version: each for each in versions if each.region == region}
        numbers = past_retention(
            rule,
            {version: each.registered_at for version, each in mine.items()},
            {version for name, version in aliased if name == region},
            [move for move in moves if move.region == region],
            now,
        )
        past += [mine[number] for number in numbers]
    return past
