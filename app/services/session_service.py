"""Sessions: one per sign-in, the family of its refresh tokens. A refresh token is exchanged once.

Each exchange holds the session's row, so that of several at once one comes first. Who comes with a token that was
exchanged already gets another pair only if all of this is true; otherwise two hold the token and the family ends:

- the exchange was less than `retry_window_s` ago;
- it was the last one of the family: its successor was not used.

Then that successor is dead, the new one takes its place, and the window is not any longer for it. So there is one live
token a family at any time. A dead successor that is sent later was seen by somebody: the family ends at once.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.security import digest, new_id, new_token
from app.models.access import AuthSession, RefreshToken, RevokeReason
from app.models.audit import AuditResult
from app.models.permission import ROLE_PERMISSIONS, Caller, CallerKind, Origin
from app.models.user import Role, User
from app.services import audit_service

REPLACED = datetime(1970, 1, 1, tzinfo=UTC)
"""used_at of a token that was handed out and then replaced, unused: before any window."""
KEPT_AFTER_END = timedelta(days=30)
LONGEST_AGENT = 300


@dataclass(frozen=True, slots=True)
class Account:
    """What sign-in needs to know of an account."""

    id: int
    public_id: UUID
    email: str
    role: Role
    token_version: int

    def as_caller(self, session_id: UUID | None = None) -> Caller:
        """The account as the one who acts."""
        permissions = ROLE_PERMISSIONS[self.role]
        return Caller(CallerKind.USER, self.id, self.public_id, self.email, self.role, permissions, session_id)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that goes on, with the refresh token that is handed out."""

    account: Account
    session_id: UUID
    refresh_token: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """One sign-in of a person, as he sees it."""

    id: UUID
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    is_current: bool


class Refusal(StrEnum):
    """Why a refresh token was not exchanged: the code that the client is told."""

    UNKNOWN = "refresh_invalid"
    ENDED = "session_ended"
    REUSED = "refresh_reused"


async def open_session(session: AsyncSession, account: Account, life: timedelta, origin: Origin) -> OpenSession:
    """A new session of an account with its first refresh token; those that ended long ago are removed."""
    now, session_id = clock.utc_now(), new_id()
    old = AuthSession.expires_at < now - KEPT_AFTER_END
    await session.execute(delete(AuthSession).where(AuthSession.user_id == account.id, old))
    values = {
        "id": session_id, "user_id": account.id, "created_at": now, "refreshed_at": now, "expires_at": now + life,
        "address": client_address(origin), "user_agent": _agent(origin),
    }  # fmt: skip
    await session.execute(insert(AuthSession).values(values))
    return OpenSession(account, session_id, await _issue(session, session_id, now))


async def exchange(session: AsyncSession, refresh_token: str, window_s: int, origin: Origin) -> OpenSession | Refusal:
    """The session of `refresh_token` with its next token, or why not. Nothing is raised: what was done must be committed."""
    hashed = digest(refresh_token)
    found = await _held(session, hashed)
    now = clock.utc_now()  # after the wait for the row: of several at once the later ones must see that time has passed
    if found is None:
        return Refusal.UNKNOWN
    if found.revoked_at is not None or found.expires_at <= now or found.disabled_at is not None:
        return Refusal.ENDED
    account = Account(found.id, found.public_id, found.email, found.role, found.token_version)
    session_id: UUID = found.session_id
    unused = update(RefreshToken).where(RefreshToken.token_hash == hashed, RefreshToken.used_at.is_(None))
    won = await session.scalar(unused.values(used_at=now).returning(RefreshToken.session_id)) is not None
    if not won and not await _is_honest_retry(session, hashed, session_id, now, window_s):
        await end_session(session, session_id, RevokeReason.REUSE_DETECTED)
        await audit_service.record(
            session, account.as_caller(session_id), "session.reuse", origin=origin, object_type="session",
            object_id=session_id, result=AuditResult.REFUSED,
        )  # fmt: skip
        return Refusal.REUSED
    await session.execute(update(AuthSession).where(AuthSession.id == session_id).values(refreshed_at=now))
    return OpenSession(account, session_id, await _issue(session, session_id, now))


async def reissue(session: AsyncSession, account: Account, session_id: UUID) -> OpenSession:
    """The session with a refresh token in place of all that it had: none of those is known any more."""
    await session.execute(delete(RefreshToken).where(RefreshToken.session_id == session_id))
    return OpenSession(account, session_id, await _issue(session, session_id, clock.utc_now()))


async def list_sessions(session: AsyncSession, caller: Caller) -> tuple[SessionView, ...]:
    """The sessions of the caller's account that are alive, newest first."""
    shown = (
        AuthSession.id, AuthSession.created_at, AuthSession.refreshed_at, AuthSession.expires_at, AuthSession.address,
        AuthSession.user_agent,
    )  # fmt: skip
    of_caller = AuthSession.user_id == caller.user_id, AuthSession.revoked_at.is_(None)
    alive = select(*shown).where(*of_caller, AuthSession.expires_at > clock.utc_now()).order_by(AuthSession.id.desc())
    return tuple(
        SessionView(
            row.id, row.created_at, row.refreshed_at, row.expires_at, None if row.address is None else str(row.address),
            row.user_agent, row.id == caller.session_id,
        )
        for row in await session.execute(alive)
    )  # fmt: skip


async def end_session(session: AsyncSession, session_id: UUID, reason: RevokeReason) -> bool:
    """End one session; whether it was still alive."""
    alive = update(AuthSession).where(AuthSession.id == session_id, AuthSession.revoked_at.is_(None))
    ended = alive.values(revoked_at=clock.utc_now(), revoke_reason=reason).returning(AuthSession.id)
    return await session.scalar(ended) is not None


async def end_sessions(session: AsyncSession, user_id: int, reason: RevokeReason, *, but: UUID | None = None) -> int:
    """End the sessions of an account, all or all `but` one; how many those were."""
    alive = update(AuthSession).where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None))
    if but is not None:
        alive = alive.where(AuthSession.id != but)
    ended = alive.values(revoked_at=clock.utc_now(), revoke_reason=reason).returning(AuthSession.id)
    return len((await session.scalars(ended)).all())


def client_address(origin: Origin) -> str | None:
    """The address of a client without its zone; None where there is none, as on a Unix socket."""
    try:
        address = ipaddress.ip_address((origin.address or "").partition("%")[0])
        # A socket for both kinds shows IPv4 clients as ::ffff:192.0.2.7.
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        return None


def client_network(origin: Origin) -> str:
    """What limits by address count: the address; of IPv6 its network of 64 bits, as who has one of it has them all."""
    address = client_address(origin)
    if address is not None and ":" in address:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return address or "none"


async def _held(session: AsyncSession, hashed: bytes) -> Any:
    """The token with its session, whose row is held from here on, and its account."""
    shown = (
        RefreshToken.session_id, AuthSession.revoked_at, AuthSession.expires_at, User.id, User.public_id, User.email,
        User.role, User.token_version, User.disabled_at,
    )  # fmt: skip
    joined = (
        select(*shown)
        .join(AuthSession, AuthSession.id == RefreshToken.session_id)
        .join(User, User.id == AuthSession.user_id)
    )
    statement = joined.where(RefreshToken.token_hash == hashed).with_for_update(of=AuthSession)
    return (await session.execute(statement)).first()


async def _is_honest_retry(
    session: AsyncSession, hashed: bytes, session_id: UUID, now: datetime, window_s: int
) -> bool:
    """Whether a used token may be exchanged once more; if so, what its first exchange gave is dead."""
    used_at = await session.scalar(select(RefreshToken.used_at).where(RefreshToken.token_hash == hashed))
    if used_at is None or used_at == REPLACED or now - used_at >= timedelta(seconds=window_s):
        return False
    of_family = RefreshToken.session_id == session_id
    later = exists().where(of_family, RefreshToken.token_hash != hashed, RefreshToken.used_at >= used_at)
    if await session.scalar(select(later)):
        return False
    await session.execute(
        update(RefreshToken).where(of_family, RefreshToken.used_at.is_(None)).values(used_at=REPLACED)
    )
    return True


async def _issue(session: AsyncSession, session_id: UUID, now: datetime) -> str:
    token = new_token()
    values = {"token_hash": digest(token), "session_id": session_id, "issued_at": now}
    await session.execute(insert(RefreshToken).values(values))
    return token


def _agent(origin: Origin) -> str | None:
    if origin.user_agent is None:
        return None
    return origin.user_agent[:LONGEST_AGENT].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
