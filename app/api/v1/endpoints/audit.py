"""The audit log."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query

from app.api.pages import CursorQuery, Instant, LimitQuery, Listing, as_utc, cut
from app.api.routes import Routes
from app.core.deps import CallerDep, CursorsDep, OriginDep, SessionDep
from app.models.audit import AuditResult
from app.models.permission import Permission
from app.schemas.audit import AuditEventOut
from app.schemas.base import Page
from app.services import audit_service
from app.services.audit_service import AuditEventView, AuditFilter

LISTING = "audit"
routes = Routes("/api/v1/audit", "audit")

TextQuery = Annotated[str | None, Query(max_length=200, min_length=1)]


async def get_filter(
    actor_id: Annotated[UUID | None, Query(description="Account that acted.")] = None,
    action: Annotated[TextQuery, Query(description="What was done, whole, as `user.disable`.")] = None,
    object_type: Annotated[TextQuery, Query(description="Kind of the object, as `user`.")] = None,
    object_id: Annotated[TextQuery, Query(description="Id of the object.")] = None,
    result: Annotated[AuditResult | None, Query(description="How it ended.")] = None,
    since: Annotated[Instant | None, Query(description="First instant; UTC when it has no offset.")] = None,
    until: Annotated[Instant | None, Query(description="First instant that is no longer meant.")] = None,
) -> AuditFilter:
    """Which events are asked for."""
    return AuditFilter(actor_id, action, object_type, object_id, result, as_utc(since), as_utc(until))


FilterDep = Annotated[AuditFilter, Depends(get_filter)]


@routes.add("GET", "", Permission.AUDIT_READ, "List audit events", Page[AuditEventOut])
async def audit_events_list(
    session: SessionDep, caller: CallerDep, origin: OriginDep, cursors: CursorsDep, wanted: FilterDep,
    limit: LimitQuery = 50, cursor: CursorQuery = None,
) -> Listing[AuditEventView]:  # fmt: skip
    """Newest first. Reading the log goes into the log."""
    after = cursors.read_id(LISTING, cursor)
    found = await audit_service.list_events(session, after_id=after, limit=limit + 1, filters=wanted)
    await audit_service.record(
        session, caller, "audit.list", origin=origin, object_type="audit", detail={"rows": min(len(found), limit)}
    )
    return cut(cursors, LISTING, found, limit, lambda event: event.id)
