-- Reading labelled vectors for training.

-- name: labelled_rows_by_region
-- Labels not known at the end of the window do not count: a training then could not have used them.
SELECT region, count(*) FROM platform.labels
WHERE use_case = %(use_case)s AND known_at <= %(until)s
  AND event_time < %(until)s AND (%(from)s::timestamptz IS NULL OR event_time >= %(from)s)
GROUP BY region ORDER BY region

-- name: sample_labels
-- One in a hundred: enough to know where to cut.
SELECT event_time, entity_id FROM platform.labels
WHERE use_case = {use_case} AND ({region}::text IS NULL OR region = {region})
  AND event_time >= {start} AND event_time < {until} AND random() < 0.01
ORDER BY event_time, entity_id

-- name: partitions
-- Each partition of the labels with that of the vectors that holds the same entities; all vectors, where none does.
SELECT l.relname, coalesce(f.relname, 'features')
FROM pg_inherits li
JOIN pg_class l ON l.oid = li.inhrelid
LEFT JOIN (pg_inherits fi JOIN pg_class f ON f.oid = fi.inhrelid)
    ON fi.inhparent = 'platform.features'::regclass
   AND pg_get_expr(f.relpartbound, f.oid) = pg_get_expr(l.relpartbound, l.oid)
WHERE li.inhparent = 'platform.labels'::regclass
ORDER BY l.relname

-- name: plan_for_many
-- Groups are streamed, never hashed, because each holds a whole batch; connections work side by side already.
SET LOCAL enable_hashagg = off;
SET LOCAL hash_mem_multiplier = 8;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off

-- name: labelled_vectors
-- To each label of a partition the newest vector that was true by the label's event time. Nearly always that is a
-- vector of the very same moment, found by one join in whatever order rows lie; only a label without one steps down
-- the key by itself. OFFSET 0 keeps what is wanted of all this (an order, labels known in time, of which the planner
-- guesses a third) from choosing the join. A region of null takes all; of the training part a share of the entities can
-- be asked for.
(SELECT l.event_time, l.entity_id, l.known_at, l.label, l.region, coalesce(e.feature_vector, (
    SELECT f.feature_vector FROM {features} f
    WHERE f.entity_id = l.entity_id AND f.event_time <= l.event_time AND f.use_case = l.use_case
    ORDER BY f.event_time DESC LIMIT 1
 )) AS feature_vector
 FROM {labels} l
 LEFT JOIN {features} e ON e.entity_id = l.entity_id AND e.event_time = l.event_time AND e.use_case = l.use_case
 WHERE l.use_case = {use_case} AND ({region}::text IS NULL OR l.region = {region})
   AND l.event_time >= {start} AND l.event_time < {until}
   AND ({share}::float8 >= 1 OR l.event_time >= {train_until}
        OR (hashtextextended(l.entity_id::text, 20) & 1048575) < {share} * 1048576)
 OFFSET 0)

-- name: training_batches
-- A row of the answer is a batch, each column whole as an array: a tenth of the client's work that its rows would be.
-- {cuts} are the moments between batches; the crowded ones, which alone hold more than a batch, are cut by entity.
-- OFFSET 0 keeps the planner from taking a value out of its vector once for each use of it.
COPY (
    SELECT batch, piece, array_agg(event_time), array_agg(entity_id), array_agg(coalesce(octet_length(label), -1)),
           string_agg(label, ''), {columns}
    FROM (
        SELECT width_bucket(v.event_time, {cuts}::timestamptz[]) AS batch,
               CASE WHEN v.event_time = ANY ({crowded}::timestamptz[])
                    THEN width_bucket(v.entity_id, {entity_cuts}::uuid[]) ELSE 0 END AS piece,
               v.event_time, v.entity_id, v.label #>> '{{}}' AS label, {values}
        FROM ({labelled}) v
        WHERE v.feature_vector IS NOT NULL
          AND v.known_at <= ({ends}::timestamptz[])[1 + width_bucket(v.event_time, {ends}::timestamptz[])]
        OFFSET 0
    ) found
    GROUP BY batch, piece ORDER BY batch, piece
) TO STDOUT (FORMAT binary)
