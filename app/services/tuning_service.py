"""Server settings for a bulk load, and back: only what a reload can change, remembered before it is changed.

Order that survives a kill at any moment: the old value is committed to server_settings_saved, then ALTER SYSTEM, then
the reload; on the way back ALTER SYSTEM, the reload, and only then the record is deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from app.core.database import connect
from app.core.errors import Conflict
from app.core.logs import get_logger
from app.models.migration import MIGRATION_LOCK

TUNING_LOCK = 7_302_020
"""Advisory lock of whoever changes or restores settings, so that nobody deletes a record that another relies on."""
BULK_SETTINGS = {
    # Checkpoints are what a load waits for: each one makes every page touched after it be written to WAL in full.
    "max_wal_size": "32GB",
    "checkpoint_timeout": "30min",
    "checkpoint_completion_target": "0.9",
}
"""autovacuum stays on (the loader turns it off for its own table), wal_compression as it is, wal_level replica."""
MAX_WAL_SHARE_OF_FREE_DISK = 1 / 3
MIN_WAL_BYTES = 1 << 30
SUMMARIES = "summarize_wal"
SHOWN = (
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "max_wal_size",
    "checkpoint_timeout",
    "checkpoint_completion_target",
    "wal_level",
    "wal_compression",
    "summarize_wal",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "autovacuum",
    "max_connections",
    "max_parallel_maintenance_workers",
)
# 'may not': no right to the parameter; 'cannot': managed services and allow_alter_system = off.
REFUSALS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)

log = get_logger("tuning")


@dataclass(frozen=True, slots=True)
class Setting:
    """A server setting, its value before and after, with units, as SHOW prints them; `after` None: its default."""

    name: str
    before: str
    after: str | None


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What was changed, and, when the role may not change settings, the server's own words."""

    applied: tuple[Setting, ...]
    refused: str | None


def apply_bulk(db_url: str) -> TuneResult:
    """Set the server for a bulk load; what is already so, or beyond, is left alone. A refusal is reported, not raised.

    Raises: Unavailable when the server cannot be reached, Conflict `schema_behind` where there is nowhere to remember.
    """
    with _tuning(db_url) as connection:
        if not _has_records(connection):
            raise Conflict("The database has no schema yet: run `smsctl db upgrade`.", code="schema_behind")
        applied: list[Setting] = []
        try:
            for name, value in bulk_settings(connection).items():
                before = _value(connection, name)
                if _size(connection, name, before) < _size(connection, name, value):
                    _save(connection, name)
                    _alter(connection, name, value)
                    applied.append(Setting(name, before, value))
            _reload(connection)
        except REFUSALS as error:
            # Whatever was saved is put back: half a tuning is none.
            _put_back(connection)
            return TuneResult((), _refusal(error))
        log.info("bulk settings applied", settings=", ".join(f"{s.name}={s.after}" for s in applied) or "none needed")
        return TuneResult(tuple(applied), None)


def keep_wal_summaries(db_url: str) -> TuneResult:
    """Turn summarize_wal on (PostgreSQL 17 and newer), which incremental backups need; `restore` puts it back.

    A refusal is reported, not raised. Raises: Unavailable when the server cannot be reached, Conflict `schema_behind`.
    """
    with _tuning(db_url) as connection:
        if not _has_records(connection):
            raise Conflict("The database has no schema yet: run `smsctl db upgrade`.", code="schema_behind")
        before = _value(connection, SUMMARIES)
        if before == "on":
            return TuneResult((), None)
        try:
            _save(connection, SUMMARIES)
            _alter(connection, SUMMARIES, "on")
            _reload(connection)
        except REFUSALS as error:
            # A record of what was then not changed does no harm: restore() finds nothing to do, and deletes it.
            return TuneResult((), _refusal(error))
        return TuneResult((Setting(SUMMARIES, before, "on"),), None)


def restore(db_url: str) -> TuneResult:
    """Put back every setting that apply_bulk changed; nothing to do is fine. Safe to repeat after a kill.

    Raises: Unavailable when the server cannot be reached.
    """
    with _tuning(db_url) as connection:
        return _restore(connection)


def restore_if_abandoned(db_url: str) -> TuneResult:
    """As restore(), when settings are saved but no session holds MIGRATION_LOCK: the run that set them was killed.

    Raises: Unavailable when the server cannot be reached.
    """
    with _tuning(db_url) as connection:
        return TuneResult((), None) if _migration_runs(connection) else _restore(connection)


def show(db_url: str) -> tuple[Setting, ...]:
    """The settings that matter here; `before` is the value now, `after` what a saved record would bring back."""
    with _tuning(db_url) as connection:
        saved = dict(_saved(connection))
        there = connection.execute("SELECT name FROM pg_settings WHERE name = ANY(%s)", (list(SHOWN),)).fetchall()
        names = {row[0] for row in there}
        values = ((name, _value(connection, name)) for name in SHOWN if name in names)
        return tuple(Setting(name, value, saved.get(name) if name in saved else value) for name, value in values)


def bulk_settings(connection: psycopg.Connection) -> dict[str, str]:
    """BULK_SETTINGS, with max_wal_size bounded by a third of the free disk where that can be seen (1 GB at least)."""
    wanted = dict(BULK_SETTINGS)
    free = free_disk(connection)
    if free is not None and "max_wal_size" in wanted:
        most = max(int(free * MAX_WAL_SHARE_OF_FREE_DISK), MIN_WAL_BYTES) >> 20
        if most < _size(connection, "max_wal_size", wanted["max_wal_size"]):
            wanted["max_wal_size"] = f"{most}MB"
    return wanted


@contextmanager
def _tuning(db_url: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection (ALTER SYSTEM runs in no transaction) that holds TUNING_LOCK."""
    connection = connect(db_url, autocommit=True, application_name="smsctl tune")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (TUNING_LOCK,))
        yield connection
    finally:
        connection.close()


def free_disk(connection: psycopg.Connection) -> int | None:
    """Free bytes beside the server's data; None when it runs elsewhere, or does not say where its data is."""
    host = connection.info.host
    if host not in ("localhost", "127.0.0.1", "::1") and not host.startswith("/"):
        return None
    row = connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    if row is None or not row[0]:
        return None
    try:
        return shutil.disk_usage(Path(row[0])).free
    except OSError:
        return None


def _value(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def _size(connection: psycopg.Connection, name: str, value: str) -> float:
    """`value` as a number to compare by: megabytes of memory, seconds of time, the number itself without a unit."""
    row = connection.execute("SELECT unit FROM pg_settings WHERE name = %s", (name,)).fetchone()
    unit = row[0] if row else None
    if unit is None:
        return float(value)
    statement = "SELECT pg_size_bytes(%s) >> 20" if unit.endswith("B") else "SELECT extract(epoch FROM %s::interval)"
    number = connection.execute(statement, (value,)).fetchone()
    return float(number[0]) if number else 0.0


def _save(connection: psycopg.Connection, name: str) -> None:
    """Remember what postgresql.auto.conf says of `name`; an older record is the truer one and stays.

    Raises: InsufficientPrivilege where the role cannot see the file's settings, so could not restore them either.
    """
    connection.execute(
        "INSERT INTO server_settings_saved (name, previous) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
        (name, _in_auto_conf(connection, name)),
    )


def _alter(connection: psycopg.Connection, name: str, value: str | None) -> None:
    setting = sql.Identifier(name)
    if value is None:
        connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(setting))
    else:
        connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(setting, sql.Literal(value)))


def _reload(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_reload_conf()")


def _has_records(connection: psycopg.Connection) -> bool:
    return connection.execute("SELECT to_regclass('server_settings_saved') IS NOT NULL").fetchone() == (True,)


def _saved(connection: psycopg.Connection) -> list[tuple[str, str | None]]:
    """Saved settings; none when the schema is not there yet."""
    if not _has_records(connection):
        return []
    rows = connection.execute("SELECT name, previous FROM server_settings_saved ORDER BY name").fetchall()
    return [(name, previous) for name, previous in rows]


def _restore(connection: psycopg.Connection) -> TuneResult:
    before = {name: _value(connection, name) for name, _ in _saved(connection)}
    try:
        restored = _put_back(connection)
    except REFUSALS as error:
        return TuneResult((), _refusal(error))
    if restored:
        log.info("server settings restored", settings=", ".join(name for name, _ in restored))
    return TuneResult(tuple(Setting(name, before[name], previous) for name, previous in restored), None)


def _put_back(connection: psycopg.Connection) -> list[tuple[str, str | None]]:
    """Undo every saved change; the records go last, so that a kill in between leaves them for the next attempt."""
    saved = _saved(connection)
    changed = [(name, previous) for name, previous in saved if previous != _in_auto_conf(connection, name)]
    for name, previous in changed:
        _alter(connection, name, previous)
    if saved:
        try:
            _reload(connection)
        except REFUSALS:
            if changed:
                raise
            log.debug("no right to reload, and nothing was changed")
        connection.execute("DELETE FROM server_settings_saved WHERE name = ANY(%s)", ([name for name, _ in saved],))
    return saved


def _in_auto_conf(connection: psycopg.Connection, name: str) -> str | None:
    """The value that ALTER SYSTEM left for `name`; None when it did not."""
    row = connection.execute(
        "SELECT setting FROM pg_file_settings WHERE name = %s AND sourcefile LIKE '%%postgresql.auto.conf'"
        " ORDER BY seqno DESC LIMIT 1",
        (name,),
    ).fetchone()
    return str(row[0]) if row else None


def _migration_runs(connection: psycopg.Connection) -> bool:
    """Whether a session on this database holds MIGRATION_LOCK (a bigint key: high half 0, objsubid 1)."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
        " AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        (MIGRATION_LOCK,),
    ).fetchone()
    return row == (True,)


def _refusal(error: psycopg.Error) -> str:
    return f"settings were left as they are: {error.diag.message_primary or error}"
