-- The index on the vectors, for a database from which it was taken altogether.

-- name: declare_index
-- On the parent only: invalid until every partition has its part.
CREATE INDEX idx_features_vector_gin ON ONLY platform.features
    USING GIN (feature_vector jsonb_path_ops) WITH (fastupdate = on, gin_pending_list_limit = 65536)
