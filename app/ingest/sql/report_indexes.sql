-- Indexes of contacts with their size and whether the planner may use them.
-- Parameters: none. Locks: none. Rows: one per index.
SELECT c.relname::text, pg_relation_size(c.oid), i.indisvalid AND i.indisready, i.indisunique
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = 'contacts'::regclass
 ORDER BY 1
