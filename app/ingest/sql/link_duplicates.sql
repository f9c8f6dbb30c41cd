-- Name the contact, and the source row where it is of this run, that each duplicate stands for.
-- Parameters: run_id. Locks: row locks on the run's rejects. Rows: the duplicates that are not linked yet.
-- Time: one scan of contacts while the unique key is off, an index look-up a row once it is there.
UPDATE migration_rejects d
   SET duplicate_of_contact_id = c.id,
       duplicate_of_source_id = CASE WHEN c.migration_run_id = d.run_id THEN c.source_id END
  FROM contacts c
 WHERE d.run_id = %(run_id)s AND d.reason = 'duplicate' AND d.duplicate_of_contact_id IS NULL
   AND c.phone_e164 = d.phone_e164
