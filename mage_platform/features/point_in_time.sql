-- To each label the vector that held at the label's moment. docs/feature_store.md has the rules.

-- name: stage_labels
-- Lives for the transaction, which is all that PgBouncer keeps.
CREATE TEMPORARY TABLE asked (label integer, entity_id uuid, moment timestamptz) ON COMMIT DROP

-- name: copy_labels
COPY asked (label, entity_id, moment) FROM STDIN (FORMAT binary)

-- name: clear_labels
TRUNCATE asked

-- name: in_columns
-- One row that holds each column whole, as an array: a tenth of the client's work that a hundred thousand rows are.
-- OFFSET 0 keeps the planner from taking a value out of its vector once for each use of it.
SELECT array_agg(label), array_agg(coalesce(event_time, '-infinity')), {columns}
FROM ({vectors} OFFSET 0) found

-- name: as_of_now
-- One step down one index a label, where a join on the whole history would sort it. {values} is the typed projection
-- of the vector.
SELECT a.label, v.event_time, {values}
FROM asked a
LEFT JOIN LATERAL (
    SELECT f.event_time, f.feature_vector FROM platform.features f
    WHERE f.entity_id = a.entity_id AND f.event_time <= a.moment AND f.event_time >= {oldest}
      AND f.use_case = {use_case}
    ORDER BY f.event_time DESC LIMIT 1
) v ON true

-- name: as_known_then
-- The same among the revisions that were stored and not yet superseded at the label's moment: the present one and its
-- predecessors. Of two that overlap, because one was removed and written again within a transaction, the later counts.
SELECT a.label, v.event_time, {values}
FROM asked a
LEFT JOIN LATERAL (
    SELECT event_time, feature_vector FROM (
        (SELECT f.event_time, f.feature_vector, f.ingested_at FROM platform.features f
         WHERE f.entity_id = a.entity_id AND f.event_time <= a.moment AND f.event_time >= {oldest}
           AND f.use_case = {use_case} AND f.ingested_at <= a.moment
         ORDER BY f.event_time DESC LIMIT 1)
        UNION ALL
        (SELECT r.event_time, r.feature_vector, r.ingested_at FROM platform.feature_revisions r
         WHERE r.entity_id = a.entity_id AND r.event_time <= a.moment AND r.event_time >= {oldest}
           AND r.use_case = {use_case} AND r.ingested_at <= a.moment AND r.superseded_at > a.moment
         ORDER BY r.event_time DESC, r.ingested_at DESC LIMIT 1)
    ) known
    ORDER BY event_time DESC, ingested_at DESC LIMIT 1
) v ON true
