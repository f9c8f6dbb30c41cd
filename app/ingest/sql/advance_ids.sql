-- Put the sequence of contacts.id behind every id that is taken: by a contact, or by a row that an unfinished run has yet to
-- load (it may rest at a --limit while others make contacts).
-- Parameters: none. Locks: none. Rows: one.
SELECT setval(pg_get_serial_sequence('contacts', 'id'),
              greatest((SELECT max(id) FROM contacts),
                       (SELECT max(last_source_id + contact_id_offset)
                          FROM migration_runs
                         WHERE status IN ('running', 'interrupted', 'limited', 'failed')),
                       1))
