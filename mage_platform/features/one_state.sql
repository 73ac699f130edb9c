-- Several connections that read one state of the store.

-- name: one_state
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: export_state
SELECT pg_export_snapshot()

-- name: import_state
SET TRANSACTION SNAPSHOT {state}
