-- What vectors were before they were corrected or removed, so that a training can see what was known at a moment.

-- A revision was the valid one from ingested_at (inclusive) to superseded_at (exclusive). The valid revision of now
-- lies in platform.features, its predecessors here; a vector that was never corrected has no row here.
CREATE TABLE platform.feature_revisions (
    entity_id      uuid        NOT NULL,
    event_time     timestamptz NOT NULL,
    feature_vector jsonb       NOT NULL CHECK (jsonb_typeof(feature_vector) = 'object'),
    use_case       text        NOT NULL,
    region         text        NOT NULL,
    ingested_at    timestamptz NOT NULL,
    superseded_at  timestamptz NOT NULL,
    PRIMARY KEY (entity_id, event_time, ingested_at)
) PARTITION BY HASH (entity_id);

CREATE TABLE platform.feature_revisions_0 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE platform.feature_revisions_1 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE platform.feature_revisions_2 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE platform.feature_revisions_3 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE platform.feature_revisions_4 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE platform.feature_revisions_5 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE platform.feature_revisions_6 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE platform.feature_revisions_7 PARTITION OF platform.feature_revisions
    FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- Keeps the old row and gives the new one the moment at which it took its place. The row is locked when this runs, so
-- OLD is its last committed state, whoever else writes; the microsecond keeps the moments in order where the clock
-- stands still or steps back. A row that was written and replaced within one transaction more than once may meet its
-- own key again: nobody else ever saw it, so the first one stays. Writing a vector again unchanged moves nothing: it
-- was known since it was first written.
CREATE FUNCTION platform.keep_feature_revision() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := greatest(clock_timestamp(), OLD.ingested_at + interval '1 microsecond');
BEGIN
    IF TG_OP = 'UPDATE'
       AND (OLD.feature_vector, OLD.region, OLD.use_case, OLD.entity_id, OLD.event_time)
           IS NOT DISTINCT FROM (NEW.feature_vector, NEW.region, NEW.use_case, NEW.entity_id, NEW.event_time) THEN
        NEW.ingested_at := OLD.ingested_at;
        RETURN NEW;
    END IF;
    INSERT INTO platform.feature_revisions
        (entity_id, event_time, feature_vector, use_case, region, ingested_at, superseded_at)
    VALUES
        (OLD.entity_id, OLD.event_time, OLD.feature_vector, OLD.use_case, OLD.region, OLD.ingested_at, moment)
    ON CONFLICT DO NOTHING;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.ingested_at := moment;
    RETURN NEW;
END
$$;

CREATE TRIGGER keep_revision BEFORE UPDATE OR DELETE ON platform.features FOR EACH ROW
    EXECUTE FUNCTION platform.keep_feature_revision();
