-- The plan's continuous validation, on the server: how many rows a COPY stored and the sum of their fingerprints, taken from
-- the rows as they were stored (after every other trigger), wherever in the table they landed; left in two settings that last
-- until the end of the transaction.
-- Parameters: none. Locks: SHARE ROW EXCLUSIVE on contacts for a moment. Rows: none. Time: about 0.6 µs a copied row.
CREATE OR REPLACE FUNCTION contacts_batch_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stored bigint;
    fingerprint numeric;
BEGIN
    SELECT count(*), coalesce(sum({fingerprint}), 0) INTO stored, fingerprint FROM stored_rows c;
    PERFORM set_config('sms.batch_rows', stored::text, true), set_config('sms.batch_fingerprint', fingerprint::text, true);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER contacts_batch_check AFTER INSERT ON contacts REFERENCING NEW TABLE AS stored_rows
    FOR EACH STATEMENT EXECUTE FUNCTION contacts_batch_check()
