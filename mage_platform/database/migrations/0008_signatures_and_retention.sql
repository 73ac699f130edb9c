-- Who vouches for a version: a signature over its digests and its name, and the id of the key that made it. Versions
-- from before have none, and are refused until `mage-platform models sign` has checked and signed them.
ALTER TABLE platform.model_versions
    ADD COLUMN signature text,
    ADD COLUMN signed_by text,
    ADD CONSTRAINT signature_with_key CHECK ((signature IS NULL) = (signed_by IS NULL));

-- Retention drops the bytes of an artifact that no kept version refers to. Its row stays, so that the version that
-- refers to it, and the history of its aliases, can be read for ever.
ALTER TABLE platform.artifacts ADD COLUMN dropped_at timestamptz;
