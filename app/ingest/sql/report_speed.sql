-- Rows per second of the batches of a run: slowest, median, fastest; and the time from the first to the last commit.
-- Parameters: run_id. Locks: none. Rows: one, of NULLs without a batch.
SELECT count(*),
       min(rows_read / nullif(seconds, 0)),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY rows_read / nullif(seconds, 0)),
       max(rows_read / nullif(seconds, 0))
  FROM migration_batches
 WHERE run_id = %(run_id)s
