"""The ledger of a migration: which run, which ranges of source ids are in, and how they add up.

`session` is a connection whose transaction belongs to the caller; nothing here commits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from app.core.errors import Conflict, InvalidInput, NotFound
from app.ingest.source import SourceFacts
from app.models.migration import MIGRATION_LOCK, UNFINISHED, RunStatus


@dataclass(frozen=True, slots=True)
class Run:
    """A row of migration_runs. Units: seconds; megabytes of 10**6 bytes."""

    id: int
    source_path: str
    source_sha256: str
    source_bytes: int
    source_rows: int
    first_source_id: int | None
    last_source_id: int | None
    contact_id_offset: int
    numbering_plan_id: int | None
    status: str
    stage: str
    batch_size: int
    load_seconds: float | None
    index_seconds: float | None
    fingerprint: str | None
    peak_rss_mb: float | None
    result: dict[str, Any] | None
    error: str | None
    started_at: Any
    finished_at: Any


RUN_COLUMNS = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(Run))
MOST_ID = 2**62
"""Largest contact id that a migration makes: there is as much room again behind it."""

LOCK_PATIENCE_S = 2.0
"""The server takes a moment to notice that a killed migration is gone."""

LOADING, BUILDING = "smsctl load", "smsctl index"
"""application_name of the sessions that load and that build indexes."""

SELECT_RUN = sql.SQL("SELECT {} FROM migration_runs ").format(RUN_COLUMNS)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the committed batches of a run. `fingerprint` is modulo 2**64."""

    batches: int
    rows_read: int
    loaded: int
    duplicates: int
    rejected: int
    repaired: int
    fingerprint: int
    rejected_by_reason: dict[str, int]

    def balances(self, source_rows: int) -> bool:
        """True when every row of the source is loaded, a duplicate, or rejected."""
        return source_rows == self.rows_read == self.loaded + self.duplicates + self.rejected


def hold_lock(session: Connection) -> None:
    """Take the advisory lock of migrations for the life of the connection.

    Raises: Conflict when another migration holds it.
    """
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while session.execute("SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)).fetchone() != (True,):
        if time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        raise Conflict(
            "Another migration is running on this database. `smsctl migrate status` shows it; wait for it or stop it.",
            code="migration_running",
        )


def end_orphans(session: Connection) -> None:
    """End what a killed migration's sessions still do on the server; the caller holds the lock, so none is alive."""
    session.execute(
        """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
            WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
              AND application_name IN (%s, %s)""",
        (LOADING, BUILDING),
    )


def find_run(session: Connection, run_id: int | None = None) -> Run:
    """The run `run_id`, or the latest.

    Raises: NotFound.
    """
    with session.cursor(row_factory=class_row(Run)) as cursor:
        cursor.execute(SELECT_RUN + sql.SQL("WHERE id = coalesce(%(id)s, id) ORDER BY id DESC LIMIT 1"), {"id": run_id})
        run = cursor.fetchone()
    if run is None:
        what = f"There is no migration run {run_id}." if run_id is not None else "No migration was run yet."
        raise NotFound(f"{what} Start one with `smsctl migrate run PATH`.", code="run_not_found")
    return run


def find_run_of(session: Connection, facts: SourceFacts, path: str) -> Run | None:
    """The run that this source belongs to: completed or open, or None for a source that was never migrated.

    Raises: Conflict when a run is open and this is not its file, or its file was changed.
    """
    with session.cursor(row_factory=class_row(Run)) as cursor:
        cursor.execute(SELECT_RUN + sql.SQL("WHERE status <> 'rolled_back' ORDER BY id DESC"))
        runs = cursor.fetchall()
    opened = next((run for run in runs if run.status in UNFINISHED), None)
    if opened is None:
        return next((run for run in runs if run.source_sha256 == facts.sha256), None)
    if opened.source_sha256 == facts.sha256:
        return opened
    if opened.source_path == path:
        raise Conflict(
            f"{path} was changed since run {opened.id} began (its SHA-256 is another). Put the file back as it was and "
            f"run again, or undo the run with `smsctl migrate rollback --run {opened.id}`.",
            code="source_changed",
        )
    raise Conflict(
        f"Run {opened.id} of {opened.source_path} is not finished. Finish it with `smsctl migrate run`, or undo it with "
        f"`smsctl migrate rollback --run {opened.id}`, before another file.",
        code="run_unfinished",
    )


def reserve_ids(session: Connection, facts: SourceFacts) -> int:
    """What is added to a source id to make a contact id: contact ids begin behind those that exist.

    The whole range is taken from the sequence at once: a contact that is made while the run rests (at a --limit, or
    failed) is numbered behind it. Waits for writers of contacts, inside the caller's transaction.
    Raises: InvalidInput when the ids would not fit.
    """
    session.execute("LOCK TABLE contacts IN SHARE ROW EXCLUSIVE MODE")
    row = session.execute("SELECT coalesce(max(id), 0) FROM contacts").fetchone()
    highest = int(row[0]) if row else 0
    offset = 0 if highest == 0 and facts.first_id > 0 else highest + 1 - min(facts.first_id, 1)
    if max(offset, offset + facts.last_id) > MOST_ID:
        raise InvalidInput(
            f"The ids of numeros go from {facts.first_id} to {facts.last_id}: contacts cannot be numbered so.",
            code="source_ids",
        )
    if facts.rows:
        session.execute(
            "SELECT setval(pg_get_serial_sequence('contacts', 'id'), greatest(%s, %s, 1))",
            (offset + facts.last_id, highest),
        )
    return offset


def open_run(session: Connection, facts: SourceFacts, path: str, plan_id: int, batch_size: int) -> Run:
    """A new run in status 'running', with contact ids of its own; see `reserve_ids`."""
    offset = reserve_ids(session, facts)
    with session.cursor(row_factory=class_row(Run)) as cursor:
        cursor.execute(
            sql.SQL(
                """INSERT INTO migration_runs (source_path, source_sha256, source_bytes, source_rows, first_source_id,
                    last_source_id, contact_id_offset, numbering_plan_id, status, stage, batch_size)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'running', 'prepare', %s) RETURNING {}"""
            ).format(RUN_COLUMNS),
            (
                path, facts.sha256, facts.size, facts.rows, facts.first_id if facts.rows else None,
                facts.last_id if facts.rows else None, offset, plan_id, batch_size,
            ),
        )  # fmt: skip
        run = cursor.fetchone()
    if run is None:
        raise NotFound("The new run was not stored.", code="run_not_found")
    return run


def update_run(session: Connection, run_id: int, **values: object) -> None:
    """Set columns of a run; `result` may be a dict."""
    parameters = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    session.execute(
        sql.SQL("UPDATE migration_runs SET {} WHERE id = %(run_id)s").format(assignments),
        {**parameters, "run_id": run_id},
    )


def change_status(session: Connection, run: Run, status: RunStatus, error: str | None = None) -> None:
    """Move a run to `status`. Raises: Conflict when the transition table does not allow it."""
    row = session.execute("SELECT status FROM migration_runs WHERE id = %s FOR UPDATE", (run.id,)).fetchone()
    now = RunStatus(row[0]) if row else RunStatus(run.status)
    if now != status and not now.can_become(status):
        raise Conflict(f"Run {run.id} is {now} and cannot become {status}.", code="run_status")
    update_run(session, run.id, status=str(status), error=error)


def committed_ranges(session: Connection, run_id: int) -> list[tuple[int, int]]:
    """(first, last) source ids of the committed batches, ascending, both inclusive."""
    rows = session.execute(
        "SELECT first_id, last_id FROM migration_batches WHERE run_id = %s ORDER BY first_id", (run_id,)
    ).fetchall()
    return [(int(first), int(last)) for first, last in rows]


def gaps(first: int, last: int, committed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of first..last that no committed range covers, ascending, inclusive."""
    open_ranges: list[tuple[int, int]] = []
    begin = first
    for low, high in committed:
        if begin < low:
            open_ranges.append((begin, low - 1))
        begin = max(begin, high + 1)
    if begin <= last:
        open_ranges.append((begin, last))
    return open_ranges


def totals(session: Connection, run_id: int) -> Totals:
    """What the committed batches of a run add up to."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """SELECT count(*) AS batches, coalesce(sum(rows_read), 0) AS rows_read, coalesce(sum(loaded), 0) AS loaded,
                      coalesce(sum(duplicates), 0) AS duplicates, coalesce(sum(rejected), 0) AS rejected,
                      coalesce(sum(repaired), 0) AS repaired, coalesce(sum(fingerprint), 0) AS fingerprint
                 FROM migration_batches WHERE run_id = %s""",
            (run_id,),
        )
        sums = cursor.fetchone() or {}
    reasons = session.execute(
        """SELECT key, sum(value::bigint) FROM migration_batches, jsonb_each_text(rejected_by_reason)
            WHERE run_id = %s GROUP BY key ORDER BY key""",
        (run_id,),
    ).fetchall()
    numbers = {name: int(value) for name, value in sums.items()}
    numbers["fingerprint"] %= 2**64
    return Totals(**numbers, rejected_by_reason={key: int(count) for key, count in reasons})


def count_rows(session: Connection, table: str, run_id: int) -> int:
    """Rows of a side table that belong to a run."""
    row = session.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE run_id = %s").format(sql.Identifier(table)), (run_id,)
    ).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a run stands. `is_live`: some session holds the migration lock now."""

    run_id: int
    source_path: str
    status: str
    stage: str
    is_live: bool
    total_rows: int
    source_rows: int
    percent: float
    loaded: int
    duplicates: int
    rejected: int
    batches: int
    last_batch_at: str | None
    error: str | None


def progress(session: Connection, run_id: int | None = None) -> RunProgress:
    """Where the run `run_id`, or the latest, stands. Raises: NotFound."""
    run = find_run(session, run_id)
    sums = totals(session, run.id)
    row = session.execute(
        """SELECT (SELECT max(committed_at) FROM migration_batches WHERE run_id = %s),
                  EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s
                             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))""",
        (run.id, MIGRATION_LOCK),
    ).fetchone()
    last, is_live = row if row else (None, False)
    is_open = run.status == RunStatus.RUNNING
    return RunProgress(
        run_id=run.id, source_path=run.source_path,
        status=str(RunStatus.INTERRUPTED) if is_open and not is_live else run.status, stage=run.stage,
        is_live=bool(is_live), total_rows=run.source_rows, source_rows=sums.rows_read,
        percent=round(100 * sums.rows_read / run.source_rows, 2) if run.source_rows else 100.0, loaded=sums.loaded,
        duplicates=sums.duplicates, rejected=sums.rejected, batches=sums.batches,
        last_batch_at=last.isoformat() if last else None, error=run.error,
    )  # fmt: skip
