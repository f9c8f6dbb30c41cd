-- SQLite. Rows by (lada, first three digits of numero where that is ten plain digits, else NULL), in a window of ids.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Rows: about 900. Time: about 0.7 µs a row.
SELECT lada,
       CASE WHEN typeof(numero) = 'text' AND length(CAST(numero AS BLOB)) = 10
                 AND numero GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]'
            THEN substr(numero, 1, 3) END AS prefix,
       count(*)
  FROM numeros
 WHERE id BETWEEN :first AND :last
 GROUP BY lada, prefix
