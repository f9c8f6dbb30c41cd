-- An expression: a cell of migration_rejects.raw as text for CSV. Bytes become hex-text:… or hex-blob:…, and so does a text
-- that itself begins like that; a REAL is written as it was read.
CASE WHEN jsonb_typeof(d.raw -> {name}) = 'object'
     THEN CASE d.raw -> {name} ->> 'type'
               WHEN 'real' THEN d.raw -> {name} ->> 'value'
               ELSE 'hex-' || (d.raw -> {name} ->> 'type') || ':' || (d.raw -> {name} ->> 'hex') END
     WHEN d.raw ->> {name} LIKE 'hex-%%:%%' THEN 'hex-text:' || encode(convert_to(d.raw ->> {name}, 'UTF8'), 'hex')
     ELSE d.raw ->> {name} END
