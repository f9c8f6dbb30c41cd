"""The floor: the finished rows of the same source, taken by the server itself from files, by one and by two COPY streams.

No client can load these rows faster over a connection of its own with the same statement: nothing is read, normalised,
encoded, sent or checked. The table is `contacts` as the product has it while it loads (keys, foreign keys and indexes off,
CHECKs and defaults on, its fillfactor, autovacuum off) without the trigger that checks each batch; the batches are the
product's, one transaction each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from psycopg import Connection, sql

from app.core.database import connect
from app.core.errors import Broken
from app.ingest import target
from benchmarks.machine import Stopwatch, Usage
from benchmarks.ours import open_run
from benchmarks.server import BenchServer
from benchmarks.source_file import BenchSource


def write_finished_rows(url: str, directory: Path) -> list[Path]:
    """One file for each committed batch of the migration in `url`: all stored columns, in the order of the source."""
    files = []
    with closing(connect(url, autocommit=True)) as session:
        session.execute("CREATE INDEX ON contacts (source_id)")
        session.execute("ANALYZE contacts")
        columns = _columns(session)
        ranges = session.execute("SELECT first_id, last_id FROM migration_batches ORDER BY first_id").fetchall()
        for number, (first, last) in enumerate(ranges):
            files.append(directory / f"{number:06d}.bin")
            session.execute(
                sql.SQL(
                    "COPY (SELECT {} FROM contacts WHERE source_id BETWEEN {} AND {} ORDER BY source_id)"
                    " TO {} (FORMAT binary)"
                ).format(columns, sql.Literal(first), sql.Literal(last), sql.Literal(str(files[-1])))
            )
    return files


def _columns(session: Connection) -> sql.Composed:
    names = session.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'contacts'::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum"
    ).fetchall()
    return sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)


def measure(server: BenchServer, source: BenchSource, files: list[Path], streams: int, loaded: int) -> Usage:
    """The time of `streams` connections that take every `streams`-th file each.

    Raises: Broken when the table then does not hold the `loaded` rows.
    """
    with server.fresh_database() as url:
        with closing(connect(url, autocommit=True)) as session:
            target.prepare(session, open_run(session, source, len(files)).id, source.facts.rows)
            session.execute("DROP TRIGGER contacts_batch_check ON contacts")
        sessions = [_session(url) for _ in range(streams)]
        server.settle()
        with ThreadPoolExecutor(streams) as threads:
            watch = Stopwatch(server.postmaster)
            list(threads.map(_take, sessions, [files[turn::streams] for turn in range(streams)]))
            usage = watch.stop()
        for session in sessions:
            session.close()
        with closing(connect(url)) as session:
            row = session.execute("SELECT count(*) FROM contacts").fetchone()
    if row != (loaded,):
        raise Broken(f"The floor loaded {row} rows and the product {loaded}.", code="floor_rows")
    return usage


def _session(url: str) -> Connection:
    session = connect(url, autocommit=True)
    session.execute("SELECT set_config('sms.migration_run', '1', false)")
    session.execute("SET synchronous_commit = off")
    return session


def _take(session: Connection, files: list[Path]) -> None:
    columns = _columns(session)
    for path in files:
        session.execute(sql.SQL("COPY contacts ({}) FROM {} (FORMAT binary)").format(columns, sql.Literal(str(path))))
