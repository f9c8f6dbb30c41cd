-- SQLite. Numbers that are not ten plain digits, in a window of ids.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Time: about 0.4 µs a row.
SELECT numero, typeof(numero)
  FROM numeros
 WHERE id BETWEEN :first AND :last
   AND (numero NOT GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]'
        OR length(CAST(numero AS BLOB)) <> 10
        OR typeof(numero) <> 'text')
