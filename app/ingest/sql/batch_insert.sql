-- The ledger's row of a batch, in the batch's own transaction.
-- Parameters: one per column. Locks: a key share lock on the run. Rows: one.
INSERT INTO migration_batches (run_id, first_id, last_id, rows_read, loaded, duplicates, rejected, repaired,
                               rejected_by_reason, fingerprint, seconds)
VALUES (%(run_id)s, %(first_id)s, %(last_id)s, %(rows_read)s, %(loaded)s, %(duplicates)s, %(rejected)s, %(repaired)s,
        %(rejected_by_reason)s, %(fingerprint)s, %(seconds)s)
