"""What a migration is told, tells on its way, and comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import Connection

from app.core.errors import Unavailable
from app.ingest import ledger, target
from app.ingest.ledger import Run
from app.models.migration import RunStatus

RETRYABLE_STATES = ("08", "57P", "55P03", "40001", "40P01")
"""SQLSTATEs that pass by themselves: lost connection, server restart, lock not available, serialisation, deadlock."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What the run is doing now. Units: done and total in rows while loading, in objects while building."""

    stage: str
    done: int = 0
    total: int = 0
    detail: str = ""
    loaded: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """The outcome, in the words of `migrate run --json`. Units: seconds; megabytes."""

    run_id: int
    status: str
    source_rows: int
    loaded: int
    duplicates: int
    rejected: int
    rejected_by_reason: dict[str, int]
    statistics_rows: int
    missing_ladas_rows: int
    seconds: float
    rows_per_second: float
    index_seconds: float
    peak_rss_mb: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How to run. `limit`: rows of the source, counted over the whole run; `backup` is called at the start with 0 loaded
    rows and then after every `backup_every` rows, while no batch is under way."""

    limit: int | None = None
    fulltext_later: bool = False
    backup: Callable[[Run, int], None] | None = None
    backup_every: int = 0


def result_of(
    session: Connection, run: Run, status: RunStatus, *, seconds: float, rows_per_second: float
) -> MigrationResult:
    """The result of a run that has come to `status`, from its ledger; `seconds` and the rate are those of this call."""
    sums = ledger.totals(session, run.id)
    return MigrationResult(
        run_id=run.id, status=str(status), source_rows=sums.rows_read, loaded=sums.loaded, duplicates=sums.duplicates,
        rejected=sums.rejected, rejected_by_reason=sums.rejected_by_reason,
        statistics_rows=ledger.count_rows(session, "source_statistics", run.id),
        missing_ladas_rows=ledger.count_rows(session, "missing_ladas", run.id),
        seconds=round((run.result or {}).get("seconds", 0.0) + seconds, 3), rows_per_second=round(rows_per_second, 1),
        index_seconds=round(run.index_seconds or 0.0, 3),
        peak_rss_mb=max(run.peak_rss_mb or 0.0, target.peak_rss_mb()), fingerprint=f"{sums.fingerprint:016x}",
    )  # fmt: skip


def rows_not_found(path: Path, wanted: int, found: int) -> Unavailable:
    """The error of a source whose table lacks rows that its indexes count."""
    return Unavailable(
        f"{path} is corrupt: it says that it has {wanted} rows, and {found} can be found. Look at it with "
        "`PRAGMA integrity_check`, mend or restore it.",
        code="source_corrupt",
    )


def is_passing(error: Exception) -> bool:
    """True for an error of the database that can pass by itself: a lost connection, a restart, a lock, a deadlock."""
    if isinstance(error, Unavailable):
        return error.code in {"database_unreachable", "embedded_not_ready"}
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    # What a session says whose parallel workers went down with the server a moment before itself.
    return error.sqlstate.startswith(RETRYABLE_STATES) or "parallel worker" in str(error)
