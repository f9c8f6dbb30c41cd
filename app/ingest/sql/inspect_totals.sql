-- SQLite. Cells that are not NULL per column, readings of es_valido, fecha_migracion and lada, in a window of ids.
-- A lada is compared with its number where that has ten characters; two digits belong to 33, 55, 56 and 81.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Rows: one. Time: about 0.8 µs a row.
SELECT count(*), count(numero), count(campo1_original), count(nombre), count(campo3), count(direccion),
       count(colonia), count(municipio_csv), count(estado_sep), count(municipio_sep), count(estado_cof),
       count(municipio_cof), count(lada), count(ciudad_por_lada), count(es_valido), count(fecha_migracion),
       coalesce(sum(es_valido = 1), 0), coalesce(sum(es_valido = 0), 0),
       coalesce(sum(fecha_migracion GLOB
                    '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]'), 0),
       count(CASE WHEN length(numero) = 10 THEN lada END),
       coalesce(sum(length(numero) = 10
                    AND CASE WHEN substr(numero, 1, 2) IN ('33', '55', '56', '81')
                             THEN substr(numero, 1, 2) <> lada
                             ELSE substr(numero, 1, 3) <> lada END), 0),
       coalesce(sum(length(numero) = 10 AND substr(numero, 1, 3) = lada
                    AND substr(numero, 1, 2) IN ('33', '55', '56', '81')), 0)
  FROM numeros
 WHERE id BETWEEN :first AND :last
