-- Roles of a new server: run once by the image of PostgreSQL, as its superuser, in the database `sms`, before the
-- server listens. `smsctl db upgrade` then makes the schema as sms_owner and gives the groups what each may do.
-- Parameters: the files sms_owner_password and sms_api_password in /run/secrets; an empty one leaves its role without
--             a password, which is without a way in.
-- Locks: none that anyone could wait for.
-- Rows: five roles, one extension. Time: under a second.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/sms_owner_password`
\set api_password `cat /run/secrets/sms_api_password`

BEGIN;
-- CREATEROLE: `smsctl db upgrade` keeps the groups; REPLICATION: `smsctl backup create`.
CREATE ROLE sms_owner LOGIN CREATEROLE REPLICATION PASSWORD :'owner_password';
CREATE ROLE sms_app NOLOGIN;
CREATE ROLE sms_reader NOLOGIN;
CREATE ROLE sms_backup NOLOGIN;
GRANT sms_app, sms_reader, sms_backup TO sms_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
GRANT pg_read_all_data TO sms_backup;
CREATE ROLE sms_api LOGIN PASSWORD :'api_password' IN ROLE sms_app;
-- A request that stopped half-way gives up its locks, the end of the audit chain among them.
ALTER ROLE sms_api SET idle_in_transaction_session_timeout = '30s';

REVOKE ALL ON DATABASE sms FROM PUBLIC;
ALTER DATABASE sms OWNER TO sms_owner;
GRANT CONNECT ON DATABASE sms TO sms_app, sms_reader, sms_backup;
ALTER SCHEMA public OWNER TO sms_owner;

-- What a bulk load sets and puts back (docs/runbook.md).
GRANT ALTER SYSTEM ON PARAMETER max_wal_size, checkpoint_timeout, checkpoint_completion_target, summarize_wal TO sms_owner;
GRANT EXECUTE ON FUNCTION pg_reload_conf(), pg_show_all_file_settings() TO sms_owner;
GRANT SELECT ON pg_file_settings TO sms_owner;

-- The one extension that only a superuser may add.
CREATE EXTENSION pg_stat_statements;
GRANT pg_monitor TO sms_owner;
COMMIT;
