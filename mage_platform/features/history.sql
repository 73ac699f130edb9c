-- Looking at one entity, for people.

-- name: newest_vector
SELECT f.use_case, f.region, f.entity_id, f.event_time, f.feature_vector, f.ingested_at, l.label, l.known_at
FROM platform.features f
LEFT JOIN platform.labels l USING (entity_id, event_time)
WHERE f.entity_id = %(entity_id)s AND f.event_time <= coalesce(%(as_of)s::timestamptz, 'infinity')
ORDER BY f.event_time DESC LIMIT 1

-- name: count_vectors
SELECT count(*) FROM platform.features WHERE use_case = %(use_case)s

-- name: an_entity
-- The newest labelled entity of a region, by the index of the labels.
SELECT entity_id FROM platform.labels WHERE use_case = %(use_case)s AND region = %(region)s
ORDER BY event_time DESC LIMIT 1
