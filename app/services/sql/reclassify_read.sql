-- The next contacts by id with what they hold of the plan, as one run of fixed-width binary rows: id, number, line
-- type, operator, LADA, flags.
-- Parameters: after_id, rows (the window), line_types and operators (text[]: read as places from 1, 0 for none).
-- Locks: none: the update checks again. Rows: one, 30 bytes a contact, at most 50,000. Time: about 100 ms.
SELECT string_agg(
           int8send(c.id)
           || int8send(c.phone_national::bigint)
           || int2send(coalesce(array_position(%(line_types)s::text[], c.line_type::text), 0)::smallint)
           || int4send(coalesce(array_position(%(operators)s::text[], c.operator::text),
                                CASE WHEN c.operator IS NULL THEN 0 ELSE -1 END))
           || int4send(coalesce(CASE WHEN c.lada ~ '^[0-9]{2,3}$' THEN c.lada::integer END, 0))
           || int4send(c.is_mobile::integer
                       + 2 * c.is_valid::integer
                       + 4 * coalesce(c.invalid_reason IN ('unassigned', 'unassigned+source_flag'), false)::integer
                       + 8 * coalesce(c.invalid_reason IN ('source_flag', 'unassigned+source_flag'), false)::integer
                       + 16 * (c.status = 'ACTIVE')::integer
                       + 32 * (c.status = 'INVALID')::integer
                       + 64 * (c.status = 'ERASED')::integer),
           ''::bytea ORDER BY c.id)
  FROM (
        SELECT id, phone_national, line_type, operator, lada, is_mobile, is_valid, invalid_reason, status
          FROM contacts
         WHERE id > %(after_id)s
         ORDER BY id
         LIMIT %(rows)s
       ) c
