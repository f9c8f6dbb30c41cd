-- SQLite. The text cells of a run of rows, for a closer look at what they hold.
-- Parameters: first (id), most (rows). Locks: shared, on the source. Rows: at most `most`.
SELECT numero, campo1_original, nombre, campo3, direccion, colonia, municipio_csv,
       estado_sep, municipio_sep, estado_cof, municipio_cof, lada, ciudad_por_lada
  FROM numeros
 WHERE id >= :first
 ORDER BY id
 LIMIT :most
