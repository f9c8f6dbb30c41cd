-- The contacts of a run by state, LADA, operator, line type, validity and what was inferred: all distributions of the report
-- from one scan.
-- Parameters: run_id. Locks: none. Rows: tens of thousands. Time: about 0.8 µs a row of one core; in parallel.
SELECT c.state_code, c.lada, c.operator, c.line_type, c.is_valid, c.inferred, count(*),
       count(*) FILTER (WHERE c.phone_e164 ~ '^\+52[0-9]{10}$')
  FROM contacts c
 WHERE c.migration_run_id = %(run_id)s
 GROUP BY 1, 2, 3, 4, 5, 6
