"""API keys."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Request

from app.api.pages import CursorQuery, LimitQuery, Listing
from app.api.routes import Routes
from app.core.deps import CallerDep, CursorsDep, OriginDep, SessionDep, require
from app.models.permission import Permission
from app.schemas.base import Page
from app.schemas.users import ApiKeyCreatedOut, ApiKeyCreateIn, ApiKeyOut
from app.services import api_key_service
from app.services.api_key_service import ApiKeyView

LISTING = "api-keys"
routes = Routes("/api/v1/api-keys", "api-keys")

KeyId = Annotated[UUID, Path(description="Id of the key.", examples=["01890a5d-ac96-774b-bcce-b302099a8057"])]
OfAllQuery = Annotated[bool, Query(description="Everybody's; needs `api_keys:manage`.")]


@routes.add("GET", "", Permission.SELF, "List API keys", Page[ApiKeyOut])
async def api_keys_list(
    request: Request, session: SessionDep, caller: CallerDep, cursors: CursorsDep, limit: LimitQuery = 50,
    cursor: CursorQuery = None, of_all: OfAllQuery = False,
) -> Listing[ApiKeyView]:  # fmt: skip
    """One's own, or with `api_keys:manage` everybody's. The keys themselves are shown once, when they are made."""
    if of_all:
        await require(Permission.API_KEYS_MANAGE)(request)
    after = UUID(cursors.read(LISTING, cursor)) if cursor else None
    found = await api_key_service.list_keys(session, caller, of_all=of_all, after=after, limit=limit)
    return Listing(found.items, cursors.make(LISTING, found.last_id) if found.last_id else None)


@routes.add("POST", "", Permission.SELF, "Create an API key", ApiKeyCreatedOut, status=201, problems=[404, 409])
async def api_key_create(
    given: ApiKeyCreateIn, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> ApiKeyCreatedOut:
    """It may at most what its owner may, and of that only its scopes. Keep the key: it is shown this once."""
    made = await api_key_service.create(
        session, caller, name=given.name, scopes=given.scopes, days=given.days, owner=given.owner_id, origin=origin
    )
    return ApiKeyCreatedOut(key=made.key, api_key=ApiKeyOut.model_validate(made.view))


@routes.add("DELETE", "/{key_id}", Permission.SELF, "Revoke an API key", ApiKeyOut, problems=[404])
async def api_key_revoke(key_id: KeyId, session: SessionDep, caller: CallerDep, origin: OriginDep) -> ApiKeyView:
    """It works no more from the next request on. That of another needs `api_keys:manage`; else it is not found."""
    return await api_key_service.revoke(session, caller, key_id, origin)
