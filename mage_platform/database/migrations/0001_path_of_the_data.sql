-- The tables of the path: features and labels, what validation refused, models and who is champion.

-- The registry's required pattern, hash partitioned so that writes spread (range partitions make hot spots).
CREATE TABLE platform.features (
    entity_id      uuid        NOT NULL,
    event_time     timestamptz NOT NULL,
    feature_vector jsonb       NOT NULL CHECK (jsonb_typeof(feature_vector) = 'object'),
    use_case       text        NOT NULL,
    region         text        NOT NULL,
    ingested_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (entity_id, event_time)
) PARTITION BY HASH (entity_id);

CREATE TABLE platform.features_0 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE platform.features_1 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE platform.features_2 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE platform.features_3 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE platform.features_4 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE platform.features_5 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE platform.features_6 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE platform.features_7 PARTITION OF platform.features FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- jsonb_path_ops: a third of the write cost of the default class, and containment (@>) is what we ask. The large
-- pending list lets a bulk load append first and merge in bulk.
CREATE INDEX idx_features_vector_gin ON platform.features
    USING GIN (feature_vector jsonb_path_ops) WITH (fastupdate = on, gin_pending_list_limit = 65536);

-- What really happened, and since when it could be known.
CREATE TABLE platform.labels (
    entity_id  uuid        NOT NULL,
    event_time timestamptz NOT NULL,
    use_case   text        NOT NULL,
    region     text        NOT NULL,
    known_at   timestamptz NOT NULL,
    label      jsonb       NOT NULL,
    PRIMARY KEY (entity_id, event_time)
) PARTITION BY HASH (entity_id);

CREATE TABLE platform.labels_0 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE platform.labels_1 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE platform.labels_2 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE platform.labels_3 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE platform.labels_4 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE platform.labels_5 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE platform.labels_6 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE platform.labels_7 PARTITION OF platform.labels FOR VALUES WITH (MODULUS 8, REMAINDER 7);

CREATE INDEX labels_by_window ON platform.labels (use_case, region, event_time);

CREATE TABLE platform.validation_runs (
    run        text        NOT NULL,
    use_case   text        NOT NULL,
    report     jsonb       NOT NULL,
    started_at timestamptz NOT NULL,
    PRIMARY KEY (run, use_case)
);

-- Refused rows with all their reasons, kept for a re-drive. The digest of the row makes a repeated run add nothing.
CREATE TABLE platform.quarantine (
    quarantine_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    use_case      text        NOT NULL,
    run           text        NOT NULL,
    row_digest    bytea       NOT NULL,
    source_row    jsonb       NOT NULL,
    reasons       jsonb       NOT NULL,
    refused_at    timestamptz NOT NULL DEFAULT now(),
    redriven_at   timestamptz,
    UNIQUE (use_case, row_digest)
);

-- Content addressed by SHA-256 and kept in chunks, so that a registration is one transaction and the sidecar needs
-- no shared disk.
CREATE TABLE platform.artifacts (
    sha256     text        PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    kind       text        NOT NULL CHECK (kind IN ('mojo', 'genmodel')),
    bytes      bigint      NOT NULL CHECK (bytes > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE platform.artifact_chunks (
    sha256 text    NOT NULL REFERENCES platform.artifacts ON DELETE CASCADE,
    number integer NOT NULL,
    chunk  bytea   NOT NULL,
    PRIMARY KEY (sha256, number)
);
-- MOJOs are zip files already: compressing them again costs time and saves nothing.
ALTER TABLE platform.artifact_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;

CREATE TABLE platform.model_versions (
    use_case        text        NOT NULL,
    region          text        NOT NULL,
    version         integer     NOT NULL CHECK (version > 0),
    algorithm       text        NOT NULL,
    mojo_sha256     text        NOT NULL REFERENCES platform.artifacts,
    genmodel_sha256 text        NOT NULL REFERENCES platform.artifacts,
    run             text        NOT NULL,
    details         jsonb       NOT NULL,
    registered_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (use_case, region, version),
    UNIQUE (use_case, region, run)
);

CREATE TABLE platform.model_aliases (
    use_case text        NOT NULL,
    region   text        NOT NULL,
    alias    text        NOT NULL CHECK (alias IN ('champion', 'challenger')),
    version  integer     NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (use_case, region, alias),
    FOREIGN KEY (use_case, region, version) REFERENCES platform.model_versions
);

CREATE TABLE platform.alias_history (
    move_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    use_case     text        NOT NULL,
    region       text        NOT NULL,
    alias        text        NOT NULL,
    from_version integer,
    to_version   integer     NOT NULL,
    moved_at     timestamptz NOT NULL DEFAULT now(),
    moved_by     text        NOT NULL,
    reason       text        NOT NULL,
    FOREIGN KEY (use_case, region, to_version) REFERENCES platform.model_versions (use_case, region, version)
);
