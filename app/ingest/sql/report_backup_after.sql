-- Verified backups of the database that were begun when the run had finished, the latest first.
-- Parameters: run_id. Locks: none. Rows: few.
SELECT b.kind, b.label, b.verified_at
  FROM backups b
  JOIN migration_runs r ON r.id = %(run_id)s
 WHERE b.state = 'verified'
   AND b.kind IN ('full', 'incremental')
   AND b.started_at >= r.finished_at
 ORDER BY b.started_at DESC
