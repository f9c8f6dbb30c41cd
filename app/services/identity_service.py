"""Who is behind a token or an API key, now: one SELECT a request, so that what is taken away is gone with the next."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, exists, or_, select, update

from app.core import clock
from app.core.async_database import Database
from app.core.errors import AppError, Unauthenticated
from app.core.security import digest
from app.models.access import ApiKey, AuthSession, SigningKey
from app.models.permission import ROLE_PERMISSIONS, Caller, CallerKind, Origin, Permission
from app.models.user import User
from app.services.api_key_service import KEY_FORM, PREFIX_LENGTH
from app.services.session_service import client_address
from app.services.token_service import Claims

USE_NOTED_EVERY = timedelta(minutes=1)

_SESSION: Any = (
    select(
        User.id, User.public_id, User.email, User.role, User.disabled_at, User.token_version,
        AuthSession.revoked_at, AuthSession.expires_at,
        exists().where(SigningKey.kid == bindparam("kid"), SigningKey.retired_at.is_(None)).label("key_holds"),
    )
    .join(User, User.id == AuthSession.user_id)
    .where(AuthSession.id == bindparam("sid"))
)  # fmt: skip
_API_KEY: Any = (
    select(
        User.id, User.public_id, User.email, User.role, User.disabled_at, ApiKey.id.label("key_id"), ApiKey.key_hash,
        ApiKey.scopes, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at,
    )
    .join(User, User.id == ApiKey.owner_id)
    .where(ApiKey.prefix == bindparam("prefix"))
)  # fmt: skip


async def by_session(db: Database, claims: Claims) -> Caller:
    """The person of an access token whose signature holds.

    Raises: Unauthenticated when the session, the account or the key that signed is no longer good; Unavailable.
    """
    row = await _read(db, _SESSION, {"sid": claims.sid, "kid": claims.kid})
    if row is None or not row.key_holds or row.public_id != claims.sub:
        raise Unauthenticated("The access token is none of ours.", code="token_invalid")
    is_ended = row.revoked_at is not None or row.expires_at <= clock.utc_now()
    if is_ended or row.disabled_at is not None or row.token_version != claims.ver:
        raise Unauthenticated("The session has ended: sign in again.", code="session_ended")
    return Caller(
        CallerKind.USER, row.id, row.public_id, row.email, row.role, ROLE_PERMISSIONS[row.role], session_id=claims.sid
    )


async def by_api_key(db: Database, key: str, origin: Origin) -> Caller:
    """The account in whose name an API key acts, with what both of them may; its use is noted once a minute.

    Raises: Unauthenticated when it is unknown, over, revoked, or its owner is disabled; Unavailable.
    """
    row = await _read(db, _API_KEY, {"prefix": key[:PREFIX_LENGTH]}) if KEY_FORM.fullmatch(key) else None
    if row is None or not hmac.compare_digest(row.key_hash, digest(key)):
        raise _no_key()
    now = clock.utc_now()
    if row.revoked_at is not None or row.expires_at <= now or row.disabled_at is not None:
        raise _no_key()
    if row.last_used_at is None or row.last_used_at <= now - USE_NOTED_EVERY:
        await _note_use(db, row.key_id, now, origin)
    allowed = frozenset(permission for permission in ROLE_PERMISSIONS[row.role] if permission.value in row.scopes)
    return Caller(
        CallerKind.API_KEY, row.id, row.public_id, row.email, row.role, allowed - {Permission.SELF},
        api_key_id=row.key_id,
    )  # fmt: skip


async def _note_use(db: Database, key_id: int, now: datetime, origin: Origin) -> None:
    is_due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - USE_NOTED_EVERY)
    used = {"last_used_at": now, "last_used_from": client_address(origin)}
    async with db.transaction() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == key_id, is_due).values(used))


async def _read(db: Database, statement: Any, values: dict[str, object]) -> Any:
    async with db.reading() as connection:
        return (await connection.execute(statement, values)).first()


def _no_key() -> AppError:
    return Unauthenticated("The API key is none that works.", code="api_key_invalid")
