-- Rejects of a run as they were kept: all of them, or a sample that the seed decides.
-- Parameters: run_id, seed (bigint), most (rows). Locks: none. Rows: at most `most`, in the order of a hash.
SELECT source_id, reason, phone_e164, raw
  FROM migration_rejects
 WHERE run_id = %(run_id)s
 ORDER BY hashint8extended(source_id, %(seed)s)
 LIMIT %(most)s
