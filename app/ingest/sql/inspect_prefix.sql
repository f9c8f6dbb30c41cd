-- SQLite. Plain numbers of ten digits from one text up to another, out of the index on numero.
-- Parameters: low, high (texts; high not included). Locks: shared, on the source. Rows: one.
SELECT count(*)
  FROM numeros
 WHERE numero >= :low
   AND numero < :high
   AND typeof(numero) = 'text'
   AND length(CAST(numero AS BLOB)) = 10
   AND numero GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]'
