-- Statistics of features, computed where the vectors lie. {values} is one typed projection of the vector for each
-- feature; a feature is known by its position (from 1) among them, since numbers group faster than names.

-- name: numbers
-- Each value is counted first, in one scan: features repeat their values, so that all the rest (quantiles by rank,
-- distinct values, histogram) works on little. Quantile p of n values lies at rank p * (n - 1), counted from 0,
-- interpolated between the values at the ranks below and above.
WITH counted AS (
    SELECT u.position, u.value, count(*) AS n
    FROM platform.features v
    CROSS JOIN LATERAL unnest(ARRAY[{values}]) WITH ORDINALITY u (value, position)
    WHERE v.use_case = {use_case} AND ({region}::text IS NULL OR v.region = {region})
      AND v.event_time >= {start}::timestamptz AND v.event_time < {end}::timestamptz
    GROUP BY u.position, u.value
), summed AS (
    SELECT position, sum(n)::bigint AS count, coalesce(sum(n) FILTER (WHERE value IS NULL), 0)::bigint AS missing,
           (sum(n) FILTER (WHERE value IS NOT NULL))::float8 AS present, count(value) AS distinct_values,
           min(value) AS minimum, max(value) AS maximum, sum(value * n) AS total
    FROM counted
    GROUP BY position
), ranked AS (
    SELECT position, value, n, sum(n) OVER (PARTITION BY position ORDER BY value) AS next_rank
    FROM counted
    WHERE value IS NOT NULL
), shares AS (
    SELECT s.position, q.share, q.share * (s.present - 1) AS rank
    FROM summed s CROSS JOIN unnest({shares}::float8[]) q (share)
), neighbours AS (
    SELECT s.position, s.share, s.rank,
           min(r.value) FILTER (WHERE r.next_rank > floor(s.rank)) AS below,
           min(r.value) FILTER (WHERE r.next_rank > ceil(s.rank)) AS above
    FROM shares s JOIN ranked r USING (position)
    GROUP BY s.position, s.share, s.rank
), quantiles AS (
    SELECT position, jsonb_object_agg(share::text, below + (above - below) * (rank - floor(rank))) AS by_share
    FROM neighbours
    GROUP BY position
), edges AS (
    SELECT position, ARRAY(
        SELECT minimum + i * ((maximum - minimum) / {bins}) FROM generate_series(0, {bins} - 1) i ORDER BY i
    ) AS lower, maximum
    FROM summed
    WHERE minimum < maximum
), bins AS (
    SELECT r.position, width_bucket(r.value, e.lower) AS bin, sum(r.n) AS n
    FROM ranked r JOIN edges e USING (position)
    GROUP BY 1, 2
), histograms AS (
    SELECT e.position, e.lower || e.maximum AS edges, array_agg(coalesce(b.n, 0)::bigint ORDER BY i) AS counts
    FROM edges e CROSS JOIN generate_series(1, {bins}) i LEFT JOIN bins b ON b.position = e.position AND b.bin = i
    GROUP BY e.position, e.lower, e.maximum
)
SELECT s.position, s.count, s.missing, s.distinct_values, s.minimum, s.maximum, s.total / s.present,
       coalesce(q.by_share, '{{}}'),
       CASE WHEN s.minimum = s.maximum THEN ARRAY[s.minimum, s.maximum] ELSE coalesce(h.edges, '{{}}') END,
       CASE WHEN s.minimum = s.maximum THEN ARRAY[s.present::bigint] ELSE coalesce(h.counts, '{{}}') END
FROM summed s LEFT JOIN quantiles q USING (position) LEFT JOIN histograms h USING (position)

-- name: levels
WITH counted AS (
    SELECT u.position, u.level, count(*) AS n
    FROM platform.features v
    CROSS JOIN LATERAL unnest(ARRAY[{values}]) WITH ORDINALITY u (level, position)
    WHERE v.use_case = {use_case} AND ({region}::text IS NULL OR v.region = {region})
      AND v.event_time >= {start}::timestamptz AND v.event_time < {end}::timestamptz
    GROUP BY u.position, u.level
), placed AS (
    SELECT position, level, n,
           row_number() OVER (PARTITION BY position ORDER BY level IS NULL, n DESC, level COLLATE "C") AS place
    FROM counted
)
SELECT position, sum(n)::bigint, coalesce(sum(n) FILTER (WHERE level IS NULL), 0)::bigint, count(level),
       coalesce(
           jsonb_agg(jsonb_build_object('level', level, 'count', n) ORDER BY place)
               FILTER (WHERE level IS NOT NULL AND place <= {most}),
           '[]'
       )
FROM placed
GROUP BY position

-- name: store
INSERT INTO platform.feature_statistics (use_case, region, feature, window_start, window_end, statistics, computed_at)
VALUES (%(use_case)s, %(region)s, %(feature)s, %(start)s, %(end)s, %(statistics)s, %(computed_at)s)
ON CONFLICT (use_case, region, feature, window_start, window_end)
DO UPDATE SET statistics = excluded.statistics, computed_at = excluded.computed_at

-- name: stored
SELECT feature, statistics, computed_at FROM platform.feature_statistics
WHERE use_case = %(use_case)s AND region IS NOT DISTINCT FROM %(region)s::text AND feature = ANY(%(features)s)
  AND window_start = %(start)s::timestamptz AND window_end = %(end)s::timestamptz
