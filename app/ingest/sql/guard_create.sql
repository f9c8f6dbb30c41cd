-- While a load is open, contacts may be read by all and written by its run only: a stranger's row would be missing from
-- the loader's set of seen numbers, and the unique key is off.
-- Parameters: none. Locks: SHARE ROW EXCLUSIVE on contacts for a moment; waits for writers that are under way. Rows: none.
-- Time: milliseconds.
CREATE OR REPLACE FUNCTION contacts_migration_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('sms.migration_run', true), '') = '' THEN
        RAISE EXCEPTION 'contacts cannot be written while a migration is open: try again later'
            USING ERRCODE = 'lock_not_available',
                  HINT = 'smsctl migrate status shows it; smsctl migrate run goes on with it, smsctl migrate rollback undoes it.';
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER contacts_migration_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON contacts
    FOR EACH STATEMENT EXECUTE FUNCTION contacts_migration_guard()
