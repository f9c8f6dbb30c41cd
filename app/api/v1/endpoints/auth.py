"""Signing in and out, and one's own account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Response

from app.api.routes import Routes
from app.api.v1.endpoints.login import BODY, read_login
from app.core.deps import AuthDep, CallerDep, OriginDep, SessionDep
from app.models.permission import Permission
from app.schemas.auth import (
    InvitationAcceptIn,
    JwksOut,
    LoginIn,
    MeOut,
    PasswordChangeIn,
    RefreshIn,
    SessionOut,
    TokensOut,
)
from app.schemas.users import UserOut
from app.services import session_service
from app.services.auth_service import SignIn
from app.services.session_service import SessionView
from app.services.user_service import UserView

KEYS_KEPT = "public, max-age=300"

routes = Routes("/api/v1/auth", "auth")
elsewhere = Routes("", "auth")

LoginDep = Annotated[LoginIn, Depends(read_login)]
SignInProblems = (400, 401, 408, 413, 415)


@elsewhere.add(
    "POST", "/auth/login", None, "Sign in", TokensOut, problems=SignInProblems, openapi_extra=BODY,
    include_in_schema=False,
)  # fmt: skip
@routes.add("POST", "/login", None, "Sign in", TokensOut, problems=SignInProblems, openapi_extra=BODY)
async def auth_login(given: LoginDep, auth: AuthDep, origin: OriginDep) -> SignIn:
    """With JSON or the form of OAuth2. Where a second factor is on, `otp` is needed (code `otp_required`)."""
    return await auth.login(given.email, given.password.get_secret_value(), given.otp, origin)


@routes.add("POST", "/refresh", None, "Get new tokens", TokensOut, problems=[401])
async def auth_refresh(given: RefreshIn, auth: AuthDep, origin: OriginDep) -> SignIn:
    """A refresh token works once. One that comes back later ends its session: two have it."""
    return await auth.refresh(given.refresh_token, origin)


@routes.add("POST", "/logout", Permission.SELF, "Sign out", None, status=204)
async def auth_logout(caller: CallerDep, auth: AuthDep, origin: OriginDep) -> None:
    """Ends this session: its tokens work no more."""
    await auth.logout(caller, origin)


@routes.add("POST", "/logout-everywhere", Permission.SELF, "Sign out everywhere", None, status=204)
async def auth_logout_everywhere(caller: CallerDep, auth: AuthDep, origin: OriginDep) -> None:
    """Ends all of one's sessions, this one too. API keys stay."""
    await auth.logout_everywhere(caller, origin)


@routes.add("POST", "/password", Permission.SELF, "Change the password", TokensOut)
async def auth_password_change(given: PasswordChangeIn, caller: CallerDep, auth: AuthDep, origin: OriginDep) -> SignIn:
    """Ends all other sessions; the answer has new tokens for this one."""
    old, new = given.old_password.get_secret_value(), given.new_password.get_secret_value()
    return await auth.change_password(caller, old, new, origin)


@routes.add("GET", "/me", Permission.SELF, "Who am I?", MeOut)
async def auth_me(caller: CallerDep) -> MeOut:
    """The account or key that asks, and what it may."""
    return MeOut(
        kind=caller.kind, id=caller.public_id, email=caller.email, role=caller.role,
        permissions=sorted(caller.permissions),
    )  # fmt: skip


@routes.add("GET", "/sessions", Permission.SELF, "List sessions", list[SessionOut])
async def auth_sessions_list(session: SessionDep, caller: CallerDep) -> tuple[SessionView, ...]:
    """One's own sign-ins that have not ended, newest first."""
    return await session_service.list_sessions(session, caller)


@routes.add("POST", "/invitations/accept", None, "Accept an invitation", UserOut, problems=[401])
async def auth_invitation_accept(given: InvitationAcceptIn, auth: AuthDep, origin: OriginDep) -> UserView:
    """Sets the password; sign in with it afterwards. A weak one is refused, and the invitation stays good."""
    return await auth.accept_invitation(given.token, given.password.get_secret_value(), origin)


@elsewhere.add("GET", "/.well-known/jwks.json", None, "Keys of tokens", JwksOut, include_in_schema=False)
@routes.add("GET", "/keys", None, "Keys of tokens", JwksOut)
async def auth_keys(request: Request, response: Response) -> dict[str, Any]:
    """Public keys (RFC 7517) with which anybody can check an access token."""
    response.headers["Cache-Control"] = KEYS_KEPT
    await request.app.state.signer.keep_fresh()
    keys: dict[str, Any] = request.app.state.signer.jwks()
    return keys
