-- SQLite. Rows with a cell of a storage class that does not belong, by the classes of all their cells, in a window of ids.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Rows: few. Time: about 0.8 µs a row.
SELECT typeof(numero), typeof(campo1_original), typeof(nombre), typeof(campo3), typeof(direccion),
       typeof(colonia), typeof(municipio_csv), typeof(estado_sep), typeof(municipio_sep), typeof(estado_cof),
       typeof(municipio_cof), typeof(lada), typeof(ciudad_por_lada), typeof(es_valido), typeof(fecha_migracion), count(*)
  FROM numeros
 WHERE id BETWEEN :first AND :last
   AND ((typeof(numero) <> 'text' AND numero IS NOT NULL)
        OR (typeof(campo1_original) <> 'text' AND campo1_original IS NOT NULL)
        OR (typeof(nombre) <> 'text' AND nombre IS NOT NULL)
        OR (typeof(campo3) <> 'text' AND campo3 IS NOT NULL)
        OR (typeof(direccion) <> 'text' AND direccion IS NOT NULL)
        OR (typeof(colonia) <> 'text' AND colonia IS NOT NULL)
        OR (typeof(municipio_csv) <> 'text' AND municipio_csv IS NOT NULL)
        OR (typeof(estado_sep) <> 'text' AND estado_sep IS NOT NULL)
        OR (typeof(municipio_sep) <> 'text' AND municipio_sep IS NOT NULL)
        OR (typeof(estado_cof) <> 'text' AND estado_cof IS NOT NULL)
        OR (typeof(municipio_cof) <> 'text' AND municipio_cof IS NOT NULL)
        OR (typeof(lada) <> 'text' AND lada IS NOT NULL)
        OR (typeof(ciudad_por_lada) <> 'text' AND ciudad_por_lada IS NOT NULL)
        OR (typeof(es_valido) <> 'integer' AND es_valido IS NOT NULL)
        OR (typeof(fecha_migracion) <> 'text' AND fecha_migracion IS NOT NULL))
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
