"""Accounts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Request

from app.api.pages import CursorQuery, LimitQuery, Listing
from app.api.routes import Routes
from app.core.config import Settings
from app.core.deps import AuthDep, CallerDep, CursorsDep, DatabaseDep, OriginDep, SessionDep
from app.models.permission import Permission
from app.schemas.base import Page
from app.schemas.users import InvitationIn, InvitationOut, UserCreateIn, UserOut, UserRoleIn, UserVersionIn
from app.services import user_service
from app.services.user_service import Invited, UserView

LISTING = "users"
routes = Routes("/api/v1/users", "users")
invitations = Routes("/api/v1/invitations", "users")

UserId = Annotated[UUID, Path(description="Id of the account.", examples=["01890a5d-ac96-774b-bcce-b302099a8057"])]
MANAGE = Permission.USERS_MANAGE


@routes.add("GET", "", Permission.USERS_READ, "List accounts", Page[UserOut])
async def users_list(
    session: SessionDep, caller: CallerDep, origin: OriginDep, cursors: CursorsDep, limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> Listing[UserView]:  # fmt: skip
    """In the order in which they were made."""
    after = UUID(cursors.read(LISTING, cursor)) if cursor else None
    found = await user_service.list_users(session, after=after, limit=limit, caller=caller, origin=origin)
    return Listing(found.items, cursors.make(LISTING, found.last_id) if found.last_id else None)


@routes.add("GET", "/{user_id}", Permission.USERS_READ, "Look at an account", UserOut, problems=[404])
async def user_get(user_id: UserId, session: SessionDep) -> UserView:
    """One account."""
    return await user_service.get(session, user_id)


@routes.add("POST", "", MANAGE, "Create an account", UserOut, status=201, problems=[409])
async def user_create(
    given: UserCreateIn, caller: CallerDep, auth: AuthDep, db: DatabaseDep, origin: OriginDep
) -> UserView:
    """With a password it can sign in at once; without one, once an invitation was accepted."""
    password = given.password.get_secret_value() if given.password else None
    hashed = await auth.new_hash(password, given.email) if password is not None else None
    async with db.transaction() as session:
        return await user_service.create(
            session, caller, email=given.email, role=given.role, full_name=given.full_name, password_hash=hashed,
            origin=origin,
        )  # fmt: skip


@invitations.add("POST", "", MANAGE, "Invite somebody", InvitationOut, status=201, problems=[409])
async def user_invite(
    given: InvitationIn, request: Request, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> InvitationOut:
    """Makes the account and the token by which its person sets a password. Hand it over yourself: it is shown once."""
    settings: Settings = request.app.state.settings
    made = await user_service.invite(
        session, caller, settings.auth, email=given.email, role=given.role, full_name=given.full_name, origin=origin
    )
    return _invitation(settings, made)


@routes.add("POST", "/{user_id}/invitations", MANAGE, "Invite again", InvitationOut, status=201, problems=[404, 409])
async def user_invite_again(
    user_id: UserId, request: Request, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> InvitationOut:
    """A new token, to set the first password or, when it was lost, another one. Older ones work no more."""
    settings: Settings = request.app.state.settings
    made = await user_service.invite_again(session, caller, settings.auth, user_id, origin)
    return _invitation(settings, made)


@routes.add("PATCH", "/{user_id}/role", MANAGE, "Change a role", UserOut, problems=[404, 409])
async def user_role_change(
    user_id: UserId, given: UserRoleIn, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> UserView:
    """Counts from the next request of that account on. Not one's own, and not that of the last administrator."""
    return await user_service.change_role(session, caller, user_id, given.role, given.version, origin)


@routes.add("POST", "/{user_id}/disable", MANAGE, "Disable an account", UserOut, problems=[404, 409])
async def user_disable(
    user_id: UserId, given: UserVersionIn, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> UserView:
    """Its sessions, API keys and invitations end at once. Not oneself, and not the last administrator."""
    return await user_service.disable(session, caller, user_id, given.version, origin)


@routes.add("POST", "/{user_id}/enable", MANAGE, "Enable an account", UserOut, problems=[404, 409])
async def user_enable(
    user_id: UserId, given: UserVersionIn, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> UserView:
    """Its person signs in anew; API keys that were revoked stay so."""
    return await user_service.enable(session, caller, user_id, given.version, origin)


@routes.add("DELETE", "/{user_id}/second-factor", MANAGE, "Reset a second factor", UserOut, problems=[404, 409])
async def user_second_factor_reset(
    user_id: UserId, session: SessionDep, caller: CallerDep, origin: OriginDep
) -> UserView:
    """For a person who lost it; sessions end."""
    return await user_service.reset_second_factor(session, caller, user_id, origin)


def _invitation(settings: Settings, made: Invited) -> InvitationOut:
    """The token stands behind #: what does is sent to no server and written into no log."""
    url = f"{settings.api.public_url.rstrip('/')}/invitation#{made.token}"
    return InvitationOut(user=UserOut.model_validate(made.user), token=made.token, url=url, expires_at=made.expires_at)
