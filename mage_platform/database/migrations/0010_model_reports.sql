-- One report for each version: the document, and the page as it was rendered from it. Whoever shows the page needs
-- neither the templates nor what renders them.
CREATE TABLE platform.model_reports (
    use_case   text        NOT NULL,
    region     text        NOT NULL,
    version    integer     NOT NULL,
    document   jsonb       NOT NULL CHECK (jsonb_typeof(document) = 'object'),
    page       text        NOT NULL,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (use_case, region, version),
    FOREIGN KEY (use_case, region, version) REFERENCES platform.model_versions
);
