-- The prediction log. Parameters are psycopg's named ones.

-- name: add_predictions
-- One parameter holds the whole batch, an array of arrays, so that a row costs the writer one pass over it. A batch
-- whose first sending was cut off may be there already; then nothing happens.
INSERT INTO platform.predictions
    (batch, number, asked_at, request_id, use_case, region, model_region, version, variant, entity_id, event_time,
     feature_vector, prediction, probabilities, cached)
SELECT %(batch)s, number, to_timestamp((line ->> 0)::float8), line ->> 1, line ->> 2, line ->> 3, line ->> 4,
       (line ->> 5)::integer, line ->> 6, (line ->> 7)::uuid, (line ->> 8)::timestamptz,
       line -> 9, line -> 10, nullif(line -> 11, 'null'), (line ->> 12)::boolean
FROM jsonb_array_elements(%(lines)s::jsonb) WITH ORDINALITY AS batch (line, number)
ON CONFLICT (batch, number) DO NOTHING

-- name: newest_predictions
SELECT asked_at, request_id, use_case, region, model_region, version, variant, entity_id, event_time, feature_vector,
       prediction, probabilities, cached
FROM platform.predictions
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(region)s::text IS NULL OR region = %(region)s)
  AND (%(entity_id)s::uuid IS NULL OR entity_id = %(entity_id)s)
ORDER BY asked_at DESC, batch, number DESC LIMIT %(limit)s

-- name: count_predictions
SELECT count(*) FROM platform.predictions WHERE use_case = %(use_case)s AND asked_at < %(before)s

-- name: drop_predictions
DELETE FROM platform.predictions WHERE use_case = %(use_case)s AND asked_at < %(before)s
