"""The schema's life: brought up to date, asked for its version, given partitions for the months to come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError

from app.core.clock import utc_now
from app.core.config import PROJECT_ROOT
from app.core.database import connect, hide_password, libpq_url, sqlalchemy_url
from app.core.errors import Broken, Conflict, Forbidden, Unavailable
from app.core.logs import get_logger
from app.models import Base
from app.models.message import MESSAGE_FILLFACTOR
from app.services import numbering_service, role_service
from app.services.schema_drift import check_drift

__all__ = [
    "SchemaState",
    "check_drift",
    "check_shipped",
    "current",
    "downgrade",
    "ensure_message_partitions",
    "head",
    "require_head",
    "upgrade",
]

SCHEMA_LOCK = 7_302_018
"""Advisory lock of whoever changes the schema; a second one waits, and then finds nothing to do."""
MONTHS_AHEAD = 3
LOCK_TIMEOUT = "5s"
"""A DDL statement that waits for a lock makes everyone behind it wait too: give up early, run it again."""

log = get_logger("schema")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Revisions before and after an upgrade; None: an empty database."""

    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return self.before != self.after


def upgrade(db_url: str) -> SchemaState:
    """Bring the database to the newest revision, with partitions for the coming months and a numbering plan in force.

    At the end the groups of roles get their rights (role_service); what the role may not do of that is logged.
    Safe to run by several at once, and again. Commits each revision by itself.

    Raises: Unavailable (no server, or it went away), Conflict `schema_locked` (tables in use) or `database_encoding`,
    Forbidden (the role may not).
    """
    with _schema_lock(db_url) as connection, _translated(db_url):
        _require_utf8(connection)
        _require_room(connection)
        state = _migrate(db_url, "head")
        numbering_service.ensure_packaged_plan(connection)
        connection.commit()
        role_service.apply(connection)
        return state


def downgrade(db_url: str, revision: str = "base") -> SchemaState:
    """Take the schema back to `revision`; 'base' removes every table and everything in it.

    Raises: as upgrade().
    """
    with _schema_lock(db_url):
        before = current(db_url)
        with _translated(db_url):
            command.downgrade(_config(db_url), revision)
        return SchemaState(before, current(db_url))


def current(db_url: str) -> str | None:
    """The revision that the database is at; None when it has no schema.

    Raises: Unavailable when it cannot be reached.
    """
    connect(db_url).close()
    with _translated(db_url), create_engine(sqlalchemy_url(db_url), poolclass=pool.NullPool).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision that this program ships.

    Raises: Broken when the shipped revisions do not end in one head.
    """
    newest = ScriptDirectory.from_config(_config("")).get_current_head()
    if newest is None:
        raise Broken("No migrations were found: the installation is incomplete.", code="schema_no_revisions")
    return newest


def require_head(db_url: str) -> None:
    """Return when the database is at the newest revision.

    Raises: Conflict `schema_behind`, or `schema_ahead` when a newer program has changed it.
    """
    revision = current(db_url)
    if revision == head():
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config("")).walk_revisions()}
    if revision is None or revision in known:
        state = "has no schema yet" if revision is None else f"is at revision {revision}, this program needs {head()}"
        raise Conflict(f"The database {state}: run `smsctl db upgrade`.", code="schema_behind")
    raise Conflict(
        f"The database is at revision {revision}, which this program does not know: install the newer one.",
        code="schema_ahead",
    )


def ensure_message_partitions(session: psycopg.Connection, today: date) -> tuple[str, ...]:
    """Make the monthly partitions of messages for the month of `today` and the next three; returns those made.

    Rows that meanwhile fell into the default partition are moved into theirs. Months are those of UTC. Locks: SHARE
    UPDATE EXCLUSIVE on messages, ACCESS EXCLUSIVE on messages_default while a partition is attached. Does not commit.
    """
    made = []
    for offset in range(MONTHS_AHEAD + 1):
        first, following = _month(today, offset), _month(today, offset + 1)
        name = f"messages_{first:%Y_%m}"
        if session.execute("SELECT to_regclass(%s)", (f"public.{name}",)).fetchone() != (None,):
            continue
        _make_partition(session, name, first, following)
        made.append(name)
    return tuple(made)


def check_shipped(admin_url: str) -> list[str]:
    """Differences between the shipped migrations and the models, found in a scratch database that is dropped again.

    Raises: Forbidden when the role may not create a database.
    """
    name = f"sms_drift_check_{uuid4().hex[:12]}"
    scratch_url = urlunsplit(urlsplit(libpq_url(admin_url))._replace(path=f"/{name}"))
    with connect(admin_url, autocommit=True) as connection, _translated(admin_url):
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
        )
        try:
            _migrate(scratch_url, "head")
            return check_drift(scratch_url)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _require_utf8(connection: psycopg.Connection) -> None:
    """Names are kept in UTF-8; SQL_ASCII would take any bytes, LATIN1 would lose some. Raises: Conflict."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Conflict(
            f"The database is in {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0.",
            code="database_encoding",
        )


def _require_room(connection: psycopg.Connection) -> None:
    """A database without our schema has no table of a name that we need: nothing is begun there. Raises: Conflict."""
    ours = sorted(Base.metadata.tables)
    taken = connection.execute(
        """SELECT string_agg(tablename, ', ' ORDER BY tablename) FROM pg_tables
           WHERE schemaname = 'public' AND tablename = ANY(%s) AND to_regclass('public.alembic_version') IS NULL""",
        (ours,),
    ).fetchone()
    if taken and taken[0]:
        raise Conflict(
            f"The database holds tables of others with names that are needed ({taken[0]}): give it an empty one.",
            code="schema_taken",
        )


def _migrate(db_url: str, revision: str) -> SchemaState:
    before = current(db_url)
    with _translated(db_url):
        command.upgrade(_config(db_url), revision)
        with connect(db_url) as connection:
            made = ensure_message_partitions(connection, utc_now().astimezone(UTC).date())
    state = SchemaState(before, current(db_url))
    if state.changed or made:
        log.info("schema upgraded", before=state.before, after=state.after, partitions=len(made))
    return state


def _config(db_url: str) -> Config:
    """Alembic's configuration without alembic.ini: paths hang on the project's root, not on the caller's."""
    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = db_url
    config.attributes["lock_timeout"] = LOCK_TIMEOUT
    return config


@contextmanager
def _schema_lock(db_url: str) -> Iterator[psycopg.Connection]:
    """A connection that holds SCHEMA_LOCK for the length of the block; waits for it."""
    with connect(db_url, application_name="smsctl schema") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
        connection.commit()
        yield connection


@contextmanager
def _translated(db_url: str) -> Iterator[None]:
    """Turn what the server refuses into an error that says what to do; a mistake of our own stays what it is."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = str(getattr(getattr(cause, "diag", None), "message_primary", None) or cause).strip()
        if isinstance(cause, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
            raise Conflict(
                "The schema cannot be changed while its tables are in use: end what runs and try again.",
                code="schema_locked",
            ) from error
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            raise Forbidden(
                f"The role in {hide_password(db_url)} may not: {message}. Set DATABASE_ADMIN_URL.",
                code="schema_forbidden",
            ) from error
        if isinstance(cause, psycopg.errors.DuplicateTable | psycopg.errors.DuplicateObject):
            raise Conflict(
                f"The database holds things of others ({message}): give it an empty one.", code="schema_taken"
            ) from error
        if isinstance(cause, psycopg.OperationalError):
            raise Unavailable(
                f"PostgreSQL ended the work: {message}. Mend that and run `smsctl db upgrade` again.",
                code="schema_interrupted",
            ) from error
        raise


def _month(day: date, offset: int) -> datetime:
    """Midnight UTC of the first of the month `offset` months after that of `day`."""
    years, month = divmod(day.month - 1 + offset, 12)
    return datetime(day.year + years, month + 1, 1, tzinfo=UTC)


def _make_partition(session: psycopg.Connection, name: str, first: datetime, following: datetime) -> None:
    partition = sql.Identifier(name)
    session.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = {})"
        ).format(partition, sql.Literal(MESSAGE_FILLFACTOR))
    )
    session.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(partition, sql.Literal(f"Messages of {first:%Y-%m}, UTC."))
    )
    session.execute("LOCK TABLE messages_default IN ACCESS EXCLUSIVE MODE")
    session.execute(
        sql.SQL(
            "WITH moved AS (DELETE FROM messages_default WHERE created_at >= %s AND created_at < %s RETURNING *)"
            " INSERT INTO {} SELECT * FROM moved"
        ).format(partition),
        (first, following),
    )
    session.execute(
        sql.SQL("ALTER TABLE messages ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            partition, sql.Literal(first.isoformat()), sql.Literal(following.isoformat())
        )
    )
