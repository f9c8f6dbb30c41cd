"""What endpoints ask for: a session, the caller, where the request came from, and the permission that a route needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.async_database import Database
from app.core.config import Settings
from app.core.cursors import Cursors
from app.core.errors import Forbidden, TooMany, Unauthenticated
from app.core.metrics import LIMITED, LIMITER_DEGRADED
from app.core.rate_limits import RateLimiter
from app.core.request_facts import LimitState, facts_of
from app.models.audit import AuditResult
from app.models.permission import Caller, CallerKind, Origin, Permission
from app.services import audit_service
from app.services.auth_service import AuthService
from app.services.session_service import client_network

LONGEST_AGENT = 300
LONGEST_TOKEN = 4096
CALLER = "sms.caller"
"""Where the caller is in the ASGI scope, once he is known. Dependencies call each other here and are not declared to
FastAPI as each other's: resolving a declared one takes some 20 µs, of every request."""


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session in a transaction that is committed before the answer is sent."""
    db: Database = request.app.state.db
    async with db.transaction() as session:
        yield session


async def get_reader(request: Request) -> AsyncIterator[AsyncConnection]:
    """A connection for one SELECT, without a transaction around it."""
    db: Database = request.app.state.db
    async with db.reading() as connection:
        yield connection


async def get_origin(request: Request) -> Origin:
    """Where the request came from, for the audit log."""
    agent = request.headers.get("user-agent")
    return Origin(
        address=request.client.host if request.client else None,
        user_agent=agent[:LONGEST_AGENT] if agent else None,
        request_id=facts_of(request.scope).request_id,
    )


SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
ReaderDep = Annotated[AsyncConnection, Depends(get_reader, scope="function")]
OriginDep = Annotated[Origin, Depends(get_origin)]


async def get_caller(request: Request) -> Caller:
    """Who asks, found out once a request and counted against his limit.

    Raises: Unauthenticated without a token that holds; TooMany beyond the limit of the person, key or address.
    """
    known: Caller | None = request.scope.get(CALLER)
    if known is None:
        known = request.scope[CALLER] = await _find_caller(request)
    return known


async def _find_caller(request: Request) -> Caller:
    auth: AuthService = request.app.state.auth
    origin = await get_origin(request)
    limits = _settings(request).limits
    try:
        caller = await auth.authenticate(bearer(request), origin)
    except Unauthenticated:
        await _count(request, "per_address", limits.per_address, client_network(origin))
        raise
    facts_of(request.scope).caller = caller.public_id
    if caller.kind is CallerKind.API_KEY:
        await _count(request, "per_key", limits.per_key, f"{caller.public_id}/{caller.api_key_id}")
    else:
        await _count(request, "per_user", limits.per_user, str(caller.public_id))
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_auth(request: Request) -> AuthService:
    """Sign-in."""
    auth: AuthService = request.app.state.auth
    return auth


async def get_db(request: Request) -> Database:
    """The pool, for services that own their transactions."""
    db: Database = request.app.state.db
    return db


AuthDep = Annotated[AuthService, Depends(get_auth)]
DatabaseDep = Annotated[Database, Depends(get_db)]


async def limit_address(request: Request) -> None:
    """Count a request that needs no sign-in against the limit of its address.

    Raises: TooMany.
    """
    origin = await get_origin(request)
    await _count(request, "per_address", _settings(request).limits.per_address, client_network(origin))


class Require:
    """A dependency that lets through who has `permission`; what a route needs is read from it."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Caller:
        """The caller. Raises: Forbidden, and puts it on record."""
        caller = await get_caller(request)
        if caller.may(self.permission):
            return caller
        origin = await get_origin(request)
        db: Database = request.app.state.db
        async with db.transaction() as session:
            await audit_service.record(
                session, caller, "access.refuse", origin=origin, object_type="permission", object_id=self.permission,
                result=AuditResult.REFUSED, detail={"route": f"{request.method} {request.scope['route'].path}"},
            )  # fmt: skip
        raise Forbidden(f"This needs the permission {self.permission}.", code="forbidden")


_REQUIREMENTS = {permission: Require(permission) for permission in Permission}


def require(permission: Permission) -> Require:
    """The dependency for `permission`, one for all routes: Depends(require(…)) as often as one likes asks once."""
    return _REQUIREMENTS[permission]


def permission_of(route: APIRoute) -> Permission | None:
    """The permission that a route needs; None: it asks for none."""
    found = {it.call.permission for it in route.dependant.dependencies if isinstance(it.call, Require)}
    if len(found) > 1:
        raise TypeError(f"{route.path} asks for more than one permission: {sorted(found)}")
    return next(iter(found), None)


async def get_cursors(request: Request) -> Cursors:
    """Maker and reader of the cursors of pages."""
    cursors: Cursors = request.app.state.cursors
    return cursors


CursorsDep = Annotated[Cursors, Depends(get_cursors)]


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def bearer(request: Request) -> str:
    """The token of the Authorization header.

    Raises: Unauthenticated when there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "Send `Authorization: Bearer …` with an access token or an API key.", code="token_missing"
        )
    if len(token) > LONGEST_TOKEN:
        raise Unauthenticated("The token is none of ours.", code="token_invalid")
    return token


async def _count(request: Request, name: str, limit: str, key: str) -> None:
    limiter: RateLimiter = request.app.state.limiter
    decision = await limiter.hit(limit, name, key)
    facts_of(request.scope).limit = LimitState(decision.limit, decision.remaining, decision.reset_s)
    LIMITER_DEGRADED.set(decision.degraded)
    if not decision.allowed:
        LIMITED.labels(name).inc()
        raise TooMany(
            f"More than {limit} requests: come again in {decision.reset_s} s.", code="rate_limited",
            retry_after_s=decision.reset_s,
        )  # fmt: skip
