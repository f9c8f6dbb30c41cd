-- SQLite. Rows with a cell of a storage class that does not belong, by the classes of all their cells, in a window of ids.
-- Numbers sort before '' and BLOBs from x'' on (the plus keeps the column's affinity out): two comparisons cost half of
-- what typeof() does.
-- Parameters: first, last (ids, inclusive). Locks: shared, on the source. Rows: few. Time: about 0.5 µs a row.
SELECT typeof(numero), typeof(campo1_original), typeof(nombre), typeof(campo3), typeof(direccion),
       typeof(colonia), typeof(municipio_csv), typeof(estado_sep), typeof(municipio_sep), typeof(estado_cof),
       typeof(municipio_cof), typeof(lada), typeof(ciudad_por_lada), typeof(es_valido), typeof(fecha_migracion), count(*)
  FROM numeros
 WHERE id BETWEEN :first AND :last
   AND (+numero < '' OR +numero >= x''
        OR +campo1_original < '' OR +campo1_original >= x''
        OR +nombre < '' OR +nombre >= x''
        OR +campo3 < '' OR +campo3 >= x''
        OR +direccion < '' OR +direccion >= x''
        OR +colonia < '' OR +colonia >= x''
        OR +municipio_csv < '' OR +municipio_csv >= x''
        OR +estado_sep < '' OR +estado_sep >= x''
        OR +municipio_sep < '' OR +municipio_sep >= x''
        OR +estado_cof < '' OR +estado_cof >= x''
        OR +municipio_cof < '' OR +municipio_cof >= x''
        OR +lada < '' OR +lada >= x''
        OR +ciudad_por_lada < '' OR +ciudad_por_lada >= x''
        OR typeof(es_valido) NOT IN ('integer', 'null')
        OR +fecha_migracion < '' OR +fecha_migracion >= x'')
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
