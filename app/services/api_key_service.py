"""API keys: made for machines, shown once, bounded by scopes, by an end, and by what their owner may."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.core.security import digest, new_id, new_token
from app.models.access import ApiKey
from app.models.permission import ROLE_PERMISSIONS, Caller, Origin, Permission
from app.models.user import User
from app.services import audit_service

PREFIX = "sms_"
KEY_FORM = re.compile(r"sms_[A-Za-z0-9_-]{43}")
PREFIX_LENGTH = len(PREFIX) + 12
LONGEST_NAME = 100
MOST_DAYS = 365
LARGEST_PAGE = 200
MOST_KEYS = 50
"""Keys of an account that work at the same time."""


@dataclass(frozen=True, slots=True)
class ApiKeyView:
    """A key as people see it: never the key itself."""

    public_id: UUID
    owner_id: UUID
    owner_email: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with the text that is shown this once."""

    view: ApiKeyView
    key: str


@dataclass(frozen=True, slots=True)
class ApiKeyPage:
    """Keys by id; `last_id` is where the next page begins, None at the end."""

    items: tuple[ApiKeyView, ...]
    last_id: UUID | None


async def create(
    session: AsyncSession, caller: Caller, *, name: str, scopes: Iterable[Permission], days: int,
    owner: UUID | None = None, origin: Origin,
) -> NewKey:  # fmt: skip
    """Make a key for one's own account, or with `api_keys:manage` for another.

    Raises: InvalidInput (name, scopes, days), Forbidden (scopes that maker or owner have not), NotFound, Conflict (too many).
    """
    wanted = sorted(set(scopes))
    _check(name, wanted, days)
    row = await _owner(session, caller, owner)
    grantable = caller.permissions & ROLE_PERMISSIONS[row.role]
    if missing := [scope for scope in wanted if scope not in grantable]:
        raise Forbidden(f"You cannot give {', '.join(missing)}.", code="scope_not_yours")
    now = clock.utc_now()
    alive = select(ApiKey.id).where(ApiKey.owner_id == row.id, ApiKey.revoked_at.is_(None), ApiKey.expires_at > now)
    if len((await session.execute(alive.limit(MOST_KEYS))).all()) == MOST_KEYS:
        raise Conflict(f"The account has {MOST_KEYS} keys: revoke one first.", code="too_many_keys")
    key = PREFIX + new_token()
    values = {
        "public_id": new_id(), "owner_id": row.id, "name": name.strip(), "prefix": key[:PREFIX_LENGTH],
        "key_hash": digest(key), "scopes": [scope.value for scope in wanted], "created_at": now,
        "created_by": caller.user_id, "expires_at": now + timedelta(days=days),
    }  # fmt: skip
    await session.execute(insert(ApiKey).values(values))
    detail = {"name": name.strip(), "scopes": [scope.value for scope in wanted], "days": days}
    await _record(session, caller, "api_key.create", values["public_id"], origin, detail)
    return NewKey(await _get(session, values["public_id"]), key)


async def list_keys(
    session: AsyncSession, caller: Caller, *, of_all: bool = False, after: UUID | None = None, limit: int = 50
) -> ApiKeyPage:
    """One's own keys, newest last; `of_all`: everybody's.

    Raises: Forbidden for everybody's without `api_keys:manage`.
    """
    statement = _views()
    if not of_all:
        statement = statement.where(ApiKey.owner_id == caller.user_id)
    elif not caller.may(Permission.API_KEYS_MANAGE):
        raise Forbidden("This needs the permission api_keys:manage.", code="forbidden")
    if after is not None:
        statement = statement.where(ApiKey.public_id > after)
    limit = max(1, min(limit, LARGEST_PAGE))
    rows = (await session.execute(statement.order_by(ApiKey.public_id).limit(limit + 1))).all()
    items = tuple(map(_view, rows[:limit]))
    return ApiKeyPage(items, items[-1].public_id if len(rows) > limit else None)


async def revoke_all(session: AsyncSession, user_id: int) -> int:
    """End every key of an account, whose end the caller audits; how many still worked."""
    working = ApiKey.owner_id == user_id, ApiKey.revoked_at.is_(None), ApiKey.expires_at > clock.utc_now()
    ended = update(ApiKey).where(*working).values(revoked_at=clock.utc_now()).returning(ApiKey.id)
    return len((await session.scalars(ended)).all())


async def revoke(session: AsyncSession, caller: Caller, public_id: UUID, origin: Origin) -> ApiKeyView:
    """End a key; it works no more from the next request on. Revoked already: nothing happens.

    Raises: NotFound, also for a key of somebody else without `api_keys:manage`.
    """
    statement = select(ApiKey.id, ApiKey.owner_id, ApiKey.revoked_at).where(ApiKey.public_id == public_id)
    row = (await session.execute(statement.with_for_update(key_share=True))).one_or_none()
    if row is None or (row.owner_id != caller.user_id and not caller.may(Permission.API_KEYS_MANAGE)):
        raise NotFound("There is no such key.", code="api_key_not_found")
    if row.revoked_at is None:
        await session.execute(update(ApiKey).where(ApiKey.id == row.id).values(revoked_at=clock.utc_now()))
        await _record(session, caller, "api_key.revoke", public_id, origin, {})
    return await _get(session, public_id)


def _check(name: str, scopes: list[Permission], days: int) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"A key needs a name of at most {LONGEST_NAME} printable characters.", code="api_key_name")
    if not scopes or Permission.SELF in scopes:
        raise InvalidInput("A key needs scopes, and `self` is for people.", code="api_key_scopes")
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"A key lives 1 to {MOST_DAYS} days.", code="api_key_days")


async def _owner(session: AsyncSession, caller: Caller, owner: UUID | None) -> Any:
    condition = User.id == caller.user_id if owner is None else User.public_id == owner
    row = (
        await session.execute(
            select(User.id, User.role).where(condition, User.disabled_at.is_(None)).with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is None or (row.id != caller.user_id and not caller.may(Permission.API_KEYS_MANAGE)):
        raise NotFound("There is no such account, or it is disabled.", code="user_not_found")
    return row


def _views() -> Any:
    return select(
        ApiKey.public_id, User.public_id.label("owner_public_id"), User.email, ApiKey.name, ApiKey.prefix, ApiKey.scopes,
        ApiKey.created_at, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at, ApiKey.last_used_from,
    ).join(User, User.id == ApiKey.owner_id)  # fmt: skip


async def _get(session: AsyncSession, public_id: UUID) -> ApiKeyView:
    return _view((await session.execute(_views().where(ApiKey.public_id == public_id))).one())


def _view(row: Any) -> ApiKeyView:
    values: list[Any] = list(row)
    values[5] = tuple(values[5])
    values[10] = None if values[10] is None else str(values[10])
    return ApiKeyView(*values)


async def _record(
    session: AsyncSession, caller: Caller, action: str, public_id: UUID, origin: Origin, detail: dict[str, object]
) -> None:
    await audit_service.record(
        session, caller, action, origin=origin, object_type="api_key", object_id=str(public_id), detail=detail
    )
