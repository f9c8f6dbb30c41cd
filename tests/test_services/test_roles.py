"""Roles of the database: what the application's may and may not, table by table; made once however many ask."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import date
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, sql
from sqlalchemy import make_url
from structlog.testing import capture_logs

from app.cli import context
from app.core.config import Settings
from app.core.database import connect
from app.models import Base
from app.models.permission import SYSTEM
from app.services import audit_chain, audit_service, role_service, schema_service
from app.services.role_service import APP, APP_RIGHTS, BACKUP, GROUPS, READER, SECRET_COLUMNS, SECRET_TABLES, RolesDone
from tests.conftest import fresh_database

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
TABLES = sorted([*Base.metadata.tables, "alembic_version"])
APPEND_ONLY = ("audit_events", "campaign_moves", "chunk_attempts", "consents", "segment_versions", "submissions",
               "template_versions")  # fmt: skip


@pytest.fixture(scope="module")
def upgraded(module_database_url: str) -> str:
    """A database whose roles and rights are as an upgrade leaves them."""
    schema_service.upgrade(module_database_url)
    return module_database_url


@pytest.fixture
def login(upgraded: str) -> Iterator[tuple[str, str]]:
    """A login role of the application's group, as (url, name); gone afterwards."""
    name = f"sms_test_login_{uuid4().hex[:8]}"
    yield role_service.ensure_login(upgraded, name, secrets.token_hex(8)), name
    with connect(upgraded, autocommit=True) as superuser:
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def may(connection: Connection, role: str, table: str) -> set[str]:
    """The privileges that `role` has on `table`, in whatever way it came by them."""
    rows = connection.execute(
        "SELECT p FROM unnest(%s::text[]) p WHERE has_table_privilege(%s, format('public.%%I', %s::text), p)",
        (list(PRIVILEGES), role, table),
    )
    return {privilege for (privilege,) in rows}


def become(connection: Connection, role: str) -> None:
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


def test_every_table_has_its_line() -> None:
    assert sorted(APP_RIGHTS) == TABLES


def test_secrets_are_tables_and_columns_that_exist() -> None:
    assert set(Base.metadata.tables) >= SECRET_TABLES
    for table, columns in SECRET_COLUMNS.items():
        assert {column.name for column in Base.metadata.tables[table].columns} > columns


def test_no_column_of_a_secret_is_left_to_readers() -> None:
    """A new column whose name tells a secret needs a decision: SECRET_COLUMNS, or here with its reason."""
    telling = ("hash", "secret", "private", "password")
    not_secret = {
        "audit_events.hash", "audit_events.prev_hash", "audit_head.last_hash",  # of the log, for who proves it
        "users.password_changed_at", "suppressions.phone_hash",  # keyed; readers see numbers anyway
    }  # fmt: skip
    found = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if any(word in column.name for word in telling) and table.name not in SECRET_TABLES
        if column.name not in SECRET_COLUMNS.get(table.name, ()) and "sha256" not in column.name
    }
    assert {name for name in found - not_secret if not name.startswith(("migration_", "contacts."))} == set()


@pytest.mark.parametrize("table", TABLES)
def test_application_may_exactly_what_its_line_says(upgraded: str, table: str) -> None:
    with connect(upgraded) as connection:
        assert may(connection, APP, table) == set(APP_RIGHTS[table])


@pytest.mark.parametrize("table", TABLES)
def test_readers_read_all_but_secrets(upgraded: str, table: str) -> None:
    with connect(upgraded) as connection:
        hidden = table in SECRET_TABLES or table in SECRET_COLUMNS
        assert may(connection, READER, table) == (set() if hidden else {"SELECT"})
        for column in Base.metadata.tables[table].columns if table in Base.metadata.tables else ():
            reads = connection.execute(
                "SELECT has_column_privilege(%s, %s, %s, 'SELECT')", (READER, table, column.name)
            ).fetchone()
            is_secret = table in SECRET_TABLES or column.name in SECRET_COLUMNS.get(table, ())
            assert reads == (not is_secret,), column.name


@pytest.mark.parametrize("table", TABLES)
def test_backups_read_everything_and_write_nothing(upgraded: str, table: str) -> None:
    with connect(upgraded) as connection:
        assert may(connection, BACKUP, table) == {"SELECT"}


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_is_written_once_is_not_changed_by_the_application(upgraded: str, table: str) -> None:
    for statement in ("UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"):
        column = sql.Identifier(next(iter(Base.metadata.tables[table].columns)).name)
        with connect(upgraded) as connection:
            become(connection, APP)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL(statement).format(sql.Identifier(table), column, column))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_head SET last_id = 0",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head VALUES (1, 0, '')",
        "SELECT FROM audit_head FOR UPDATE",
        "ALTER TABLE audit_events DISABLE TRIGGER chain",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only ON audit_events",
        "SET session_replication_role = replica",
        "CREATE TRIGGER mine BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
        "CREATE OR REPLACE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER FUNCTION chain_audit_event() SECURITY INVOKER",
        "DROP TABLE contacts",
        "CREATE TABLE mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER TABLE contacts ADD COLUMN mine int",
        "CREATE INDEX ON contacts (id)",
        "UPDATE alembic_version SET version_num = ''",
        "UPDATE numbering_plans SET in_force = false",
        "INSERT INTO backups DEFAULT VALUES",
        "DELETE FROM users",
    ],
)
def test_application_is_refused(upgraded: str, statement: str) -> None:
    with connect(upgraded) as connection:
        become(connection, APP)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_trigger_of_the_chain_cannot_be_attached_to_a_table_of_ones_own(upgraded: str) -> None:
    attach = "CREATE TRIGGER t BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.chain_audit_event()"
    with connect(upgraded) as connection:
        become(connection, APP)
        connection.execute("CREATE TEMP TABLE mine (LIKE audit_events)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(attach)
    with connect(upgraded) as connection:  # not even by the owner
        connection.execute("CREATE TEMP TABLE mine (LIKE audit_events)")
        connection.execute(attach)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO mine (actor_kind, actor, action, result) VALUES ('system', 's', 'a', 'ok')")


def test_application_adds_events_to_the_chain_and_proves_it(login: tuple[str, str]) -> None:
    with connect(login[0]) as connection:
        audit_service.record_sync(connection, SYSTEM, "test.write")
    assert audit_chain.verify(login[0]).ok


def test_application_keeps_what_it_made_in_temporary_objects_out_of_the_chain(login: tuple[str, str]) -> None:
    """A temporary table named as a real one does not stand in for it inside the trigger."""
    with connect(login[0]) as connection:
        connection.execute(
            "CREATE TEMP TABLE audit_head AS SELECT 1 AS one, 500::bigint AS last_id, ''::bytea AS last_hash"
        )
        audit_service.record_sync(connection, SYSTEM, "test.write")
        newest = connection.execute("SELECT max(id) FROM public.audit_events").fetchone()
    assert newest is not None
    assert newest[0] < 500
    assert audit_chain.verify(login[0]).ok


def test_application_writes_and_reads_where_it_may(login: tuple[str, str]) -> None:
    with connect(login[0]) as connection:
        connection.execute("INSERT INTO users (email, role) VALUES ('ana@example.com', 'admin') RETURNING id")
        connection.execute("INSERT INTO segments (name) VALUES ('all') RETURNING id")
        connection.execute("UPDATE users SET full_name = 'Ana'")
        connection.execute("SELECT FROM users FOR UPDATE")
        connection.execute("SELECT count(*) FROM migration_runs")
        connection.rollback()


def test_new_partitions_are_the_applications_through_their_parent(upgraded: str) -> None:
    with connect(upgraded) as connection:
        made = schema_service.ensure_message_partitions(connection, date(2031, 5, 9))
        assert "messages_2031_05" in made
        become(connection, APP)
        connection.execute("SELECT count(*) FROM messages WHERE created_at >= '2031-05-01'")
        plan = connection.execute(
            "EXPLAIN UPDATE messages SET state = state WHERE created_at >= '2031-05-01' AND created_at < '2031-06-01'"
        ).fetchall()
        assert "messages_2031_05" in str(plan)
        connection.execute("UPDATE messages SET state = state WHERE created_at >= '2031-05-01'")
        connection.rollback()


def test_upgrade_again_changes_no_right(upgraded: str) -> None:
    with connect(upgraded) as connection:
        before = connection.execute("SELECT oid, xmin FROM pg_class WHERE relacl IS NOT NULL ORDER BY 1").fetchall()
        connection.commit()
        done = role_service.apply(connection)
        assert (done.made, done.granted, done.revoked, done.refused) == ((), 0, 0, ())
        assert (
            connection.execute("SELECT oid, xmin FROM pg_class WHERE relacl IS NOT NULL ORDER BY 1").fetchall()
            == before
        )


def test_rights_that_somebody_gave_or_took_are_put_back(upgraded: str) -> None:
    with connect(upgraded) as connection:
        connection.execute("GRANT ALL ON consents TO sms_app")
        connection.execute("GRANT SELECT (password_hash) ON users TO sms_reader")
        connection.execute("REVOKE INSERT ON audit_events FROM sms_app")
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        done = role_service.apply(connection)
        assert done.granted == 1
        assert done.revoked >= 6
        assert role_service.granted(connection) == role_service.wanted(connection)
        become(connection, APP)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (id int)")


def test_table_of_somebody_else_is_not_given_to_the_groups(upgraded: str) -> None:
    with connect(upgraded) as connection:
        connection.execute("CREATE TABLE stranger (id int)")
        role_service.apply(connection)
        assert may(connection, APP, "stranger") | may(connection, READER, "stranger") == set()
        connection.execute("DROP TABLE stranger")


def test_groups_reach_a_schema_that_is_closed_to_public(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
        role_service.apply(connection)
        for group in GROUPS:
            row = connection.execute(role_service.REACHES, (group, group)).fetchone()
            assert row == (True, True)


def test_upgrades_at_once_in_one_database_and_in_others_all_succeed(
    server_url: str, template_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups belong to the server, and an advisory lock to a database: six that meet at making them make each once."""
    new = {f"sms_race_{uuid4().hex[:8]}": "Of a test." for _ in range(3)}
    backup = next(iter(new))
    monkeypatch.setattr(role_service, "GROUPS", {**GROUPS, **new})
    monkeypatch.setattr(role_service, "BACKUP", backup)
    start = threading.Barrier(6)

    def apply(url: str) -> RolesDone:
        with connect(url) as connection:
            start.wait()
            return role_service.apply(connection)

    with ExitStack() as stack:
        urls = [stack.enter_context(fresh_database(server_url, template_database)) for _ in range(6)]
        stack.callback(_drop_roles, server_url, list(new))
        with ThreadPoolExecutor(6) as upgrades:
            done = list(upgrades.map(apply, urls))
        with connect(server_url) as connection:
            assert connection.execute("SELECT pg_has_role(%s, 'pg_read_all_data', 'USAGE')", (backup,)).fetchone() == (
                True,
            )
    assert sorted(name for one in done for name in one.made) == sorted(new)
    assert [one.refused for one in done] == [()] * 6


def test_schema_upgrades_at_once_leave_the_rights_right(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as upgrades:
        list(upgrades.map(schema_service.upgrade, [empty_database_url] * 2))
    with connect(empty_database_url) as connection:
        assert role_service.granted(connection) == role_service.wanted(connection)


def _drop_roles(url: str, names: list[str]) -> None:
    with closing(connect(url, autocommit=True)) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def test_role_that_may_not_create_roles_goes_on_and_says_so(
    server_url: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, password = f"sms_plain_{uuid4().hex[:8]}", secrets.token_hex(8)
    missing = f"sms_absent_{uuid4().hex[:8]}"
    monkeypatch.setattr(role_service, "GROUPS", {**GROUPS, missing: "A group that is not there."})
    database = sql.Identifier(make_url(empty_database_url).database or "")
    with connect(server_url, autocommit=True) as superuser:
        superuser.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )
        superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(name)))
    url = make_url(empty_database_url).set(username=name, password=password).render_as_string(hide_password=False)
    with capture_logs() as lines:
        assert schema_service.upgrade(url).after == schema_service.head()
    (said,) = [line for line in lines if line["event"] == "roles_incomplete"]
    assert f"create role {missing}" in said["not_done"]
    with connect(empty_database_url) as connection:
        assert may(connection, APP, "audit_events") == {"SELECT", "INSERT"}
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_login_whose_password_was_lost_is_given_the_new_one(login: tuple[str, str], upgraded: str) -> None:
    url, name = login
    assert role_service.ensure_login(upgraded, name, make_url(url).password or "") == url
    again = role_service.ensure_login(upgraded, name, "other:p@ss/%word")
    with connect(again) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (name,)
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("30s",)


def test_application_url_of_the_embedded_server_is_not_the_owners(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    if settings.database_url or settings.database_admin_url:
        monkeypatch.setattr(context, "get_settings", lambda: settings.model_copy(update={"database_url": None}))
    else:
        monkeypatch.setattr(context, "get_settings", lambda: settings)
    with ThreadPoolExecutor(3) as commands:
        urls = list(commands.map(lambda _: context.application_url(), range(3)))
    assert len(set(urls)) == 1
    assert make_url(urls[0]).username == context.APPLICATION_LOGIN
    with connect(urls[0]) as connection:
        row = connection.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
    assert row == (False,)
