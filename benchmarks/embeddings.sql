-- The floor of the benchmark of embeddings: a plain table.

-- name: make_floor
CREATE TABLE platform.floor_embeddings (entity_id uuid, event_time timestamptz, embedding vector(768))

-- name: copy_floor
COPY platform.floor_embeddings FROM STDIN (FORMAT BINARY)

-- name: drop_floor
DROP TABLE platform.floor_embeddings
