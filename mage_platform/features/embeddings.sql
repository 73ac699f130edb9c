-- Embeddings beside their vectors. {extension} is the schema in which pgvector lies: a role need not have it on its
-- search path.

-- name: extension
-- Where pgvector lies, whether it can go on searching past what a filter refuses (since 0.8), and whether the
-- column is there.
SELECT n.nspname, string_to_array(e.extversion, '.')::int[] >= '{0,8}', EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = 'platform.features'::regclass AND attname = 'embedding' AND NOT attisdropped
)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'

-- name: stage
CREATE TEMPORARY TABLE staged_embeddings (
    entity_id uuid NOT NULL, event_time timestamptz NOT NULL, embedding {extension}.vector({dimensions}) NOT NULL
) ON COMMIT DROP

-- name: copy_staged
COPY staged_embeddings (entity_id, event_time, embedding) FROM STDIN (FORMAT BINARY)

-- name: analyze_staged
-- Statistics of the embeddings themselves serve nobody.
ANALYZE staged_embeddings (entity_id, event_time)

-- name: write_embeddings
-- Nothing but the embedding is set, so that neither a revision nor a new time of ingest comes of it; an embedding
-- that is there already, unchanged, is not written again. Both counts are of one state of the store.
WITH written AS (
    UPDATE platform.features f SET embedding = s.embedding
    FROM staged_embeddings s
    WHERE f.entity_id = s.entity_id AND f.event_time = s.event_time AND f.use_case = {use_case}
      AND (f.embedding IS NULL OR f.embedding OPERATOR({extension}.<>) s.embedding)
    RETURNING 1
)
SELECT (
    SELECT count(*) FROM staged_embeddings s
    JOIN platform.features f ON f.entity_id = s.entity_id AND f.event_time = s.event_time
    WHERE f.use_case = {use_case}
), (SELECT count(*) FROM written)

-- name: count_changes
SELECT (
    SELECT count(*) FROM staged_embeddings s
    JOIN platform.features f ON f.entity_id = s.entity_id AND f.event_time = s.event_time
    WHERE f.use_case = {use_case} AND (f.embedding IS NULL OR f.embedding OPERATOR({extension}.<>) s.embedding)
), (SELECT count(embedding) FROM platform.features)

-- name: drop_staged
-- Embeddings may be stored twice in one transaction.
DROP TABLE staged_embeddings

-- name: newest_embedding
SELECT use_case, event_time, embedding::text FROM platform.features
WHERE entity_id = %(entity_id)s
ORDER BY embedding IS NULL, event_time DESC LIMIT 1

-- name: search_on
-- For this transaction: visit at least this many candidates, and where pgvector can, go on in the order of distance
-- until enough of them pass the filters.
SELECT set_config('hnsw.ef_search', %(candidates)s::text, true),
       CASE WHEN %(iterative)s THEN set_config('hnsw.iterative_scan', 'strict_order', true) END

-- name: neighbours
-- The filters run within the scan of the index, in the order of distance. An entity counts once, with its newest
-- embedding.
SELECT f.entity_id, f.region, f.event_time, f.embedding OPERATOR({extension}.<=>) {probe} AS distance
FROM platform.features f
WHERE f.use_case = {use_case} AND f.entity_id <> {entity_id} AND f.embedding IS NOT NULL
  AND f.event_time = (
      SELECT max(n.event_time) FROM platform.features n
      WHERE n.entity_id = f.entity_id AND n.embedding IS NOT NULL
  )
ORDER BY f.embedding OPERATOR({extension}.<=>) {probe}
LIMIT {k}

-- name: neighbours_of_all
-- Compares with every entity: when the index gives up before it has found enough.
SELECT entity_id, region, event_time, embedding OPERATOR({extension}.<=>) {probe} AS distance
FROM (
    SELECT DISTINCT ON (entity_id) entity_id, region, event_time, embedding FROM platform.features
    WHERE use_case = {use_case} AND entity_id <> {entity_id} AND embedding IS NOT NULL
    ORDER BY entity_id, event_time DESC
) newest
ORDER BY distance, entity_id
LIMIT {k}
