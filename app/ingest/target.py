"""contacts, made ready for a load and put back: keys and indexes off, strangers kept out, and all of it undone after.

Whatever is taken off is written down in migration_detached in the same transaction, so that a kill at any moment leaves
enough to put it back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import Connection, sql

from app.core.database import connect
from app.core.errors import Unavailable
from app.core.logs import get_logger
from app.ingest.copy_stream import statement
from app.ingest.kernels.seen import SeenNumbers
from app.ingest.ledger import BUILDING
from app.ingest.loader import LoadStopped
from app.services import tuning_service

BTREES, KEYS, FOREIGN_KEYS, FULLTEXT = 1, 2, 3, 4
"""Stages of restoring. A key is a constraint over an index of the first stage, a matter of a moment."""

KEEP_INDEXES_ABOVE = 4
"""Contacts per row to come above which keys and indexes stay on: rebuilding them would take longer than keeping them up."""

BYTES_A_CONTACT = 620
"""Disk per contact with all its indexes and the WAL of the load (docs/benchmarks.md)."""

BUILD_MEMORY = "1GB"
BUILDERS = 2

log = get_logger("migrate")


@dataclass(frozen=True, slots=True)
class Detached:
    """A constraint or index that is off, with the statement that restores it."""

    id: int
    kind: str
    table_name: str
    name: str
    definition: str

    @property
    def stage(self) -> int:
        """When it is restored."""
        if self.kind == "constraint":
            return FOREIGN_KEYS if "FOREIGN KEY" in self.definition else KEYS
        return FULLTEXT if "USING gin" in self.definition else BTREES

    @property
    def is_heavy(self) -> bool:
        """True for a unique index over text, the longest of all to build: it goes first."""
        return self.definition.startswith("CREATE UNIQUE INDEX") and "phone" in self.definition


def check_disk(session: Connection, rows: int) -> None:
    """Refuse a load that the server's disk cannot hold; a server on another machine is not asked.

    Raises: Unavailable with the figures.
    """
    free, needed = tuning_service.free_disk(session), rows * BYTES_A_CONTACT
    if free is None:
        return
    if free < needed:
        raise Unavailable(
            f"The database's disk has {free / 1e9:.1f} GB free and the load needs about {needed / 1e9:.1f} GB: free some "
            "space, or put SMS_DATA_DIR (or the server) on a larger disk. Nothing was changed.",
            code="disk_space",
        )


def prepare(session: Connection, run_id: int, rows_to_come: int) -> None:
    """Close contacts to strangers, and take keys and indexes off when the load is large beside what is there.

    Commits. Raises: psycopg.errors.LockNotAvailable when writers do not finish in time.
    """
    with session.transaction():
        session.execute("SET LOCAL lock_timeout = '20s'")
        session.execute(statement("guard_create"))
        session.execute(statement("check_create").format(fingerprint=statement("contacts_fingerprint")))
        row = session.execute("SELECT count(*) FROM contacts").fetchone()
        present = int(row[0]) if row else 0
        if present <= KEEP_INDEXES_ABOVE * rows_to_come:
            detach(session, run_id)
        session.execute("ALTER TABLE contacts SET (autovacuum_enabled = false)")


def detach(session: Connection, run_id: int, *, only_foreign_keys: bool = False) -> None:
    """Take keys and indexes of contacts off inside the caller's transaction, and write down what brings them back."""
    for kind, table, name, definition in session.execute(statement("contacts_objects")).fetchall():
        if only_foreign_keys and "FOREIGN KEY" not in definition:
            continue
        session.execute(
            "INSERT INTO migration_detached (run_id, kind, table_name, name, definition) VALUES (%s, %s, %s, %s, %s)",
            (run_id, kind, table, name, definition),
        )
        if kind == "constraint":
            identifiers = sql.Identifier(*table.split(".")), sql.Identifier(name)
            session.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(*identifiers))
        else:
            session.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))


def detached(session: Connection) -> list[Detached]:
    """What is off now, in the order in which it is restored."""
    rows = session.execute("SELECT id, kind, table_name, name, definition FROM migration_detached").fetchall()
    return sorted((Detached(*row) for row in rows), key=lambda it: (it.stage, not it.is_heavy, it.id))


def is_closed(session: Connection) -> bool:
    """Whether contacts lack a key or an index, or are still closed to strangers."""
    guard = "SELECT FROM pg_trigger WHERE tgrelid = 'contacts'::regclass AND tgname = 'contacts_migration_guard'"
    return bool(detached(session)) or session.execute(guard).fetchone() is not None


def restore(
    url: str, *, fulltext_later: bool, progress: Callable[[str, int, int], None], stop: threading.Event
) -> None:
    """Build what is off, BUILDERS at a time, and open contacts again. Each object commits by itself: it resumes.

    `progress` is told (name, done, of). With `fulltext_later` the full-text indexes stay off.
    Raises: LoadStopped when `stop` is set; what was being built is cancelled.
    """
    with closing(connect(url, autocommit=True)) as session:
        waiting = [it for it in detached(session) if not (fulltext_later and it.stage == FULLTEXT)]
    done = 0
    for stage in (BTREES, KEYS, FOREIGN_KEYS, FULLTEXT):
        objects = [it for it in waiting if it.stage == stage]
        # Constraints lock their tables against each other: one after the other.
        with ThreadPoolExecutor(1 if stage in (KEYS, FOREIGN_KEYS) else BUILDERS) as builders:
            for building in as_completed([builders.submit(_build, url, it, stop) for it in objects]):
                done += 1
                progress(building.result(), done, len(waiting))
    with closing(connect(url, autocommit=True)) as session, session.transaction():
        session.execute(statement("guard_drop"))
        session.execute("ALTER TABLE contacts RESET (autovacuum_enabled)")


def _build(url: str, it: Detached, stop: threading.Event) -> str:
    started = time.monotonic()
    with closing(connect(url, autocommit=True, application_name=BUILDING)) as session:
        session.execute(sql.SQL("SET maintenance_work_mem = {}").format(BUILD_MEMORY))
        session.execute("SET max_parallel_maintenance_workers = 0")
        session.execute("SET synchronous_commit = off")
        finished = threading.Event()
        watcher = threading.Thread(target=_cancel_when, args=(session, stop, finished), daemon=True)
        watcher.start()
        try:
            with session.transaction():
                session.execute(it.definition)
                session.execute("DELETE FROM migration_detached WHERE id = %s", (it.id,))
        except psycopg.errors.QueryCanceled as error:
            raise LoadStopped from error
        finally:
            finished.set()
            watcher.join()
    log.info("index built", name=it.name, seconds=round(time.monotonic() - started, 2))
    return it.name


def _cancel_when(session: Connection, stop: threading.Event, finished: threading.Event) -> None:
    while not finished.wait(0.2):
        if stop.is_set():
            session.cancel_safe()
            return


def advance_ids(session: Connection) -> None:
    """Let new contacts be numbered behind those that are there, and behind those that an open run is still to load."""
    session.execute(statement("advance_ids"))


def build_concurrently(session: Connection, progress: Callable[[str, int, int], None]) -> list[str]:
    """Build what is still off without stopping writers (CREATE INDEX CONCURRENTLY); returns the names built.

    `session` is in autocommit and holds the migration lock. An index that a killed build left invalid is dropped first.
    """
    session.execute(sql.SQL("SET maintenance_work_mem = {}").format(BUILD_MEMORY))
    waiting = [it for it in detached(session) if it.kind == "index"]
    for done, it in enumerate(waiting, 1):
        session.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(it.name)))
        session.execute(it.definition.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))
        session.execute("DELETE FROM migration_detached WHERE id = %s", (it.id,))
        progress(it.name, done, len(waiting))
    return [it.name for it in waiting]


def seen_numbers(session: Connection) -> SeenNumbers:
    """The numbers of all contacts that are there, read by binary COPY."""
    seen = SeenNumbers()
    header, field = 19, 14
    row = np.dtype([("head", "V6"), ("number", ">i8")])
    rest = b""
    with session.cursor().copy("COPY (SELECT phone_national::bigint FROM contacts) TO STDOUT (FORMAT binary)") as copy:
        is_first = True
        for chunk in copy:
            data = rest + bytes(chunk)
            if is_first:
                data, is_first = data[header:], False
            whole = len(data) // field * field
            seen.add(np.frombuffer(data, dtype=row, count=whole // field)["number"].astype(np.int64))
            rest = data[whole:]
    return seen


def analyze(session: Connection) -> None:
    """Fresh statistics for the planner. The visibility map is left to autovacuum, which the load's end wakes."""
    session.execute("ANALYZE contacts, migration_rejects, migration_repairs, migration_batches")


def peak_rss_mb() -> float:
    """The largest memory of this process so far, in megabytes."""
    with open(f"/proc/{os.getpid()}/status", encoding="ascii") as status:  # noqa: PTH123 - /proc is not a place for Path
        for line in status:
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return 0.0
