-- What an ingest left in its window (half open; -infinity and infinity where the window has no bound), of one region,
-- or of all where region is null. Beside the statistics of the features, which have the same keys.
CREATE TABLE platform.described_windows (
    use_case     text        NOT NULL,
    region       text,
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    vectors      bigint      NOT NULL,
    labels       bigint      NOT NULL,
    positives    bigint      CHECK (positives BETWEEN 0 AND labels), -- null where labels are no yes and no
    described_at timestamptz NOT NULL,
    CHECK (window_start < window_end),
    UNIQUE NULLS NOT DISTINCT (use_case, region, window_start, window_end)
);
