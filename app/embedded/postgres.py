"""The embedded PostgreSQL: found when it runs, started when it does not, whatever was killed before.

The truth is the cluster's postmaster.pid and the server's answer; SMS_DATA_DIR/run/postgres.json is a note.
"""

from __future__ import annotations

import shutil
import time
from enum import Enum, auto
from pathlib import Path

import psycopg
from psycopg import sql

from app.core.clock import utc_now
from app.core.config import Settings
from app.core.database import APPLICATION_NAME
from app.core.errors import Unavailable
from app.embedded import cluster, processes
from app.embedded.binaries import postgres_bin_directory
from app.embedded.cluster import API_PASSWORD, OWNER, PASSWORD, Postmaster, find_postmaster
from app.embedded.layout import (
    Home,
    ServerRecord,
    base,
    home_path,
    log_file,
    postgres_home,
    prepare_home,
    read_places,
    read_record,
    remove_log,
    remove_private,
    run_file,
    secret,
    usable,
    write_record,
)
from app.embedded.processes import RunAs, Spawn

DATABASE = "sms"
EXTENSIONS = ("pg_trgm", "unaccent", "btree_gin", "pg_stat_statements", "citext")
PREPARED = "1"  # raise it when what _prepare makes changes
LOCK = "postgres.lock"
LOCK_PATIENCE_S = 60.0


class _Answer(Enum):
    READY = auto()
    NO_DATABASE = auto()
    NOT_YET = auto()


def ensure_postgres(settings: Settings, spawn: Spawn = processes.spawn_detached) -> str:
    """The URL (postgresql://, superuser) of the embedded database of this SMS_DATA_DIR; starts the server if need be.

    A live server is never restarted, and of commands that come at the same time one starts it. It outlives this
    process unless `spawn` ties it.
    Raises: Unavailable when it cannot run, Conflict when another command holds the lock for minutes.
    """
    with usable(settings):
        running = find_postmaster(postgres_home(settings).data)
        record = read_record(settings, "postgres")
        known = running is not None and record is not None and record.prepared == PREPARED
        if known and running and _ask(settings, running.port, DATABASE) is _Answer.READY:
            return _url(settings, running.port, DATABASE)
        with _locked(settings):
            running = _bring_up(settings, spawn)
            return _url(settings, running.port, DATABASE)


def application_password(settings: Settings) -> str:
    """The password of the embedded server's login for the application, made at the first call."""
    with usable(settings):
        return secret(settings, API_PASSWORD)


def is_initialised(settings: Settings) -> bool:
    """True when this SMS_DATA_DIR has a cluster, whether it runs or not; starts and makes nothing."""
    with usable(settings):
        return (home_path(settings) / "data" / "PG_VERSION").exists()


def postgres_bin(settings: Settings, name: str) -> Path:
    """The path of one of PostgreSQL's programs (psql, pg_basebackup, …) that the server's account can run.

    Raises: Unavailable when the wheel or the program is not there.
    """
    with usable(settings):
        home = postgres_home(settings)
        if not (home.data / "PG_VERSION").exists():
            with _locked(settings):
                home = postgres_home(settings) if find_postmaster(home.data) else prepare_home(settings)
        with _locked(settings):
            path = postgres_bin_directory(settings, home) / name
        if not path.is_file():
            raise Unavailable(f"The embedded PostgreSQL has no program {name}.", code="embedded_missing")
        return path


def postgres_run_as(settings: Settings) -> RunAs:
    """Keyword arguments for subprocess that run a program as PostgreSQL's account; empty unless we are root."""
    return postgres_home(settings).run_as


def running_postgres(settings: Settings) -> tuple[Postmaster, Path] | None:
    """The live server of this SMS_DATA_DIR and its data directory, or None; starts nothing."""
    with usable(settings):
        data = postgres_home(settings).data
        found = find_postmaster(data)
    return (found, data) if found else None


def stop_postgres(settings: Settings) -> str | None:
    """Stop the server if it runs; one line that says so, or None."""
    with usable(settings), _locked(settings):
        stopped = cluster.stop(postgres_home(settings))
    return f"stopped PostgreSQL (process {stopped.pid}, port {stopped.port})" if stopped else None


def purge_postgres(settings: Settings) -> list[str]:
    """Delete the stopped server's files, wherever they are; one line for each place."""
    removed = []
    with usable(settings), _locked(settings):
        home, places = postgres_home(settings), read_places(settings)
        cluster.stop(home)
        cluster.kill_orphans(home)
        private = (places.postgres_home, places.runtime)
        removed += [f"removed {place}" for place in private if remove_private(place)]
        inside = base(settings) / "postgres"
        if inside.exists():
            shutil.rmtree(inside)
            removed.append(f"removed {inside}")
        for note in ("postgres.json", "places.json"):
            run_file(settings, note).unlink(missing_ok=True)
        for name in (PASSWORD, API_PASSWORD):
            (base(settings) / "secrets" / name).unlink(missing_ok=True)
        remove_log(settings, "postgres")
    return removed


def _locked(settings: Settings) -> processes.ExclusiveLock:
    patience = settings.embedded.start_timeout_s + LOCK_PATIENCE_S
    return processes.exclusive(run_file(settings, LOCK), patience)


def _url(settings: Settings, port: int, database: str) -> str:
    return f"postgresql://{OWNER}:{secret(settings, PASSWORD)}@127.0.0.1:{port}/{database}"


def _bring_up(settings: Settings, spawn: Spawn) -> Postmaster:
    """Adopt or start the server, under its lock; its database is there afterwards and the note is right."""
    deadline = time.monotonic() + settings.embedded.start_timeout_s
    record = read_record(settings, "postgres")
    home = postgres_home(settings)
    running = find_postmaster(home.data)
    answer = _await_answer(settings, home, deadline) if running else None
    if answer is None:  # none ran, or the one that did was just going down
        home = prepare_home(settings)
        programs = postgres_bin_directory(settings, home)
        if cluster.initialise(settings, home, programs):
            run_file(settings, "postgres.json").unlink(missing_ok=True)
        cluster.write_conf(settings, home, programs)
        cluster.start(settings, home, programs, spawn, record.port if record else None)
        answer = _await_answer(settings, home, deadline)
    running = find_postmaster(home.data)
    if running is None or answer is None:
        raise Unavailable("PostgreSQL ended right after its start; run the command again.", code="embedded_start")
    record = read_record(settings, "postgres")
    if answer is _Answer.NO_DATABASE or record is None or record.prepared != PREPARED:
        _prepare(settings, running.port)
    write_record(settings, "postgres", ServerRecord(running.pid, running.port, utc_now().isoformat(), PREPARED))
    return running


def _await_answer(settings: Settings, home: Home, deadline: float) -> _Answer | None:
    """The first answer that is not "not yet"; None when the server is gone.

    Raises: Unavailable when it still has not answered at the deadline.
    """
    while running := find_postmaster(home.data):
        answer = _ask(settings, running.port, DATABASE)
        if answer is not _Answer.NOT_YET:
            return answer
        if time.monotonic() > deadline:
            raise Unavailable(
                f"PostgreSQL (process {running.pid}) runs but does not take connections yet; after a crash it may be "
                f"replaying its log ({log_file(settings, 'postgres')}). Run the command again in a while.",
                code="embedded_not_ready",
            )
        time.sleep(processes.POLL_S)
    return None


def _ask(settings: Settings, port: int, database: str) -> _Answer:
    try:
        psycopg.connect(
            _url(settings, port, database),
            application_name=APPLICATION_NAME,
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
        ).close()
    except psycopg.OperationalError as error:
        reason = str(error)
        if "authentication failed" in reason:
            message = (
                f"The embedded PostgreSQL does not accept the password in {base(settings) / 'secrets' / PASSWORD}; "
                "restore that file, or remove the server's data with `smsctl down --purge`."
            )
            raise Unavailable(message, code="embedded_password") from error
        if "does not exist" in reason:
            return _Answer.NO_DATABASE
        if "too many clients" in reason or "connection slots" in reason:
            return _Answer.READY  # it lives; that it is full is for the caller to meet
        return _Answer.NOT_YET
    return _Answer.READY


def _prepare(settings: Settings, port: int) -> None:
    """Make the database and its extensions; what is there is left alone."""
    try:
        with psycopg.connect(_url(settings, port, "postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with psycopg.connect(_url(settings, port, DATABASE), autocommit=True) as connection:
            known = connection.execute(
                "SELECT name FROM pg_available_extensions WHERE name = ANY(%s)", (list(EXTENSIONS),)
            ).fetchall()
            for (name,) in known:
                connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise Unavailable(
            f"The embedded PostgreSQL cannot make its database: {str(error).splitlines()[0]}", code="embedded_prepare"
        ) from error
