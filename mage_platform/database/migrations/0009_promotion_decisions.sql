-- Every decision on a version, with the evaluation it rests on. A version that is held against a new champion later gets
-- another one.
CREATE TABLE platform.promotion_decisions (
    decision_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    use_case    text        NOT NULL,
    region      text        NOT NULL,
    version     integer     NOT NULL,
    decided_at  timestamptz NOT NULL,
    promoted    boolean     NOT NULL,
    decision    jsonb       NOT NULL CHECK (jsonb_typeof(decision) = 'object'),
    FOREIGN KEY (use_case, region, version) REFERENCES platform.model_versions
);

CREATE INDEX promotion_decisions_by_version ON platform.promotion_decisions (use_case, region, version, decision_id);
