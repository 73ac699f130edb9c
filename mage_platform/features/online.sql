-- Queries of the online read. Parameters are psycopg's named ones.

-- name: latest_vector
-- One entity lies in one hash partition, and its primary key is in order of event time: a single index step.
SELECT event_time, feature_vector FROM platform.features
WHERE entity_id = %(entity_id)s AND use_case = %(use_case)s AND region = %(region)s
ORDER BY event_time DESC
LIMIT 1

-- name: latest_vector_not_after
SELECT event_time, feature_vector FROM platform.features
WHERE entity_id = %(entity_id)s AND use_case = %(use_case)s AND region = %(region)s
  AND event_time <= %(not_after)s
ORDER BY event_time DESC
LIMIT 1

-- name: latest_vectors
-- One index step for each entity; DISTINCT ON would read every vector the entities ever had.
SELECT i.entity_id, f.event_time, f.feature_vector
FROM unnest(%(entity_ids)s::uuid[]) AS i (entity_id)
CROSS JOIN LATERAL (
    SELECT t.event_time, t.feature_vector FROM platform.features t
    WHERE t.entity_id = i.entity_id AND t.use_case = %(use_case)s AND t.region = %(region)s
    ORDER BY t.event_time DESC
    LIMIT 1
) AS f
