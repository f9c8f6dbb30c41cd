"""Runs of the migration to look at; what they did is in the ledger that the migration itself keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.errors import NotFound
from app.core.logs import mask_phone
from app.models.migration import MigrationBatch, MigrationRun, RunStatus


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and the sums of its committed batches. Units: bytes, rows, seconds."""

    id: int
    status: RunStatus
    stage: str
    source_name: str
    source_sha256: str
    source_bytes: int
    source_rows: int
    batch_size: int
    rows_read: int
    loaded: int
    duplicates: int
    rejected: int
    load_seconds: float | None
    index_seconds: float | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None


async def get_run(session: AsyncSession | AsyncConnection, run_id: int) -> RunView:
    """One run.

    Raises: NotFound.
    """
    row = (await session.execute(_select().where(MigrationRun.id == run_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such migration run.", code="run_not_found")
    return _view(row)


async def list_runs(
    session: AsyncSession | AsyncConnection, *, after_id: int | None = None, limit: int = 50
) -> list[RunView]:
    """At most `limit` runs, newest first; with `after_id` those older than that one."""
    statement = _select().order_by(MigrationRun.id.desc()).limit(limit)
    if after_id is not None:
        statement = statement.where(MigrationRun.id < after_id)
    return [_view(row) for row in await session.execute(statement)]


def _select() -> Select[*tuple[Any, ...]]:
    run, batch = MigrationRun, MigrationBatch
    sums = (
        select(
            func.coalesce(func.sum(batch.rows_read), 0).label("rows_read"),
            func.coalesce(func.sum(batch.loaded), 0).label("loaded"),
            func.coalesce(func.sum(batch.duplicates), 0).label("duplicates"),
            func.coalesce(func.sum(batch.rejected), 0).label("rejected"),
        )
        .where(batch.run_id == run.id)
        .lateral("sums")
    )
    return select(
        run.id, run.status, run.stage, run.source_path, run.source_sha256, run.source_bytes, run.source_rows,
        run.batch_size, sums.c.rows_read, sums.c.loaded, sums.c.duplicates, sums.c.rejected, run.load_seconds,
        run.index_seconds, run.started_at, run.finished_at, run.error,
    )  # fmt: skip


def _view(row: Row[*tuple[Any, ...]]) -> RunView:
    fields = dict(row._mapping)
    path = str(fields.pop("source_path"))
    error = fields.pop("error")
    return RunView(
        **fields,
        source_name=path.replace("\\", "/").rpartition("/")[2],
        error=None if error is None else mask_phone(str(error)),
    )
