-- What lies in a window of event time, of all regions together and of each.

-- name: count_labels
-- The row whose region is null counts all regions.
SELECT region, count(*), count(*) FILTER (WHERE label = '1')
FROM platform.labels
WHERE use_case = %(use_case)s AND event_time >= %(start)s::timestamptz AND event_time < %(end)s::timestamptz
GROUP BY GROUPING SETS ((region), ())

-- name: store
INSERT INTO platform.described_windows
    (use_case, region, window_start, window_end, vectors, labels, positives, described_at)
VALUES (%(use_case)s, %(region)s, %(start)s, %(end)s, %(vectors)s, %(labels)s, %(positives)s, %(described_at)s)
ON CONFLICT (use_case, region, window_start, window_end) DO UPDATE
    SET vectors = excluded.vectors, labels = excluded.labels, positives = excluded.positives,
        described_at = excluded.described_at

-- name: forget_regions
-- A region that has no vector in the window any more has nothing to be described.
WITH gone AS (
    DELETE FROM platform.described_windows
    WHERE use_case = %(use_case)s AND window_start = %(start)s::timestamptz AND window_end = %(end)s::timestamptz
      AND region IS NOT NULL AND region <> ALL(%(regions)s)
)
DELETE FROM platform.feature_statistics
WHERE use_case = %(use_case)s AND window_start = %(start)s::timestamptz AND window_end = %(end)s::timestamptz
  AND region IS NOT NULL AND region <> ALL(%(regions)s)

-- name: newest
-- All regions first, then each by its name.
SELECT region, nullif(window_start, '-infinity'), nullif(window_end, 'infinity'), vectors, labels, positives,
       described_at
FROM platform.described_windows
WHERE use_case = %(use_case)s AND (window_start, window_end) = (
    SELECT window_start, window_end FROM platform.described_windows
    WHERE use_case = %(use_case)s ORDER BY described_at DESC LIMIT 1
)
ORDER BY region NULLS FIRST
