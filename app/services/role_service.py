"""Roles of the database: what the application, readers and backups may do with each table. Made by each upgrade.

The owner of the schema is whoever runs `smsctl db upgrade`. Three groups without a password get rights; who signs in is
made a member of one: CREATE ROLE reporting LOGIN PASSWORD '…' IN ROLE sms_reader. Roles belong to the whole server and
rights to one database. Of REPLICATION, which pg_basebackup needs, no member inherits anything: it is given to the
login role itself (ALTER ROLE … REPLICATION).

A table without a line in APP_RIGHTS is nobody's but its owner's. Partitions need nothing of their own, as they are
reached through their parent; identity columns draw from their sequence without a right to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import Connection, sql

from app.core.database import connect, libpq_url
from app.core.errors import Unavailable
from app.core.logs import get_logger
from app.models import Base
from app.services.numbering_service import read_sql

APP, READER, BACKUP = "sms_app", "sms_reader", "sms_backup"
GROUPS: Mapping[str, str] = MappingProxyType(
    {
        APP: "SMS platform: the service and its workers.",
        READER: "SMS platform: reads all but secrets.",
        BACKUP: "SMS platform: reads all, for dumps.",
    }
)
LOGIN_LOCK = 7_302_021
"""Advisory lock of whoever makes or mends a login role."""
IDLE_IN_TRANSACTION = "30s"
"""A session of the application that stopped in mid-transaction gives up its locks, the audit chain's end among them."""
LOCK_TIMEOUT = "5s"

_READ, _ADD = ("SELECT",), ("SELECT", "INSERT")
_KEEP = ("SELECT", "INSERT", "UPDATE")
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

APP_RIGHTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # Written once.
        **dict.fromkeys(
            (
                "audit_events", "campaign_moves", "chunk_attempts", "consents", "segment_versions", "submissions",
                "template_versions",
            ),
            _ADD,
        ),
        # Disabled, revoked, lifted or archived, and never deleted.
        **dict.fromkeys(
            ("api_keys", "messages", "segments", "signing_keys", "suppressions", "templates", "users"), _KEEP
        ),
        **dict.fromkeys(
            (
                "auth_sessions", "campaign_expansions", "campaign_progress", "campaigns", "contacts", "invitations",
                "message_chunks", "receipts_inbox", "recovery_codes", "refresh_tokens", "second_factors",
            ),
            _ALL,
        ),
        # Written by commands of the schema's owner, or by a trigger that runs as the owner.
        **dict.fromkeys(
            (
                "alembic_version", "audit_head", "backups", "migration_batches", "migration_detached",
                "migration_rejects", "migration_repairs", "migration_runs", "missing_ladas", "numbering_plans",
                "numbering_ranges", "numbering_reclassifications", "server_settings_saved", "source_statistics",
            ),
            _READ,
        ),
    }
)  # fmt: skip
"""What sms_app may, table by table: every table of the models and Alembic's own."""

SECRET_TABLES = frozenset({"invitations", "recovery_codes", "refresh_tokens", "second_factors", "signing_keys"})
"""Nothing of these is for readers."""
SECRET_COLUMNS: Mapping[str, frozenset[str]] = MappingProxyType(
    {"users": frozenset({"password_hash"}), "api_keys": frozenset({"key_hash"})}
)
"""Readers are given the other columns of these, one by one: SELECT * is refused them."""

REACHES = """
SELECT has_schema_privilege(%s, 'public', 'USAGE'), has_database_privilege(%s, current_database(), 'CONNECT')
"""
PUBLIC_CREATES = """
SELECT FROM pg_namespace CROSS JOIN LATERAL aclexplode(nspacl) a
WHERE nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
"""

log = get_logger("roles")


class Right(NamedTuple):
    """One privilege of a group on a table, or on one column of it ('': the whole table)."""

    group: str
    table: str
    column: str
    privilege: str


@dataclass(frozen=True, slots=True)
class RolesDone:
    """What an apply() did, and what it was not allowed to do."""

    made: tuple[str, ...]
    granted: int
    revoked: int
    refused: tuple[str, ...]


def apply(connection: Connection) -> RolesDone:
    """Make the groups that are not there, and give them in this database exactly the rights written above.

    Run again it changes nothing. What the connection's role may not do is logged and left out. Several may run at once,
    in this database or others. Commits. Locks: none on tables that anybody would notice; a row of pg_class a changed
    table.
    Raises: psycopg.errors.LockNotAvailable when a catalog row stays locked for LOCK_TIMEOUT.
    """
    connection.commit()
    refused: list[str] = []
    made = tuple(name for name in GROUPS if _make_group(connection, name, refused))
    _join(connection, refused)
    granted, revoked = _grant(connection, refused)
    _open_schema(connection, refused)
    if refused:
        log.warning("roles_incomplete", not_done="; ".join(refused), hint="let an administrator run smsctl db upgrade")
    elif made or granted or revoked:
        log.info("roles set", made=len(made), granted=granted, revoked=revoked)
    return RolesDone(made, granted, revoked, tuple(refused))


def ensure_login(admin_url: str, login: str, password: str, group: str = APP) -> str:
    """The URL of `admin_url`'s database for role `login`, a member of `group` that is made, or given the password.

    Nothing is changed when the role already signs in with it.
    Raises: Unavailable when it cannot sign in even then; psycopg.errors.InsufficientPrivilege.
    """
    parts = urlsplit(libpq_url(admin_url))
    address = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{quote(login, safe='')}:{quote(password, safe='')}@{address}"))
    if _signs_in(url):
        return url
    with connect(admin_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOGIN_LOCK,))
        _make_role(connection, group, sql.SQL("NOLOGIN"))
        _make_role(connection, login, sql.SQL("LOGIN"))
        role = sql.Identifier(login)
        # A verifier, not the password: statements may be logged.
        verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(verifier)))
        connection.execute(
            sql.SQL("ALTER ROLE {} SET idle_in_transaction_session_timeout = {}").format(
                role, sql.Literal(IDLE_IN_TRANSACTION)
            )
        )
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role))
    connect(url).close()
    return url


def wanted(connection: Connection) -> frozenset[Right]:
    """The rights that the groups must have on the tables that are there."""
    rows = connection.execute(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
    ).fetchall()
    return frozenset(right for (table,) in rows for right in _rights_on(table))


def granted(connection: Connection) -> frozenset[Right]:
    """The rights that the groups have on tables now, by a grant to the group itself."""
    rows = connection.execute(read_sql("rights_granted.sql"), {"groups": list(GROUPS)}).fetchall()
    return frozenset(Right(*row) for row in rows)


def _rights_on(table: str) -> Iterator[Right]:
    for privilege in APP_RIGHTS.get(table, ()):
        yield Right(APP, table, "", privilege)
    if table not in APP_RIGHTS or table in SECRET_TABLES:
        return
    if table not in SECRET_COLUMNS:
        yield Right(READER, table, "", "SELECT")
        return
    for column in Base.metadata.tables[table].columns:
        if column.name not in SECRET_COLUMNS[table]:
            yield Right(READER, table, column.name, "SELECT")


@contextmanager
def _allowed(connection: Connection, what: str, refused: list[str]) -> Iterator[None]:
    """A transaction of its own (a savepoint in one) whose refusal is noted and not raised."""
    try:
        with connection.transaction():
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        refused.append(f"{what}: {error.diag.message_primary}")


def _make_group(connection: Connection, name: str, refused: list[str]) -> bool:
    """Whether the group was made now."""
    made = False
    with _allowed(connection, f"create role {name}", refused):
        made = _make_role(connection, name, sql.SQL("NOLOGIN"))
        if made:
            comment = sql.SQL("COMMENT ON ROLE {} IS {}")
            connection.execute(comment.format(sql.Identifier(name), sql.Literal(GROUPS[name])))
    return made


def _make_role(connection: Connection, name: str, kind: sql.SQL) -> bool:
    """Whether the role was made now. Who meets another that makes it, waits for him and then finds it there."""
    if _exists(connection, name):
        return False
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), kind))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return False
    return True


def _exists(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is not None


def _present(connection: Connection) -> list[str]:
    with connection.transaction():
        return [name for name in GROUPS if _exists(connection, name)]


def _join(connection: Connection, refused: list[str]) -> None:
    """sms_backup may read everything, row-level security apart; asked first, as a second grant writes a row again."""
    if BACKUP not in _present(connection):
        return
    member = "SELECT pg_has_role(%s, 'pg_read_all_data', 'MEMBER')"
    try:
        with _allowed(connection, f"grant pg_read_all_data to {BACKUP}", refused):
            if connection.execute(member, (BACKUP,)).fetchone() != (True,):
                connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(BACKUP)))
    except psycopg.errors.UniqueViolation:  # another database's upgrade was as quick
        log.debug("granted meanwhile", role=BACKUP)


def _grant(connection: Connection, refused: list[str]) -> tuple[int, int]:
    """Bring rights on tables to what is wanted, a statement a group and table; how many were given and taken."""
    present = frozenset(_present(connection))
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        goal = {right for right in wanted(connection) if right.group in present}
        there = granted(connection)
        before = len(refused)
        with _allowed(connection, "set rights on tables", refused):
            _change(connection, sql.SQL("REVOKE {} ON TABLE {} FROM {}"), there - goal)
            _change(connection, sql.SQL("GRANT {} ON TABLE {} TO {}"), goal - there)
    return (len(goal - there), len(there - goal)) if len(refused) == before else (0, 0)


def _change(connection: Connection, statement: sql.SQL, rights: Iterable[Right]) -> None:
    grouped: dict[tuple[str, str], list[Right]] = {}
    for right in sorted(rights):
        grouped.setdefault((right.table, right.group), []).append(right)
    for (table, group), some in grouped.items():
        privileges = sql.SQL(", ").join(_privilege(right) for right in some)
        connection.execute(statement.format(privileges, sql.Identifier("public", table), sql.Identifier(group)))


def _privilege(right: Right) -> sql.Composable:
    privilege = sql.SQL(right.privilege)
    return privilege if not right.column else sql.SQL("{} ({})").format(privilege, sql.Identifier(right.column))


def _open_schema(connection: Connection, refused: list[str]) -> None:
    """Nobody but its owner makes things in schema public; the groups reach it where PUBLIC no longer does."""
    with _allowed(connection, "revoke CREATE on schema public from PUBLIC", refused):
        if connection.execute(PUBLIC_CREATES).fetchone() is not None:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for group in _present(connection):
        role = sql.Identifier(group)
        with _allowed(connection, f"open the database to {group}", refused):
            usage, may_connect = connection.execute(REACHES, (group, group)).fetchone() or (True, True)
            if not usage:
                connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
            if not may_connect:
                database = sql.Identifier(connection.info.dbname)
                connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))


def _signs_in(url: str) -> bool:
    try:
        connect(url).close()
    except Unavailable:
        return False
    return True
