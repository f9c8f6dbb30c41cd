-- Rows and fingerprint of one batch within a range of pages, read back in the transaction that copied it.
-- Parameters: run_id, first_id, last_id (source ids, inclusive), low and high (page addresses, high exclusive).
-- Locks: none. Rows: one. Time: a scan of those pages, about half a microsecond a row.
SELECT count(*), coalesce(sum({fingerprint}), 0)
  FROM contacts c
 WHERE c.ctid >= %(low)s::tid AND c.ctid < %(high)s::tid
   AND c.migration_run_id = %(run_id)s
   AND c.source_id BETWEEN %(first_id)s AND %(last_id)s
