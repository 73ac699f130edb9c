-- Queries of validation reports and quarantine.

-- name: record_report
INSERT INTO platform.validation_runs (run, use_case, report, started_at)
VALUES (%(run)s, %(use_case)s, %(report)s, %(started_at)s)
ON CONFLICT (run, use_case) DO UPDATE SET report = excluded.report, started_at = excluded.started_at

-- name: add_refused
-- The same row refused again by a later run stays one entry, with its newest reasons.
INSERT INTO platform.quarantine (use_case, run, row_digest, source_row, reasons)
VALUES (%(use_case)s, %(run)s, sha256(convert_to(%(source_row)s::jsonb::text, 'UTF8')), %(source_row)s, %(reasons)s)
ON CONFLICT (use_case, row_digest) DO UPDATE SET run = excluded.run, reasons = excluded.reasons

-- name: list_refused
SELECT use_case, run, source_row, reasons, refused_at
FROM platform.quarantine
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(run)s::text IS NULL OR run = %(run)s)
  AND redriven_at IS NULL
ORDER BY quarantine_id DESC
LIMIT %(limit)s

-- name: count_refused
SELECT count(*) FROM platform.quarantine
WHERE (%(use_case)s::text IS NULL OR use_case = %(use_case)s)
  AND (%(run)s::text IS NULL OR run = %(run)s)
  AND redriven_at IS NULL

-- name: waiting_rows
SELECT quarantine_id, source_row FROM platform.quarantine
WHERE use_case = %(use_case)s AND redriven_at IS NULL
ORDER BY quarantine_id FOR UPDATE

-- name: mark_redriven
UPDATE platform.quarantine SET redriven_at = now() WHERE quarantine_id = ANY(%(numbers)s)

-- name: last_report
SELECT report FROM platform.validation_runs WHERE use_case = %(use_case)s ORDER BY started_at DESC LIMIT 1

-- name: report_of
SELECT report FROM platform.validation_runs WHERE use_case = %(use_case)s AND run = %(run)s
