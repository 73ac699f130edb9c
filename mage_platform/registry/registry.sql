-- Queries of the registry. Parameters are psycopg's named ones.

-- name: add_artifact
-- Content addressed: the same bytes are kept once. A row comes back when they are to be written: the first time, and
-- when retention had dropped them.
INSERT INTO platform.artifacts AS kept (sha256, kind, bytes) VALUES (%(sha256)s, %(kind)s, %(bytes)s)
ON CONFLICT (sha256) DO UPDATE SET dropped_at = NULL WHERE kept.dropped_at IS NOT NULL
RETURNING sha256

-- name: copy_chunks
COPY platform.artifact_chunks (sha256, number, chunk) FROM STDIN (FORMAT BINARY)

-- name: read_chunk
SELECT chunk FROM platform.artifact_chunks WHERE sha256 = %(sha256)s AND number = %(number)s

-- name: artifact_size
SELECT bytes, dropped_at FROM platform.artifacts WHERE sha256 = %(sha256)s

-- name: lock_region
-- One registration or alias move of a region at a time, so that no version number is given twice, and none while
-- artifacts are dropped. Bound to the transaction: PgBouncer would leave a session lock behind on a pooled connection.
SELECT pg_advisory_xact_lock_shared(742),
       pg_advisory_xact_lock(hashtextextended(%(use_case)s || '/' || %(region)s, 742))

-- name: lock_artifacts
-- Alone with the registry: an artifact must not be dropped while a registration or a promotion comes to rely on it.
SELECT pg_advisory_xact_lock(742)

-- name: version_of_run
SELECT version FROM platform.model_versions
WHERE use_case = %(use_case)s AND region = %(region)s AND run = %(run)s

-- name: version_of_training
-- An earlier one that had the very same rows, options and seed, and can still be served.
SELECT v.version FROM platform.model_versions v JOIN platform.artifacts mojo ON mojo.sha256 = v.mojo_sha256
WHERE v.use_case = %(use_case)s AND v.region = %(region)s AND mojo.dropped_at IS NULL
  AND v.details #>> '{lineage,training_fingerprint}' = %(fingerprint)s
ORDER BY v.version DESC LIMIT 1

-- name: add_version
INSERT INTO platform.model_versions
    (use_case, region, version, algorithm, mojo_sha256, genmodel_sha256, run, details)
SELECT %(use_case)s, %(region)s, coalesce(max(version), 0) + 1, %(algorithm)s, %(mojo_sha256)s, %(genmodel_sha256)s,
       %(run)s, %(details)s
FROM platform.model_versions WHERE use_case = %(use_case)s AND region = %(region)s
RETURNING version, registered_at

-- name: sign_version
UPDATE platform.model_versions SET signature = %(signature)s, signed_by = %(signed_by)s
WHERE use_case = %(use_case)s AND region = %(region)s AND version = %(version)s
  AND mojo_sha256 = %(mojo_sha256)s AND genmodel_sha256 = %(genmodel_sha256)s

-- name: versions
SELECT use_case, region, version, algorithm, mojo_sha256, genmodel_sha256, run, details, registered_at, signature,
       signed_by,
       (SELECT max(dropped_at) FROM platform.artifacts WHERE sha256 IN (mojo_sha256, genmodel_sha256))
FROM platform.model_versions
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR region = %(region)s)
  AND (%(version)s::integer IS NULL OR version = %(version)s)
ORDER BY use_case, region, version DESC

-- name: champions
SELECT v.use_case, v.region, v.version, v.algorithm, v.mojo_sha256, v.genmodel_sha256, v.run, v.details,
       v.registered_at, v.signature, v.signed_by,
       (SELECT max(dropped_at) FROM platform.artifacts WHERE sha256 IN (v.mojo_sha256, v.genmodel_sha256)),
       a.moved_at
FROM platform.model_aliases a
JOIN platform.model_versions v USING (use_case, region, version)
WHERE a.alias = 'champion'
  AND (%(use_case)s::text IS NULL OR a.use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR a.region = %(region)s)
ORDER BY v.use_case, v.region

-- name: champions_marker
-- Cheap to ask every second. Numbers are given before they are committed: counting the latest rows tells a move that was
-- committed after one with a higher number, and the sum still only grows.
SELECT (SELECT coalesce(max(move_id), 0) + count(*) FROM platform.alias_history
        WHERE move_id > (SELECT max(move_id) - 1000 FROM platform.alias_history))
     + (SELECT coalesce(max(change_id), 0) + count(*) FROM platform.challenger_history
        WHERE change_id > (SELECT max(change_id) - 1000 FROM platform.challenger_history))

-- name: record_decision
INSERT INTO platform.promotion_decisions (use_case, region, version, decided_at, promoted, decision)
VALUES (%(use_case)s, %(region)s, %(version)s, %(decided_at)s, %(promoted)s, %(decision)s)

-- name: last_decision
SELECT decision FROM platform.promotion_decisions
WHERE use_case = %(use_case)s AND region = %(region)s AND version = %(version)s
ORDER BY decision_id DESC LIMIT 1

-- name: alias_version
SELECT version FROM platform.model_aliases
WHERE use_case = %(use_case)s AND region = %(region)s AND alias = %(alias)s

-- name: set_alias
INSERT INTO platform.model_aliases (use_case, region, alias, version)
VALUES (%(use_case)s, %(region)s, %(alias)s, %(version)s)
ON CONFLICT (use_case, region, alias) DO UPDATE SET version = excluded.version, moved_at = now()

-- name: record_move
INSERT INTO platform.alias_history (use_case, region, alias, from_version, to_version, moved_by, reason)
VALUES (%(use_case)s, %(region)s, %(alias)s, %(from_version)s, %(version)s, %(moved_by)s, %(reason)s)
RETURNING moved_at

-- name: history
SELECT use_case, region, alias, from_version, to_version, moved_at, moved_by, reason
FROM platform.alias_history
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR region = %(region)s)
ORDER BY move_id DESC

-- name: aliased
SELECT region, version FROM platform.model_aliases WHERE use_case = %(use_case)s

-- name: unneeded_artifacts
-- Bytes that only versions past their retention refer to; versions without their MOJO need no genmodel jar either.
WITH past AS (
    SELECT %(use_case)s::text AS use_case, region, version
    FROM unnest(%(regions)s::text[], %(versions)s::integer[]) AS listed (region, version)
), uses AS (
    SELECT artifact.sha256, v.use_case, v.region, v.version,
           past.version IS NULL AND mojo.dropped_at IS NULL AS needed
    FROM platform.model_versions v
    JOIN platform.artifacts mojo ON mojo.sha256 = v.mojo_sha256
    JOIN platform.artifacts artifact
        ON artifact.sha256 IN (v.mojo_sha256, v.genmodel_sha256, v.details ->> 'explainer_sha256')
    LEFT JOIN past USING (use_case, region, version)
    WHERE artifact.dropped_at IS NULL
)
SELECT sha256, bytes FROM platform.artifacts
WHERE sha256 IN (SELECT sha256 FROM uses GROUP BY sha256 HAVING NOT bool_or(needed))
ORDER BY sha256

-- name: drop_chunks
DELETE FROM platform.artifact_chunks WHERE sha256 = ANY(%(digests)s)

-- name: mark_dropped
UPDATE platform.artifacts SET dropped_at = now() WHERE sha256 = ANY(%(digests)s)

-- name: digests_of_runs
-- Of versions that were decided on: until then the held-out rows beside the MOJO are still needed.
SELECT DISTINCT v.run, v.mojo_sha256
FROM platform.model_versions v JOIN platform.promotion_decisions USING (use_case, region, version)
WHERE v.run = ANY(%(runs)s)
