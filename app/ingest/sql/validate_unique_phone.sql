-- Whether a valid, immediate unique constraint over contacts.phone_e164 alone is there, its index ready.
-- Parameters: none. Locks: none. Rows: one.
SELECT EXISTS (
       SELECT
         FROM pg_constraint con
         JOIN pg_index i ON i.indexrelid = con.conindid
         JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = con.conkey[1]
        WHERE con.conrelid = 'contacts'::regclass
          AND con.contype = 'u'
          AND cardinality(con.conkey) = 1
          AND a.attname = 'phone_e164'
          AND con.convalidated
          AND i.indisunique
          AND i.indisvalid
          AND i.indisready)
