"""Real `smsctl` processes to stop and to kill, and the whole state of a database to compare afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql

from app.core.database import connect
from app.core.errors import Unavailable
from app.ingest.copy_stream import statement

PROJECT = Path(__file__).resolve().parents[1]
ENTRY = (sys.executable, "-c", "from app.cli import main; main()")
OURS = ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL")
PATIENCE_S = 120.0
TABLES = ("contacts", "migration_rejects", "migration_repairs", "source_statistics", "missing_ladas")


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The environment of a command: nothing of the developer's own, and `data_dir` as SMS_DATA_DIR."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("SMS_")}
    return (
        kept
        | {"SMS_DATA_DIR": str(data_dir), "SMS_ENV_FILE": os.devnull, "COLUMNS": "200", "SMS_LOG__FORMAT": "json"}
        | more
    )


class Command:
    """A running `smsctl`. Its output goes to files, so that nothing ever waits for a pipe."""

    def __init__(self, scratch: Path, arguments: list[str], env: dict[str, str]) -> None:
        self._out, self._err = scratch / "stdout", scratch / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*ENTRY, *arguments], cwd=scratch, env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL
            )

    @property
    def ended(self) -> bool:
        """True when it is not running any more."""
        return self.process.poll() is not None

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """Its log and progress so far."""
        return self._err.read_text()

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object that it printed."""
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if not self.ended:
            self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it ends."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(scratch: Path, arguments: list[str], env: dict[str, str]) -> Iterator[Command]:
    """A command for the length of the block; it is killed if the block leaves it running."""
    command = Command(scratch, arguments, env)
    try:
        yield command
    finally:
        if not command.ended:
            command.process.kill()
            command.process.wait()


def run(scratch: Path, arguments: list[str], env: dict[str, str]) -> Command:
    """A command that ran to its end."""
    with running(scratch, arguments, env) as command:
        command.wait()
    return command


def ask(url: str, query: str) -> Any:
    """The first value of the first row, or None; also None while the server is away or has no such table."""
    try:
        with closing(connect(url, autocommit=True)) as session:
            row = session.execute(query).fetchone()
    except (psycopg.Error, Unavailable):
        return None
    return row[0] if row else None


def batches(url: str) -> int:
    """Batches that are committed."""
    return int(ask(url, "SELECT count(*) FROM migration_batches") or 0)


def until(condition: Callable[[], object], command: Command) -> bool:
    """Wait until `condition` holds; False when the command ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        if command.ended:
            return False
        time.sleep(0.01)
    raise AssertionError(f"nothing happened in {PATIENCE_S} s: {command.stderr[-2000:]}")


class Moments:
    """Random moments of a migration, by what it has done and a little after; `told` is for the message of a failure."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.told: list[str] = [f"seed {seed}"]

    def pause(self, most: float) -> None:
        """A random time, at most `most` seconds."""
        seconds = self._dice.uniform(0, most)
        self.told.append(f"+{seconds:.3f} s")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.002)

    def after_batches(self, url: str, command: Command, most: int = 8) -> bool:
        """Wait for up to `most` more batches and a little; False when the command ended before."""
        wanted = batches(url) + self._dice.randrange(most + 1)
        self.told.append(f"batches {wanted}")
        came = until(lambda: batches(url) >= wanted and ask(url, LOADING), command)
        self.pause(0.15)
        return came and not command.ended

    def while_building(self, url: str, command: Command) -> bool:
        """Wait until some of the indexes are back, and a little; False when the command ended before."""
        left = self._dice.randrange(1, 13)
        self.told.append(f"left to build {left}")
        count = "SELECT count(*) FROM migration_detached HAVING count(*) > 0"
        came = until(lambda: ask(url, BUILDING) and (ask(url, count) or 0) <= left, command)
        self.pause(0.05)
        return came and not command.ended


LOADING = "SELECT true FROM migration_runs WHERE status = 'running' AND stage = 'load'"
BUILDING = "SELECT true FROM migration_runs WHERE status = 'running' AND stage = 'index'"


def content(session: Connection) -> dict[str, tuple[int, int]]:
    """Rows and an order-independent hash of every column of what a migration fills, but for the time of writing."""
    session.execute("SET TIME ZONE 'UTC'")
    found = {}
    for table in TABLES:
        left_out = "'created_at', 'id'" if table in ("source_statistics", "missing_ladas") else "'created_at'"
        query = f"SELECT count(*), coalesce(sum(hashtextextended((to_jsonb(t) - ARRAY[{left_out}])::text, 0)), 0) FROM {{}} t"
        row = session.execute(sql.SQL(query).format(sql.Identifier(table))).fetchone()
        assert row is not None
        found[table] = (int(row[0]), int(row[1]))
    return found


def ledger_sums(session: Connection) -> tuple[Any, ...]:
    """The totals of the batches, with their fingerprint."""
    row = session.execute(
        """SELECT sum(rows_read), sum(loaded), sum(duplicates), sum(rejected), sum(repaired), sum(fingerprint) % 2::numeric ^ 64
             FROM migration_batches"""
    ).fetchone()
    assert row is not None
    return tuple(map(int, row))


def objects(session: Connection) -> list[tuple[Any, ...]]:
    """Keys, foreign keys and indexes of contacts as they stand, with validity; triggers and options with them."""
    rows = session.execute(statement("contacts_objects")).fetchall()
    rows += session.execute(
        """SELECT 'valid', c.relname, i.indisvalid, i.indisready, i.indisunique, pg_get_indexdef(i.indexrelid)
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'contacts'::regclass
           UNION ALL
           SELECT 'checked', conname, convalidated, NULL, NULL, conrelid::regclass::text FROM pg_constraint
            WHERE 'contacts'::regclass IN (conrelid, confrelid) AND conparentid = 0 ORDER BY 1, 2"""
    ).fetchall()
    rows += session.execute(
        "SELECT 'trigger', tgname FROM pg_trigger WHERE tgrelid = 'contacts'::regclass AND NOT tgisinternal"
    ).fetchall()
    rows += session.execute(
        "SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'contacts_migration%'"
    ).fetchall()
    rows += session.execute("SELECT 'options', reloptions FROM pg_class WHERE oid = 'contacts'::regclass").fetchall()
    return rows


def remains(session: Connection) -> list[tuple[Any, ...]]:
    """What a finished migration must not leave in its database: detached objects, saved settings, sessions of its own.

    The server takes a moment to end a session whose client has closed it: what is still there after some seconds stays.
    """
    deadline = time.monotonic() + 5
    while True:
        left = session.execute(
            """SELECT 'detached', name FROM migration_detached
               UNION ALL SELECT 'saved', name FROM server_settings_saved
               UNION ALL SELECT 'session', application_name FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE 'smsctl %' AND pid <> pg_backend_pid()"""
        ).fetchall()
        if time.monotonic() > deadline or not any(kind == "session" for kind, _ in left):
            return left
        time.sleep(0.05)


def altered_settings(session: Connection) -> list[tuple[Any, ...]]:
    """Server settings that ALTER SYSTEM changed. Other tests may be at it too, but on a server of one's own."""
    return session.execute(
        "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf'"
    ).fetchall()


def insert_stranger(url: str, number: str = "5599990000") -> int:
    """Make a contact as the API would; returns its id."""
    with closing(connect(url)) as session:
        session.execute("SET lock_timeout = '5s'")
        row = session.execute(
            """INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, line_type, source)
               VALUES (true, true, '+52' || %(number)s, %(number)s, 'mobile', 'api') RETURNING id""",
            {"number": number},
        ).fetchone()
        session.commit()
    assert row is not None
    return int(row[0])
