-- SQLite. Spellings of states and their rows, in a window of ids small enough that the sort stays in memory.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Rows: about 96. Time: about 0.4 µs a row.
SELECT estado_cof, count(*)
  FROM numeros
 WHERE id BETWEEN :first AND :last
   AND estado_cof IS NOT NULL
 GROUP BY estado_cof
