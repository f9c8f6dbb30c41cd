-- Every duplicate and reject of a run as CSV, in the order of source ids; NULL is nothing, an empty text is "".
-- Parameters: run_id. Locks: none. Rows: all of them, streamed.
COPY (SELECT d.source_id, d.reason, d.phone_e164, d.duplicate_of_contact_id, d.duplicate_of_source_id, d.detail, {cells}
        FROM migration_rejects d
       WHERE d.run_id = %(run_id)s
       ORDER BY d.source_id)
  TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')
