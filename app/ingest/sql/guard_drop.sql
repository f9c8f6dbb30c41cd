-- The end of a load: contacts may be written by everybody again, and batches are no longer checked.
-- Parameters: none. Locks: ACCESS EXCLUSIVE on contacts for a moment. Rows: none. Time: milliseconds.
DROP TRIGGER IF EXISTS contacts_migration_guard ON contacts;
DROP FUNCTION IF EXISTS contacts_migration_guard();
DROP TRIGGER IF EXISTS contacts_batch_check ON contacts;
DROP FUNCTION IF EXISTS contacts_batch_check()
