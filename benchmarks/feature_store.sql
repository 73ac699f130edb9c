-- The floors of the benchmark of the feature store.

-- name: copy_out
COPY (SELECT entity_id, event_time, feature_vector, use_case, region, ingested_at FROM platform.features) TO STDOUT

-- name: empty
TRUNCATE platform.features, platform.labels

-- name: empty_floor
TRUNCATE platform.floor

-- name: make_floor
-- Columns, checks, primary key and partitions of the features, without the GIN index.
CREATE TABLE platform.floor (
    entity_id uuid NOT NULL, event_time timestamptz NOT NULL,
    feature_vector jsonb NOT NULL CHECK (jsonb_typeof(feature_vector) = 'object'),
    use_case text NOT NULL, region text NOT NULL, ingested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (entity_id, event_time)
) PARTITION BY HASH (entity_id);
DO $$ BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE platform.floor_%s PARTITION OF platform.floor '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
    END LOOP;
END $$

-- name: copy_floor
COPY platform.floor (entity_id, event_time, feature_vector, use_case, region, ingested_at) FROM STDIN

-- name: drop_floor
DROP TABLE platform.floor

-- name: label_all
INSERT INTO platform.labels (entity_id, event_time, use_case, region, known_at, label)
SELECT entity_id, event_time, use_case, region, event_time + interval '6 hours', '1'
FROM platform.features WHERE use_case = %(use_case)s

-- name: vacuum
-- Settles what the load left behind (GIN's pending list, hint bits, statistics), so that no read pays for it.
VACUUM (ANALYZE) platform.features, platform.labels

-- name: make_labels
CREATE TABLE platform.floor_labels (entity_id uuid, event_time timestamptz)

-- name: copy_labels
COPY platform.floor_labels FROM STDIN

-- name: analyze_labels
ANALYZE platform.floor_labels

-- name: lateral
SELECT count(v.event_time),
       max((v.feature_vector ->> 'number_0')::float8),
       max((v.feature_vector ->> 'number_1')::float8),
       max((v.feature_vector ->> 'number_2')::float8),
       max((v.feature_vector ->> 'number_3')::float8),
       max((v.feature_vector ->> 'number_4')::float8),
       max((v.feature_vector ->> 'number_5')::float8),
       max((v.feature_vector ->> 'number_6')::float8),
       max((v.feature_vector ->> 'number_7')::float8),
       max((v.feature_vector ->> 'number_8')::float8),
       max((v.feature_vector ->> 'number_9')::float8),
       max((v.feature_vector ->> 'hour')::float8),
       max(v.feature_vector ->> 'carrier'),
       max(v.feature_vector ->> 'aircraft')
FROM platform.floor_labels l
LEFT JOIN LATERAL (
    SELECT f.event_time, f.feature_vector FROM platform.features f
    WHERE f.entity_id = l.entity_id AND f.event_time <= l.event_time ORDER BY f.event_time DESC LIMIT 1
) v ON true

-- name: by_key
SELECT event_time, feature_vector FROM platform.features WHERE entity_id = %s AND event_time = %s

-- name: by_keys
SELECT f.entity_id, f.event_time, f.feature_vector
FROM unnest(%s::uuid[], %s::timestamptz[]) k (entity_id, event_time)
JOIN platform.features f USING (entity_id, event_time)

-- name: join_by_partition
-- The best plan there is when labels and vectors have the same moments.
SET LOCAL enable_partitionwise_join = on

-- name: copy_training_rows
COPY (
SELECT l.label #>> '{}',
       (v.feature_vector ->> 'number_0')::float8,
       (v.feature_vector ->> 'number_1')::float8,
       (v.feature_vector ->> 'number_2')::float8,
       (v.feature_vector ->> 'number_3')::float8,
       (v.feature_vector ->> 'number_4')::float8,
       (v.feature_vector ->> 'number_5')::float8,
       (v.feature_vector ->> 'number_6')::float8,
       (v.feature_vector ->> 'number_7')::float8,
       (v.feature_vector ->> 'number_8')::float8,
       (v.feature_vector ->> 'number_9')::float8,
       (v.feature_vector ->> 'hour')::float8,
       v.feature_vector ->> 'carrier',
       v.feature_vector ->> 'aircraft'
FROM platform.labels l
JOIN platform.features v USING (entity_id, event_time)
WHERE l.use_case = 'bench' AND l.region = 'north'
ORDER BY l.event_time, l.entity_id
) TO STDOUT (FORMAT binary)

-- name: aggregate
SELECT count(*),
       max((v.feature_vector ->> 'number_0')::float8),
       max((v.feature_vector ->> 'number_1')::float8),
       max((v.feature_vector ->> 'number_2')::float8),
       max((v.feature_vector ->> 'number_3')::float8),
       max((v.feature_vector ->> 'number_4')::float8),
       max((v.feature_vector ->> 'number_5')::float8),
       max((v.feature_vector ->> 'number_6')::float8),
       max((v.feature_vector ->> 'number_7')::float8),
       max((v.feature_vector ->> 'number_8')::float8),
       max((v.feature_vector ->> 'number_9')::float8),
       max((v.feature_vector ->> 'hour')::float8),
       max(v.feature_vector ->> 'carrier'),
       max(v.feature_vector ->> 'aircraft')
FROM platform.labels l
JOIN platform.features v USING (entity_id, event_time)
WHERE l.use_case = %(use_case)s
