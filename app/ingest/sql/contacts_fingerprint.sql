-- The fingerprint of a contact: its number and the columns that are carried over unchanged, chained so that each hash seeds
-- the next and the first is seeded by the source id. An expression over the alias c, put into check_create and
-- validate_ranges; app/ingest/kernels/fingerprint.py computes the same from the cells of the source.
-- A NULL counts as chr(1).
hashtextextended(coalesce(c.municipio_sep, chr(1)),
hashtextextended(coalesce(c.estado_sep, chr(1)),
hashtextextended(coalesce(c.municipio_csv, chr(1)),
hashtextextended(coalesce(c.campo3, chr(1)),
hashtextextended(coalesce(c.municipality, chr(1)),
hashtextextended(coalesce(c.neighborhood, chr(1)),
hashtextextended(coalesce(c.address, chr(1)),
hashtextextended(coalesce(c.full_name, chr(1)),
hashtextextended(coalesce(c.phone_original, chr(1)),
hashtextextended(c.phone_national, c.source_id))))))))))
