-- The ranges of one plan as one run of fixed-width binary rows (first, last, type, operator, day), in no order: a row
-- a message, as COPY sends them, costs the client three times as much.
-- Parameters: plan_id; operators (text[], all of the plan's operators: their places in it are what is read).
-- Locks: none. Rows: one, 26 bytes a range, about 180,000 ranges. Time: about 200 ms.
SELECT string_agg(
           int8send(r.first_number)
           || int8send(r.last_number)
           || int2send((CASE r.line_type WHEN 'mobile' THEN 0 ELSE 1 END)::smallint)
           || int4send((o.place - 1)::integer)
           || int4send(coalesce(r.assigned_on - DATE '1970-01-01', -2147483648)),
           ''::bytea)
  FROM numbering_ranges r
  JOIN unnest(%(operators)s::text[]) WITH ORDINALITY AS o (name, place) ON o.name = r.operator
 WHERE r.plan_id = %(plan_id)s
