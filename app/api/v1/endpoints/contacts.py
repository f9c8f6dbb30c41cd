"""Contacts."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from app.api.pages import CursorQuery, LimitQuery, Listing
from app.api.routes import Routes
from app.core.deps import CallerDep, CursorsDep, DatabaseDep, OriginDep, SessionDep
from app.models.contact import LineType
from app.models.permission import Permission
from app.schemas.base import LARGEST_ID, Page
from app.schemas.contacts import ContactOut
from app.services import contact_service
from app.services.contact_service import ContactFilter, ContactView

LISTING = "contacts"
routes = Routes("/api/v1/contacts", "contacts")

ContactId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Our number of the contact.", examples=[1041])]
StateQuery = Annotated[
    str | None, Query(pattern="^[A-Z]{3}$", description="ISO 3166-2:MX without MX-.", examples=["CMX"])
]
LadaQuery = Annotated[str | None, Query(pattern="^[0-9]{2,3}$", description="Area code.", examples=["55"])]
LineQuery = Annotated[LineType | None, Query(description="Kind of line.")]
ValidQuery = Annotated[bool | None, Query(description="Only numbers that are valid, or that are not.")]


@routes.add("GET", "", Permission.CONTACTS_READ, "List contacts", Page[ContactOut])
async def contacts_list(
    session: SessionDep, caller: CallerDep, origin: OriginDep, cursors: CursorsDep, limit: LimitQuery = 50,
    cursor: CursorQuery = None, state_code: StateQuery = None, lada: LadaQuery = None, line_type: LineQuery = None,
    is_valid: ValidQuery = None,
) -> Listing[ContactView]:  # fmt: skip
    """By id. A filter that few contacts match gives short pages, even empty ones: go on while `next` is not null."""
    wanted = ContactFilter(state_code, lada, line_type, is_valid)
    after = cursors.read_id(LISTING, cursor) or 0
    found = await contact_service.list_contacts(session, caller, origin, wanted, after_id=after, limit=limit)
    return Listing(found.items, cursors.make(LISTING, found.last_id) if found.last_id else None)


@routes.add("GET", "/{contact_id}", Permission.CONTACTS_READ, "Look at a contact", ContactOut, problems=[404])
async def contact_get(contact_id: ContactId, db: DatabaseDep, caller: CallerDep) -> ContactView:
    """Number and name are masked for callers without `contacts:reveal`."""
    async with db.reading() as session:
        return await contact_service.get(session, caller, contact_id)
