"""Undo one migration run: its contacts, statistics, LADAs, rejects and repairs go, and nothing else does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from psycopg import Connection, sql

from app.core.database import connect
from app.core.errors import Broken, Conflict
from app.ingest import ledger, target
from app.ingest.copy_stream import statement
from app.ingest.ledger import Run
from app.models.migration import RunStatus
from app.services import tuning_service

LOCKED = ("consents", "suppressions")
REFERRING = (*LOCKED, "messages")
"""Tables whose rows name a contact by contact_id: a run whose contacts they name is not undone behind their back. Those with
a foreign key are locked while it is off, and asked once more then."""

RUN_TABLES = ("source_statistics", "missing_ladas", "migration_rejects", "migration_repairs")


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What went, and the proof that only that went: `others_before` equals `others_after`, `remaining` is 0.

    others_*: (count, fingerprint of the ids) of the contacts that are not of the run. Units: seconds.
    """

    run_id: int
    status: str
    contacts_removed: int
    statistics_removed: int
    missing_ladas_removed: int
    rejects_removed: int
    repairs_removed: int
    remaining: int
    others_before: tuple[int, str]
    others_after: tuple[int, str]
    seconds: float


def rollback(db_url: str, run_id: int | None = None, progress: Callable[[str], None] | None = None) -> RollbackResult:
    """Remove the run `run_id` (the latest by default) in one transaction, and put keys and indexes back after it.

    Raises: NotFound, Conflict (already rolled back, another migration runs, consents or messages name its contacts, or
    another run's rows were left out as duplicates of them),
    Broken when what is left is not what was there before; the removal is rolled back then.
    """
    tell = progress or (lambda _: None)
    started = time.monotonic()
    with closing(connect(db_url, autocommit=True, application_name="smsctl rollback")) as session:
        ledger.hold_lock(session)
        ledger.end_orphans(session)
        # The lock is ours, so whoever changed the server's settings is gone; its guard may have seen the lock and left.
        tuning_service.restore(db_url)
        run = ledger.find_run(session, run_id)
        if run.status == RunStatus.ROLLED_BACK and not target.is_closed(session):
            raise Conflict(f"Run {run.id} is rolled back already.", code="run_rolled_back")
        _refuse_if_named(session, run, REFERRING)
        _refuse_if_used(session, run)
        _refuse_if_needed(session, run)
        tell("removing")
        result = _remove(session, run, started)
        tell("building")
        target.restore(db_url, fulltext_later=False, progress=lambda name, _, __: tell(name), stop=threading.Event())
        target.advance_ids(session)
        tell("analyzing")
        session.execute("VACUUM (ANALYZE) contacts")
    return result


def _refuse_if_used(session: Connection, run: Run) -> None:
    """An opt-out, a message sent or a person's edit would be lost with its contact. Reads the table once."""
    row = session.execute(
        """SELECT count(*) FROM contacts WHERE migration_run_id = %s
           AND (opt_out_at IS NOT NULL OR last_sent_at IS NOT NULL OR send_count > 0 OR version > 1)""",
        (run.id,),
    ).fetchone()
    if row and row[0]:
        raise Conflict(
            f"{row[0]} contacts of run {run.id} opted out, were written to or were edited since: it cannot be undone as a"
            " whole. Erase those contacts one by one instead.",
            code="run_in_use",
        )


def _refuse_if_named(session: Connection, run: Run, tables: tuple[str, ...]) -> None:
    for table in tables:
        row = session.execute(
            sql.SQL(
                "SELECT count(*) FROM {} r WHERE EXISTS (SELECT 1 FROM contacts c WHERE c.id = r.contact_id "
                "AND c.migration_run_id = %s)"
            ).format(sql.Identifier(table)),
            (run.id,),
        ).fetchone()
        if row and row[0]:
            raise Conflict(
                f"{row[0]} rows of {table} name contacts of run {run.id}: people gave consent or were written to since. "
                "Erase those contacts one by one instead.",
                code="run_in_use",
            )


def _refuse_if_needed(session: Connection, run: Run) -> None:
    """Rows of another run that are duplicates of this run's contacts would be in neither."""
    row = session.execute(
        """SELECT r.run_id, count(*)
             FROM migration_rejects r JOIN contacts c ON c.phone_e164 = r.phone_e164
            WHERE r.reason = 'duplicate' AND r.run_id <> %(run)s AND c.migration_run_id = %(run)s
            GROUP BY r.run_id ORDER BY r.run_id DESC LIMIT 1""",
        {"run": run.id},
    ).fetchone()
    if row:
        raise Conflict(
            f"{row[1]} rows of run {row[0]} were left out as duplicates of contacts of run {run.id}: with those gone they "
            f"would be nowhere. Undo run {row[0]} first (`smsctl migrate rollback --run {row[0]}`), then this one.",
            code="run_needed",
        )


def _others(session: Connection, run: Run) -> tuple[int, str]:
    row = session.execute(
        "SELECT count(*), coalesce(sum(hashint8extended(id, 0)), 0) FROM contacts WHERE migration_run_id IS DISTINCT FROM %s",
        (run.id,),
    ).fetchone()
    return (int(row[0]), f"{int(row[1]) % 2**64:016x}") if row else (0, "")


def _remove(session: Connection, run: Run, started: float) -> RollbackResult:
    with session.transaction():
        session.execute("SET LOCAL lock_timeout = '20s'")
        session.execute(statement("guard_create"))
        session.execute("SELECT set_config('sms.migration_run', %s, true)", (str(run.id),))
        before = _others(session, run)
        row = session.execute("SELECT count(*) FROM contacts WHERE migration_run_id = %s", (run.id,)).fetchone()
        mine = int(row[0]) if row else 0
        # Whatever is still on, or on again: a killed run may have been halfway through putting it back.
        target.detach(session, run.id, only_foreign_keys=before[0] > target.KEEP_INDEXES_ABOVE * mine)
        _refuse_if_named(session, run, LOCKED)
        if before[0] == 0:
            session.execute("TRUNCATE contacts")
        else:
            session.execute("DELETE FROM contacts WHERE migration_run_id = %s", (run.id,))
        removed = [
            session.execute(
                sql.SQL("DELETE FROM {} WHERE run_id = %s").format(sql.Identifier(table)), (run.id,)
            ).rowcount
            for table in RUN_TABLES
        ]
        if run.status == RunStatus.RUNNING:  # killed: its lock is ours now
            ledger.change_status(session, run, RunStatus.INTERRUPTED)
        ledger.change_status(session, run, RunStatus.ROLLED_BACK)
        after = _others(session, run)
        row = session.execute("SELECT count(*) FROM contacts WHERE migration_run_id = %s", (run.id,)).fetchone()
        remaining = int(row[0]) if row else 0
        if after != before or remaining:
            raise Broken(
                f"Undoing run {run.id} would have changed other contacts ({before} became {after}) or left {remaining} of "
                "its own; nothing was removed.",
                code="rollback_unproven",
            )
    return RollbackResult(
        run.id, "rolled_back", mine, removed[0], removed[1], removed[2], removed[3], remaining, before, after,
        round(time.monotonic() - started, 3),
    )  # fmt: skip
