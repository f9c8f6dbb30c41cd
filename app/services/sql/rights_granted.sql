-- What our groups of roles may do with the tables of the schema now, as (group, table, column or '', privilege):
-- partitions are left out, as they are reached through their parent.
-- Parameters: groups (text[]). Locks: none. Rows: about 150. Time: 2 ms.
SELECT r.rolname::text, c.relname::text, '', a.privilege_type
  FROM pg_class c
 CROSS JOIN LATERAL aclexplode(c.relacl) a
  JOIN pg_roles r ON r.oid = a.grantee
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
   AND r.rolname = ANY(%(groups)s)
UNION ALL
SELECT r.rolname::text, c.relname::text, t.attname::text, a.privilege_type
  FROM pg_class c
  JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped
 CROSS JOIN LATERAL aclexplode(t.attacl) a
  JOIN pg_roles r ON r.oid = a.grantee
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
   AND r.rolname = ANY(%(groups)s)
