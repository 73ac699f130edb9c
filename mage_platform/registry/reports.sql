-- Queries of the reports. Parameters are psycopg's named ones.

-- name: store_report
-- A version that is decided on again, against a newer champion, gets its report anew.
INSERT INTO platform.model_reports (use_case, region, version, document, page, written_at)
VALUES (%(use_case)s, %(region)s, %(version)s, %(document)s, %(page)s, %(written_at)s)
ON CONFLICT (use_case, region, version)
DO UPDATE SET document = excluded.document, page = excluded.page, written_at = excluded.written_at

-- name: report_page
SELECT page FROM platform.model_reports
WHERE use_case = %(use_case)s AND region = %(region)s AND version = %(version)s

-- name: report_document
-- As text: whoever asks for JSON gets it as it is kept.
SELECT document::text FROM platform.model_reports
WHERE use_case = %(use_case)s AND region = %(region)s AND version = %(version)s
