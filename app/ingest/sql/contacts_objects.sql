-- Keys, foreign keys (from and to) and indexes of contacts, with the statements that bring them back.
-- Parameters: none. Locks: none. Rows: about fifteen: kind, table_name, name, definition, in the order of taking off.
-- A key comes back as a unique index, built like any other, and then as a constraint over it, which takes a moment: that
-- way contacts can be read while it is built. Dropping the constraint drops its index along.
SELECT kind, table_name, name, definition
  FROM (SELECT CASE WHEN con.contype = 'f' THEN 1 ELSE 2 END AS turn,
               'constraint' AS kind, con.conrelid::regclass::text AS table_name, con.conname::text AS name,
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', con.conrelid::regclass, con.conname,
                      CASE con.contype WHEN 'f' THEN pg_get_constraintdef(con.oid)
                                       WHEN 'p' THEN format('PRIMARY KEY USING INDEX %I', con.conname)
                                       ELSE format('UNIQUE USING INDEX %I', con.conname) END) AS definition
          FROM pg_constraint con
         WHERE (con.conrelid = 'contacts'::regclass AND con.contype IN ('p', 'u', 'f'))
            OR (con.confrelid = 'contacts'::regclass AND con.contype = 'f' AND con.conparentid = 0)
        UNION ALL
        SELECT 3, 'index', 'contacts', c.relname::text, pg_get_indexdef(i.indexrelid)
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = 'contacts'::regclass) AS objects
 ORDER BY turn, name
