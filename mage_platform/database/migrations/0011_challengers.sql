-- How the version under the alias `challenger` takes part in a region: as canary it answers a share of the entities, as
-- shadow it scores them beside the champion. It ends with its alias.
CREATE TABLE platform.challengers (
    use_case text             NOT NULL,
    region   text             NOT NULL,
    alias    text             NOT NULL DEFAULT 'challenger' CHECK (alias = 'challenger'),
    mode     text             NOT NULL CHECK (mode IN ('canary', 'shadow')),
    share    double precision NOT NULL CHECK (share > 0 AND share <= 1),
    since    timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (use_case, region),
    FOREIGN KEY (use_case, region, alias) REFERENCES platform.model_aliases ON DELETE CASCADE
);

-- Every change, kept for ever: a start, another share or mode, and the end, which has neither.
CREATE TABLE platform.challenger_history (
    change_id  bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    use_case   text             NOT NULL,
    region     text             NOT NULL,
    version    integer          NOT NULL,
    mode       text,
    share      double precision,
    changed_at timestamptz      NOT NULL DEFAULT now(),
    changed_by text             NOT NULL,
    reason     text             NOT NULL,
    FOREIGN KEY (use_case, region, version) REFERENCES platform.model_versions
);
