-- Contacts by id, with every column that a migration fills.
-- Parameters: ids (bigint[]). Locks: none. Rows: one per id that exists. Time: an index look-up each.
SELECT id, source_id, phone_e164, phone_national, phone_original, full_name, address, neighborhood, municipality,
       state_code, state_name, lada, city, line_type, is_mobile, operator, is_valid, invalid_reason, status, time_zone,
       inferred, source, campo3, municipio_csv, estado_sep, municipio_sep,
       CASE WHEN isfinite(migrated_at) THEN (extract(epoch FROM migrated_at) * 1000000)::bigint END AS migrated_at
  FROM contacts
 WHERE id = ANY (%(ids)s::bigint[])
