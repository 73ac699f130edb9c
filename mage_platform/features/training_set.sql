-- Reading labelled vectors for training.

-- name: labelled_rows_by_region
-- Labels not known at the end of the window do not count: a training then could not have used them.
SELECT region, count(*) FROM platform.labels
WHERE use_case = %(use_case)s AND known_at <= %(until)s
  AND event_time < %(until)s AND (%(from)s::timestamptz IS NULL OR event_time >= %(from)s)
GROUP BY region ORDER BY region

-- name: training_set
-- To each label the newest vector that was true by the label's event time: one index probe a label, where a join
-- on the whole history would sort it. {columns} is the typed projection of the vector; a null region takes all.
SELECT uuid_send(l.entity_id) AS "_entity_id", l.event_time AS "_event_time", l.region AS "_region",
       l.known_at AS "_known_at", {label} AS "_label", {columns}
FROM platform.labels l
CROSS JOIN LATERAL (
    SELECT feature_vector FROM platform.features f
    WHERE f.entity_id = l.entity_id AND f.event_time <= l.event_time AND f.use_case = l.use_case
    ORDER BY f.event_time DESC LIMIT 1
) v
WHERE l.use_case = {use_case} AND ({region}::text IS NULL OR l.region = {region}) AND l.known_at <= {until}
  AND l.event_time < {until} AND l.event_time >= {from}
ORDER BY l.event_time, l.entity_id
