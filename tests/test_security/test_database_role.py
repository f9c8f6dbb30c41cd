"""The application taken over: what its database role reads and writes for whoever sits in it."""

from __future__ import annotations

import psycopg
import pytest

from app.core.database import connect
from app.core.errors import Broken
from app.core.security import Vault
from app.models.permission import Permission
from app.models.user import Role
from app.services.token_service import SEALED_FOR
from tests.test_api.support import PASSWORD, Service
from tests.test_security.support import (
    CONTACTS,
    KEYS,
    ME,
    REFRESH,
    Owner,
    bearing,
    enter,
    key_of,
    problem,
    state_of,
    switch_on,
)

FORBIDDEN = (
    "UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events", "TRUNCATE audit_events",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL", "UPDATE audit_head SET last_id = 0", "DROP TABLE audit_events",
    "DROP TRIGGER append_only ON audit_events", "SET session_replication_role = replica",
    "LOCK TABLE audit_head IN EXCLUSIVE MODE",
    "DELETE FROM users", "DELETE FROM api_keys", "DELETE FROM signing_keys", "TRUNCATE contacts", "DELETE FROM suppressions",
    "UPDATE consents SET contact_id = contact_id", "DELETE FROM consents", "UPDATE alembic_version SET version_num = '0'",
    "CREATE TABLE mine (id int)", "CREATE SCHEMA mine", "CREATE EXTENSION IF NOT EXISTS dblink", "CREATE ROLE mine LOGIN",
    "ALTER ROLE CURRENT_USER SUPERUSER", "ALTER ROLE CURRENT_USER CREATEROLE", "ALTER ROLE sms_app BYPASSRLS",
    "GRANT pg_read_all_data TO CURRENT_USER", "ALTER TABLE users OWNER TO CURRENT_USER",
    "ALTER TABLE users ADD COLUMN mine int", "SELECT rolpassword FROM pg_authid", "SELECT passwd FROM pg_shadow",
    "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')", "COPY users TO '/tmp/users'", "COPY users FROM '/tmp/users'",
    "COPY users TO PROGRAM 'cat'", "SELECT lo_import('/etc/passwd')", "ALTER SYSTEM SET ssl = off",
    "SELECT pg_reload_conf()", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE c AS '/tmp/x.so', 'x'", "ALTER DATABASE postgres SET work_mem = '1MB'",
    "CREATE PUBLICATION mine FOR ALL TABLES", "SELECT pg_create_physical_replication_slot('mine')", "SET ROLE sms_backup",
    "SET ROLE sms_reader", "SET SESSION AUTHORIZATION sms_backup", "UPDATE numbering_plans SET in_force = false",
    "DELETE FROM migration_runs", "UPDATE backups SET path = '/'", "INSERT INTO server_settings_saved DEFAULT VALUES",
)  # fmt: skip


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_application_cannot(application_url: str, statement: str) -> None:
    alone = statement.startswith("ALTER SYSTEM")  # in no transaction
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with connect(application_url, autocommit=alone) as connection, refused:
        connection.execute(statement.encode())


def test_application_is_in_its_group_and_in_nothing_else(application_url: str) -> None:
    with connect(application_url) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
        groups = connection.execute(
            "SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
            " WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        ).fetchall()
    assert row == (False,) * 5
    assert groups == [("sms_app",)]


def test_suite_is_run_with_the_role_of_the_application(api: Service) -> None:
    """Else nothing here would show that this role is enough, and no more."""
    with connect(api.database_url) as connection:
        row = connection.execute("SELECT current_user ~ '^sms_test_api_', pg_has_role('sms_app', 'MEMBER')").fetchone()
    assert row == (True, True)


def test_what_the_database_keeps_is_of_no_use_without_the_secret_key(api: Service, application_url: str) -> None:
    """A copy of it signs in nowhere: digests are not taken, sealed keys do not open, hashes are no passwords."""
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    switch_on(person)
    with connect(application_url) as connection:
        digests = [
            it for (it,) in connection.execute(
                "SELECT encode(token_hash, 'hex') FROM refresh_tokens UNION ALL SELECT encode(key_hash, 'hex') FROM api_keys"
            )
        ]  # fmt: skip
        hashes = [it for (it,) in connection.execute("SELECT password_hash FROM users WHERE password_hash IS NOT NULL")]
        sealed = [it for (it,) in connection.execute("SELECT private_key FROM signing_keys")]
        secrets = [it for (it,) in connection.execute("SELECT secret FROM second_factors")]
    for it in digests:
        problem(api.ask("POST", REFRESH, json={"refresh_token": it}), 401, "refresh_invalid")
        assert bearing(api, f"sms_{it[:43]}", "GET", CONTACTS).status_code == 401
    assert [it for it in hashes if PASSWORD in it] == []
    for it, purpose in [(it, SEALED_FOR) for it in sealed] + [(it, "second factor 1") for it in secrets]:
        assert len(it) >= 48
        with pytest.raises(Broken):
            Vault(bytes(32)).open(it, purpose)
    assert key.encode() not in b"".join(sealed + secrets)


def test_secret_that_is_moved_to_another_account_does_not_open(api: Service, owner: Owner) -> None:
    """Whoever can write the table cannot put his own second factor in the place of another's."""
    one, other = enter(api), enter(api)
    switch_on(one)
    _, recovery = switch_on(other)
    owner.run(
        "UPDATE second_factors SET secret = (SELECT f.secret FROM second_factors f JOIN users u ON u.id = f.user_id"
        " WHERE u.public_id = %s) WHERE user_id = (SELECT id FROM users WHERE public_id = %s)",
        one.id,
        other.id,
    )
    body = {"email": other.account.email, "password": PASSWORD, "otp": "123456"}
    assert api.ask("POST", "/api/v1/auth/login", json=body).status_code == 500
    assert api.ask("POST", "/api/v1/auth/login", json=body | {"otp": recovery[0]}).status_code == 200


def test_signing_keys_are_written_by_the_application_only(api: Service, owner: Owner) -> None:
    """The public half of one that was put in beside ours would be believed."""
    rights = owner.rows(
        "SELECT grantee, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_name = 'signing_keys'"
        " AND grantee NOT IN (SELECT tableowner FROM pg_tables WHERE tablename = 'signing_keys')"
    )
    assert set(rights) == {("sms_app", "SELECT"), ("sms_app", "INSERT"), ("sms_app", "UPDATE")}


def test_statements_of_a_request_end_in_time(api: Service) -> None:
    assert api.client.portal is not None

    async def ask() -> str:
        async with state_of(api).db.reading() as connection:
            return str((await connection.exec_driver_sql("SHOW statement_timeout")).scalar())

    assert api.client.portal.call(ask) == "15s"
    assert enter(api, Role.ADMIN).ask("GET", ME).status_code == 200
    assert api.ask("GET", KEYS).status_code == 401
