-- Queries of challengers. Parameters are psycopg's named ones.

-- name: challengers
SELECT c.use_case, c.region, a.version, c.mode, c.share, c.since
FROM platform.challengers c JOIN platform.model_aliases a USING (use_case, region, alias)
WHERE (%(use_case)s::text IS NULL OR c.use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR c.region = %(region)s)
ORDER BY c.use_case, c.region

-- name: set_challenger
-- Nothing comes back when it stood so already. A new version starts anew, another share or mode goes on.
INSERT INTO platform.challengers AS kept (use_case, region, mode, share)
VALUES (%(use_case)s, %(region)s, %(mode)s, %(share)s)
ON CONFLICT (use_case, region) DO UPDATE
SET mode = excluded.mode, share = excluded.share, since = CASE WHEN %(moved)s THEN now() ELSE kept.since END
WHERE %(moved)s OR (kept.mode, kept.share) IS DISTINCT FROM (excluded.mode, excluded.share)
RETURNING since

-- name: drop_challenger
-- With its alias; how it took part goes with it, by the foreign key.
DELETE FROM platform.model_aliases
WHERE use_case = %(use_case)s AND region = %(region)s AND alias = 'challenger'
  AND (%(version)s::integer IS NULL OR version = %(version)s)
RETURNING version

-- name: record_change
INSERT INTO platform.challenger_history (use_case, region, version, mode, share, changed_by, reason)
VALUES (%(use_case)s, %(region)s, %(version)s, %(mode)s, %(share)s, %(changed_by)s, %(reason)s)
RETURNING changed_at

-- name: history
SELECT use_case, region, version, mode, share, changed_at, changed_by, reason
FROM platform.challenger_history
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR region = %(region)s)
ORDER BY change_id DESC

-- name: placements
-- Without what is known of each version: a sidecar of thousands of models reads that once.
SELECT a.use_case, a.region, a.alias, a.version, coalesce(c.since, a.moved_at), c.mode, c.share,
       v.mojo_sha256, v.genmodel_sha256, v.signature
FROM platform.model_aliases a
JOIN platform.model_versions v USING (use_case, region, version)
LEFT JOIN platform.challengers c USING (use_case, region, alias)
WHERE a.alias = 'champion' OR c.mode IS NOT NULL
ORDER BY a.use_case, a.region

-- name: placed_versions
SELECT v.use_case, v.region, v.version, v.algorithm, v.mojo_sha256, v.genmodel_sha256, v.run, v.details,
       v.registered_at, v.signature, v.signed_by,
       (SELECT max(dropped_at) FROM platform.artifacts WHERE sha256 IN (v.mojo_sha256, v.genmodel_sha256))
FROM platform.model_versions v
JOIN unnest(%(use_cases)s::text[], %(regions)s::text[], %(versions)s::integer[]) AS wanted (use_case, region, version)
    USING (use_case, region, version)
