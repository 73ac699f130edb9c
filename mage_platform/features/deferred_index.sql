-- Queries that take an index of the feature vectors away for a large load, and make it anew without stopping readers.

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

-- name: state
-- Whether it is whole, and what declares it on the parent only: invalid until every partition has its part, which is
-- how an unfinished load is recognised.
SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indexrelid = to_regclass(format('platform.%%I', %(index)s::text))

-- name: drop_index
DROP INDEX platform.{index}

-- name: partitions_without_part
-- Each with the name its part will have, with what an interrupted attempt may have left under that name, and with what
-- makes it.
SELECT p.relname, n.part, l.indexrelid IS NOT NULL, coalesce(l.indisvalid, false),
       format('CREATE INDEX %%s %%I ON platform.%%I USING %%s', %(how)s::text, n.part, p.relname,
              split_part(pg_get_indexdef(w.oid), ' USING ', 2))
FROM to_regclass(format('platform.%%I', %(index)s::text)) AS w (oid)
CROSS JOIN pg_inherits h
JOIN pg_class p ON p.oid = h.inhrelid
CROSS JOIN LATERAL (SELECT format('%%s_%%s_idx', p.relname, %(column)s::text)) AS n (part)
LEFT JOIN pg_index l ON l.indrelid = p.oid AND l.indexrelid = to_regclass(format('platform.%%I', n.part))
WHERE w.oid IS NOT NULL AND h.inhparent = to_regclass('platform.features')
  AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
    WHERE i.indrelid = p.oid AND i.indisvalid AND a.inhparent = w.oid
)
ORDER BY p.relname

-- name: drop_leftover
DROP INDEX CONCURRENTLY IF EXISTS platform.{part}

-- name: count_values
SELECT count({column}) FROM platform.{partition}

-- name: set_memory
-- For this transaction, and never less than the server has; without workers, no shared memory is asked for.
SELECT set_config('maintenance_work_mem', greatest(
           %(kibibytes)s, pg_size_bytes(current_setting('maintenance_work_mem')) / 1024) || 'kB', true),
       CASE WHEN NOT %(workers)s THEN set_config('max_parallel_maintenance_workers', '0', true) END

-- name: attach_part
ALTER INDEX platform.{index} ATTACH PARTITION platform.{part}
