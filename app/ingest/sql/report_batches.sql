-- Batches of a run, gathered into at most `lines` lines of consecutive batches, in the order of ids.
-- Parameters: run_id, lines. Locks: none. Rows: at most `lines`.
SELECT min(first_id), max(last_id), count(*), sum(rows_read), sum(loaded), sum(duplicates), sum(rejected), sum(seconds)
  FROM (SELECT *, ntile(%(lines)s) OVER (ORDER BY first_id) AS line
          FROM migration_batches
         WHERE run_id = %(run_id)s) AS batches
 GROUP BY line
 ORDER BY line
