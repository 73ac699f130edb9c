-- Queries that write the feature store.

-- name: take_turn
-- Ingests of one use case write the same keys: side by side they could only wait for each other's rows, or deadlock.
-- The lock belongs to the transaction, so PgBouncer can carry it. Ids of different use cases never meet.
SELECT pg_advisory_xact_lock(hashtextextended('ingest ' || %(use_case)s, 0))

-- name: some_are_there
SELECT EXISTS (
    SELECT FROM unnest(%(entity_ids)s::uuid[], %(event_times)s::timestamptz[]) AS asked (entity_id, event_time)
    JOIN platform.features f ON f.entity_id = asked.entity_id AND f.event_time = asked.event_time
)

-- name: copy_features
COPY platform.features (entity_id, event_time, region, feature_vector, use_case) FROM STDIN

-- name: copy_labels
COPY platform.labels (entity_id, event_time, region, known_at, label, use_case) FROM STDIN

-- name: stage
-- COPY itself knows no ON CONFLICT, and PgBouncer keeps no session: the staging table lives for the transaction.
CREATE TEMPORARY TABLE staged (
    entity_id uuid, event_time timestamptz, region text, feature_vector jsonb, known_at timestamptz, label jsonb
) ON COMMIT DROP

-- name: copy_staged
COPY staged (entity_id, event_time, region, feature_vector, known_at, label) FROM STDIN

-- name: analyze_staged
-- Without statistics the planner guesses a nested loop over hundreds of thousands of rows.
ANALYZE staged (entity_id, event_time)

-- name: unstage
-- A second ingest of the same transaction makes its own.
DROP TABLE staged

-- name: write_features
-- Rows that are there already, unchanged, are left out before the insert: the same ingest twice writes nothing, and
-- costs a hash join. ON CONFLICT stays, for writers that do not take turns.
WITH changed AS (
    SELECT s.entity_id, s.event_time, s.feature_vector, s.region, f.entity_id IS NULL AS is_new
    FROM staged s
    LEFT JOIN platform.features f ON f.entity_id = s.entity_id AND f.event_time = s.event_time
    WHERE f.entity_id IS NULL OR f.feature_vector IS DISTINCT FROM s.feature_vector OR f.region <> s.region
), written AS (
    INSERT INTO platform.features AS t (entity_id, event_time, feature_vector, use_case, region)
    SELECT entity_id, event_time, feature_vector, %(use_case)s, region FROM changed
    ON CONFLICT (entity_id, event_time) DO UPDATE
        SET feature_vector = excluded.feature_vector, region = excluded.region, ingested_at = now()
        WHERE t.feature_vector IS DISTINCT FROM excluded.feature_vector OR t.region <> excluded.region
    RETURNING 1
)
SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM changed

-- name: write_labels
WITH changed AS (
    SELECT s.entity_id, s.event_time, s.region, s.known_at, s.label, l.entity_id IS NULL AS is_new
    FROM staged s
    LEFT JOIN platform.labels l ON l.entity_id = s.entity_id AND l.event_time = s.event_time
    WHERE s.label IS NOT NULL
      AND (l.entity_id IS NULL OR l.label <> s.label OR l.known_at <> s.known_at OR l.region <> s.region)
), written AS (
    INSERT INTO platform.labels AS t (entity_id, event_time, use_case, region, known_at, label)
    SELECT entity_id, event_time, %(use_case)s, region, known_at, label FROM changed
    ON CONFLICT (entity_id, event_time) DO UPDATE
        SET label = excluded.label, known_at = excluded.known_at, region = excluded.region
        WHERE (t.label, t.known_at, t.region) IS DISTINCT FROM (excluded.label, excluded.known_at, excluded.region)
    RETURNING 1
)
SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM changed

-- name: sample_less
-- A third of the usual sample tells as much about keys; autovacuum takes a whole one in its own time.
SET LOCAL default_statistics_target = 30

-- name: analyze_features
-- Keys only: statistics of the vectors cost more than the rest together, and autovacuum makes them in its own time.
ANALYZE platform.features (entity_id, event_time, use_case, region)

-- name: analyze_labels
ANALYZE platform.labels
