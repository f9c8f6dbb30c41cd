-- The contacts of some ranges with the hash of each subject, to find which rows a mismatch lies in.
-- Parameters: run_id, thresholds (bigint[]), ranges (integer[], indexes into thresholds, 1 to n). Locks: none.
-- Rows: all contacts of the ranges, unordered. Time: a scan of contacts.
SELECT c.source_id,
       {fingerprint},
       hashint8extended(floor(date_part('epoch', CASE WHEN isfinite(c.migrated_at) THEN c.migrated_at END) * 1000000)::bigint,
                        c.source_id),
       CASE WHEN c.inferred & 2 = 0 AND btrim(c.city) <> '' THEN hashtextextended(c.city, c.source_id) END,
       CASE WHEN c.inferred & 1 = 0 THEN hashtextextended(c.state_code, c.source_id) END,
       CASE WHEN c.invalid_reason IN ('source_flag', 'unassigned+source_flag') THEN hashint8extended(c.source_id, 1) END
  FROM contacts c
 WHERE c.migration_run_id = %(run_id)s
   AND width_bucket(c.source_id, %(thresholds)s::bigint[]) = ANY (%(ranges)s::integer[])
