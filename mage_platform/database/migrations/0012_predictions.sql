-- What was predicted: one row for each answered prediction, so that it can be held against what really happened.
-- Written in batches; `batch` and `number` are the writer's own, so that a batch sent twice is kept once. Not
-- partitioned: rows come at one end and leave at the other, and no query reads them all.
CREATE TABLE platform.predictions (
    batch          uuid        NOT NULL,
    number         integer     NOT NULL,
    asked_at       timestamptz NOT NULL,
    request_id     text        NOT NULL,
    use_case       text        NOT NULL,
    region         text        NOT NULL,
    model_region   text        NOT NULL,
    version        integer     NOT NULL,
    variant        text        NOT NULL,
    entity_id      uuid        NOT NULL,
    event_time     timestamptz,
    feature_vector jsonb       NOT NULL CHECK (jsonb_typeof(feature_vector) = 'object'),
    prediction     jsonb       NOT NULL,
    probabilities  jsonb,
    cached         boolean     NOT NULL,
    fallback       boolean     NOT NULL GENERATED ALWAYS AS (region <> model_region) STORED,
    PRIMARY KEY (batch, number)
);

COMMENT ON COLUMN platform.predictions.region IS 'of the request; model_region is * where the pooled model answered';
COMMENT ON COLUMN platform.predictions.event_time IS
    'of the stored vector, else what the request named; null when it named none';

-- To join with the labels, which are known by entity, and to show what an entity was told.
CREATE INDEX predictions_by_entity ON platform.predictions (entity_id, asked_at);
-- For windows of time and for retention. Rows arrive in the order of time, so a thousandth of a b-tree's size does.
CREATE INDEX predictions_by_time ON platform.predictions USING brin (asked_at) WITH (autosummarize = on);
