-- Queries that take the index on the vectors away for a large load, and make it anew without stopping readers.
-- Braces are names of partitions and their indexes, quoted by the caller.

-- name: begin_load
-- One at a time. The lock belongs to the transaction, so PgBouncer can carry it, and is freed by any death. It is
-- asked for and never waited for: a statement that waits holds a snapshot, for which CREATE INDEX CONCURRENTLY would
-- wait in turn.
SELECT pg_try_advisory_xact_lock(7420911301)

-- name: stay_while_loading
-- The transaction that holds the lock does nothing else, for as long as the load takes.
SET LOCAL idle_in_transaction_session_timeout = 0

-- name: wait_briefly
-- Readers queue behind a lock that waits: better give up soon and try again.
SET LOCAL lock_timeout = '500ms'

-- name: drop_index
DROP INDEX IF EXISTS platform.idx_features_vector_gin

-- name: declare_index
-- On the parent only: invalid until every partition has its part, which is how an unfinished load is recognised.
CREATE INDEX idx_features_vector_gin ON ONLY platform.features
    USING GIN (feature_vector jsonb_path_ops) WITH (fastupdate = on, gin_pending_list_limit = 65536)

-- name: state_of_index
SELECT i.indisvalid
FROM pg_index i
WHERE i.indexrelid = to_regclass('platform.idx_features_vector_gin')

-- name: partitions_without_index
-- Each with what an interrupted attempt may have left under the name its index will have.
SELECT p.relname, p.relname || '_feature_vector_idx', l.indexrelid IS NOT NULL, coalesce(l.indisvalid, false)
FROM pg_inherits h
JOIN pg_class p ON p.oid = h.inhrelid
LEFT JOIN pg_index l ON l.indrelid = p.oid
    AND l.indexrelid = to_regclass(format('platform.%I', p.relname || '_feature_vector_idx'))
WHERE h.inhparent = to_regclass('platform.features')
  AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
    WHERE i.indrelid = p.oid AND i.indisvalid AND a.inhparent = to_regclass('platform.idx_features_vector_gin')
)
ORDER BY p.relname

-- name: drop_leftover
DROP INDEX CONCURRENTLY IF EXISTS platform.{index}

-- name: build_part
CREATE INDEX CONCURRENTLY {index} ON platform.{partition}
    USING GIN (feature_vector jsonb_path_ops) WITH (fastupdate = on, gin_pending_list_limit = 65536)

-- name: attach_part
ALTER INDEX platform.idx_features_vector_gin ATTACH PARTITION platform.{index}
