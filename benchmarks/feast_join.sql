-- The vectors as Feast's PostgreSQL offline store wants them, and the labels in a table for Feast at its best.

-- name: make_tables
CREATE SCHEMA feast;
CREATE TABLE feast.vectors (
    entity_id text, event_timestamp timestamptz, created_timestamp timestamptz,
    number_0 float8, number_1 float8, number_2 float8, number_3 float8, number_4 float8,
    number_5 float8, number_6 float8, number_7 float8, number_8 float8, number_9 float8,
    hour bigint, carrier text, aircraft text
);
CREATE TABLE feast.labels ("row" bigint, entity_id text, event_timestamp timestamptz)

-- name: add_key
-- Feast asks for no index; its query gets the same key as ours.
ALTER TABLE feast.vectors ADD PRIMARY KEY (entity_id, event_timestamp)

-- name: settle
-- Settles what the loads left behind in both stores.
VACUUM (ANALYZE) feast.vectors, feast.labels, platform.features

-- name: labels_query
SELECT "row", entity_id, event_timestamp FROM feast.labels
