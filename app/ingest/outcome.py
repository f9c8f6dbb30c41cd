"""What a migration is told, tells on its way, and comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from app.core.errors import Unavailable
from app.ingest.ledger import Run

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
