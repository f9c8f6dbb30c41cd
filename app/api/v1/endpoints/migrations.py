"""Runs of the migration."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request

from app.api.pages import CursorQuery, LimitQuery, Listing, cut
from app.api.report_desk import ReportDesk
from app.api.routes import Routes
from app.core.deps import CursorsDep, ReaderDep
from app.ingest.report import MigrationReport
from app.models.permission import Permission
from app.schemas.base import LARGEST_INT, Page
from app.schemas.operations import MigrationRunOut
from app.services import migration_service
from app.services.migration_service import RunView

LISTING = "migrations"
routes = Routes("/api/v1/migrations", "migrations")

RunId = Annotated[int, Path(ge=1, le=LARGEST_INT, description="Number of the run.", examples=[1])]


@routes.add("GET", "", Permission.MIGRATIONS_READ, "List migration runs", Page[MigrationRunOut])
async def migrations_list(
    session: ReaderDep, cursors: CursorsDep, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> Listing[RunView]:
    """Newest first."""
    found = await migration_service.list_runs(session, after_id=cursors.read_id(LISTING, cursor), limit=limit + 1)
    return cut(cursors, LISTING, found, limit, lambda run: run.id)


@routes.add("GET", "/{run_id}", Permission.MIGRATIONS_READ, "Look at a run", MigrationRunOut, problems=[404])
async def migration_get(run_id: RunId, session: ReaderDep) -> RunView:
    """Its state and the sums of its committed batches; while it runs these grow."""
    return await migration_service.get_run(session, run_id)


@routes.add(
    "GET", "/{run_id}/report", Permission.MIGRATIONS_READ, "Report of a run", MigrationReport, problems=[404, 409],
    responses={200: {"content": {"application/json": {"example": {
        "run_id": 1, "status": "completed", "made_at": "2026-11-24T12:07:53Z"}}}}},
)  # fmt: skip
async def migration_report(run_id: RunId, request: Request) -> MigrationReport:
    """The figures of a run: quality, speed, rejects, distribution. Reads all contacts: seconds to a minute, kept a while."""
    desk: ReportDesk = request.app.state.reports
    return await desk.report(run_id)
