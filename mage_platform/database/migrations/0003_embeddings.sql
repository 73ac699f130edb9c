-- Embeddings lie beside their vectors, where the server offers pgvector. Whether it does is asked at every start, since
-- a server may get the extension later: this function is called after the migrations, each time, and changes nothing
-- once the column and its index are there. Whatever it cannot do, it leaves everything else as it is.
CREATE FUNCTION platform.offer_embeddings() RETURNS boolean LANGUAGE plpgsql AS
$$
DECLARE
    extension_schema text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
            RETURN false;
        END IF;
        BEGIN
            CREATE EXTENSION vector SCHEMA public;
        EXCEPTION WHEN OTHERS THEN -- most often the role may not create extensions: a superuser has to
            RAISE NOTICE 'pgvector is offered but cannot be created: %', SQLERRM;
            RETURN false;
        END;
    END IF;
    SELECT n.nspname INTO extension_schema
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';

    -- asked first, because even ADD COLUMN IF NOT EXISTS locks readers out
    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'platform.features'::regclass AND attname = 'embedding' AND NOT attisdropped
    ) THEN
        EXECUTE format('ALTER TABLE platform.features ADD COLUMN embedding %I.vector(768)', extension_schema);
    END IF;
    -- pgvector has HNSW since 0.5; without it the nearest are found by comparing with all
    IF to_regclass('platform.features_by_embedding') IS NULL AND EXISTS (SELECT FROM pg_am WHERE amname = 'hnsw') THEN
        EXECUTE format(
            'CREATE INDEX features_by_embedding ON platform.features USING hnsw (embedding %I.vector_cosine_ops)',
            extension_schema
        );
    END IF;
    RETURN true;
END
$$;
