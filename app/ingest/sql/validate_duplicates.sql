-- Duplicates of a run whose contact is not there, has another number, is not the row that they name, or came later than
-- they did: of rows with one number the lowest id is loaded.
-- Parameters: run_id. Locks: none. Rows: source ids, few or none. Time: an index look-up per duplicate.
SELECT d.source_id
  FROM migration_rejects d
  LEFT JOIN contacts c ON c.id = d.duplicate_of_contact_id
 WHERE d.run_id = %(run_id)s
   AND d.reason = 'duplicate'
   AND (c.id IS NULL
        OR c.phone_e164 IS DISTINCT FROM d.phone_e164
        OR (c.migration_run_id = d.run_id AND c.source_id IS DISTINCT FROM d.duplicate_of_source_id)
        OR (c.migration_run_id = d.run_id AND c.source_id > d.source_id))
 ORDER BY d.source_id
