-- What the values of one feature look like in one window of event time (half open; -infinity and infinity where the
-- window has no bound), of one region, or of all where region is null.
CREATE TABLE platform.feature_statistics (
    use_case     text        NOT NULL,
    region       text,
    feature      text        NOT NULL,
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    statistics   jsonb       NOT NULL CHECK (jsonb_typeof(statistics) = 'object'),
    computed_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (window_start < window_end),
    UNIQUE NULLS NOT DISTINCT (use_case, region, feature, window_start, window_end)
);
