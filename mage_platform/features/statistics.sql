-- Statistics of features, computed where the vectors lie. {values} is one typed projection of the vector for each
-- feature; a feature is known by its position (from 1) among them, since numbers group faster than names. Each query
-- answers for all selected vectors together, under the region NULL, and where {by_region} for each region as well.

-- name: make_room
-- Hundreds of thousands of different values are grouped and ranked; in the default 4 MB they go to disk several times.
SET LOCAL work_mem = '64MB'

-- name: numbers
-- Each value is counted first, in one scan: features repeat their values. The counted values of a feature then lie
-- sorted in one array, and how many values there are up to each in another: what a quantile or an edge of the
-- histogram asks is a binary search (width_bucket: how many elements of a sorted array are not above a number). Counts
-- are float8, exact up to 2^53, because sums of bigint are numeric and slow.
-- Quantile p of n values lies at rank p * (n - 1), counted from 0, interpolated between the values at the ranks below
-- and above.
-- A part is a feature of a region, as a number that groups and sorts faster than two columns: {features} times the
-- place of the region among those that occur, plus the position of the feature; a region at place 0 stands for all.
WITH regions AS (
    SELECT array_agg(region) AS names FROM (
        SELECT DISTINCT v.region
        FROM platform.features v
        WHERE {by_region} AND v.use_case = {use_case}
          AND v.event_time >= {start}::timestamptz AND v.event_time < {end}::timestamptz
    ) d
), by_region AS (
    SELECT coalesce(v.place, 0) * {features} + u.position AS part, u.value, count(*)::float8 AS n
    FROM (
        SELECT array_position(coalesce((SELECT names FROM regions), '{{}}'), v.region) AS place,
               ARRAY[{values}] AS of_vector
        FROM platform.features v
        WHERE v.use_case = {use_case} AND ({region}::text IS NULL OR v.region = {region})
          AND v.event_time >= {start}::timestamptz AND v.event_time < {end}::timestamptz
        OFFSET 0  -- once a vector, not once a value
    ) v
    CROSS JOIN LATERAL unnest(v.of_vector) WITH ORDINALITY u (value, position)
    GROUP BY 1, 2
), counted AS (
    SELECT part, value, n FROM by_region
    UNION ALL
    SELECT (part - 1) % {features} + 1, value, sum(n) FROM by_region WHERE {by_region} GROUP BY 1, 2
), ranked AS (
    -- NULL sorts last: it is in nobody's rank
    SELECT part, value, n, sum(n) OVER (PARTITION BY part ORDER BY value ROWS UNBOUNDED PRECEDING) AS next_rank
    FROM counted
), summed AS (
    SELECT part, sum(n) AS vectors, sum(n) FILTER (WHERE value IS NULL) AS missing,
           sum(n) FILTER (WHERE value IS NOT NULL) AS present, min(value) AS minimum, max(value) AS maximum,
           sum(value * n) AS total,
           array_agg(value ORDER BY value) FILTER (WHERE value IS NOT NULL) AS sorted,
           array_agg(next_rank ORDER BY value) FILTER (WHERE value IS NOT NULL) AS next_ranks
    FROM ranked
    GROUP BY part
), quantiles AS (
    SELECT s.part,
           jsonb_object_agg(q.share::text, n.below + (n.above - n.below) * (r.rank - floor(r.rank))) AS by_share
    FROM summed s
    CROSS JOIN unnest({shares}::float8[]) q (share)
    CROSS JOIN LATERAL (SELECT q.share * (s.present - 1) AS rank) r
    CROSS JOIN LATERAL (
        SELECT s.sorted[1 + width_bucket(floor(r.rank), s.next_ranks)] AS below,
               s.sorted[1 + width_bucket(ceil(r.rank), s.next_ranks)] AS above
    ) n
    WHERE s.present > 0
    GROUP BY s.part
), edges AS (
    SELECT part, i, minimum + (i - 1) * ((maximum - minimum) / {bins}) AS lower
    FROM summed CROSS JOIN generate_series(1, {bins}) i
    WHERE minimum < maximum
), bins AS (
    -- the values not below the lower edge of each bin, less those not below that of the next
    SELECT s.part, e.i, e.lower, s.maximum, c.not_below - lead(c.not_below, 1, 0) OVER (
        PARTITION BY s.part ORDER BY e.i
    ) AS n
    FROM edges e
    JOIN summed s USING (part)
    CROSS JOIN LATERAL (SELECT width_bucket(e.lower, s.sorted) AS place) w
    CROSS JOIN LATERAL (
        SELECT s.present - coalesce(s.next_ranks[w.place - (s.sorted[w.place] = e.lower)::int], 0) AS not_below
    ) c
), histograms AS (
    SELECT part, array_agg(lower ORDER BY i) || max(maximum) AS edges, array_agg(n::bigint ORDER BY i) AS counts
    FROM bins
    GROUP BY part
)
SELECT r.names[(s.part - 1) / {features}], (s.part - 1) % {features} + 1, s.vectors::bigint,
       coalesce(s.missing, 0)::bigint, coalesce(cardinality(s.sorted), 0), s.minimum, s.maximum, s.total / s.present,
       coalesce(q.by_share, '{{}}'),
       CASE WHEN s.minimum = s.maximum THEN ARRAY[s.minimum, s.maximum] ELSE coalesce(h.edges, '{{}}') END,
       CASE WHEN s.minimum = s.maximum THEN ARRAY[s.present::bigint] ELSE coalesce(h.counts, '{{}}') END
FROM summed s CROSS JOIN regions r LEFT JOIN quantiles q USING (part) LEFT JOIN histograms h USING (part)

-- name: levels
WITH by_region AS (
    SELECT v.region, u.position, u.level, count(*) AS n
    FROM platform.features v
    CROSS JOIN LATERAL unnest(ARRAY[{values}]) WITH ORDINALITY u (level, position)
    WHERE v.use_case = {use_case} AND ({region}::text IS NULL OR v.region = {region})
      AND v.event_time >= {start}::timestamptz AND v.event_time < {end}::timestamptz
    GROUP BY v.region, u.position, u.level
), counted AS (
    SELECT NULL AS region, position, level, sum(n)::bigint AS n FROM by_region GROUP BY position, level
    UNION ALL
    SELECT region, position, level, n FROM by_region WHERE {by_region}
), placed AS (
    SELECT region, position, level, n,
           row_number() OVER (
               PARTITION BY region, position ORDER BY level IS NULL, n DESC, level COLLATE "C"
           ) AS place
    FROM counted
)
SELECT region, position, sum(n)::bigint,
       coalesce(sum(n) FILTER (WHERE level IS NULL), 0)::bigint, count(level),
       coalesce(
           jsonb_agg(jsonb_build_object('level', level, 'count', n) ORDER BY place)
               FILTER (WHERE level IS NOT NULL AND place <= {most}),
           '[]'
       )
FROM placed
GROUP BY region, position

-- name: store
INSERT INTO platform.feature_statistics (use_case, region, feature, window_start, window_end, statistics, computed_at)
VALUES (%(use_case)s, %(region)s, %(feature)s, %(start)s, %(end)s, %(statistics)s, %(computed_at)s)
ON CONFLICT (use_case, region, feature, window_start, window_end)
DO UPDATE SET statistics = excluded.statistics, computed_at = excluded.computed_at

-- name: stored
SELECT feature, statistics, computed_at FROM platform.feature_statistics
WHERE use_case = %(use_case)s AND region IS NOT DISTINCT FROM %(region)s::text AND feature = ANY(%(features)s)
  AND window_start = %(start)s::timestamptz AND window_end = %(end)s::timestamptz
