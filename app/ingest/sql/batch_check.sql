-- Rows and fingerprint of one batch, read back in the transaction that copied it.
-- Parameters: run_id, first_id, last_id (source ids, inclusive), first_ctid (the first page that the batch may lie in).
-- Locks: none. Rows: one. Time: a scan of the pages since first_ctid, about 1 µs a row.
SELECT count(*), coalesce(sum({fingerprint}), 0)
  FROM contacts c
 WHERE c.ctid >= %(first_ctid)s::tid
   AND c.migration_run_id = %(run_id)s
   AND c.source_id BETWEEN %(first_id)s AND %(last_id)s
