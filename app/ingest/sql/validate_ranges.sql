-- All contacts in one pass: per range of source ids, the rows of the run and, subject by subject, how many have it and the
-- sum of its hashes; beside them, what must hold for every row. A range is an index into `thresholds`, the first ids of the
-- ranges, 1 to n (0: before all of them); NULL gathers the contacts that are not of this run.
-- Parameters: run_id, thresholds (bigint[]), codes (text[], the 32 states), lines (text[], the line types), runs (integer[]).
-- Locks: none. Rows: one per range. Time: about 1.2 µs a row of one core; in parallel.
SELECT CASE WHEN c.migration_run_id = %(run_id)s THEN width_bucket(c.source_id, %(thresholds)s::bigint[]) END,
       count(*),
       sum({fingerprint}),
       count(c.migrated_at),
       sum(hashint8extended(floor(date_part('epoch', c.migrated_at) * 1000000)::bigint, c.source_id))
           FILTER (WHERE isfinite(c.migrated_at)),
       count(*) FILTER (WHERE c.inferred & 2 = 0 AND btrim(c.city) <> ''),
       sum(hashtextextended(c.city, c.source_id)) FILTER (WHERE c.inferred & 2 = 0 AND btrim(c.city) <> ''),
       count(c.state_code) FILTER (WHERE c.inferred & 1 = 0),
       sum(hashtextextended(c.state_code, c.source_id)) FILTER (WHERE c.inferred & 1 = 0),
       count(*) FILTER (WHERE c.invalid_reason IN ('source_flag', 'unassigned+source_flag')),
       sum(hashint8extended(c.source_id, 1)) FILTER (WHERE c.invalid_reason IN ('source_flag', 'unassigned+source_flag')),
       min(c.source_id),
       max(c.source_id),
       count(*) FILTER (WHERE c.phone_e164 !~ '^\+52[0-9]{{10}}$' OR c.phone_e164 <> '+52' || c.phone_national),
       count(*) FILTER (WHERE c.state_code <> ALL (%(codes)s::text[])
                           OR (c.state_code IS NULL) <> (c.state_name IS NULL)),
       count(*) FILTER (WHERE c.line_type <> ALL (%(lines)s::text[]) OR c.is_mobile <> (c.line_type = 'mobile')),
       count(*) FILTER (WHERE c.migration_run_id IS NOT NULL
                          AND (c.source_id IS NULL OR c.lada IS NULL OR c.is_valid <> (c.invalid_reason IS NULL))),
       count(*) FILTER (WHERE c.migration_run_id <> ALL (%(runs)s::integer[]))
  FROM contacts c
 GROUP BY 1
