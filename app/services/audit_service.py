"""The audit log: who did what to which object, from where, with which result. What is written stays (audit_chain).

An event belongs to the transaction of the act: both are there or neither. From `record` until that transaction ends the
end of the chain is locked (FOR UPDATE on the one row of audit_head), so that writers of events go one after another:
record last, and wait for nothing afterwards. Bulk work is one event: every event leaves a dead version of the head that
the next one passes over (about 20 ns each) until its transaction, and any older snapshot, has ended.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from sqlalchemy import Row, Select, create_engine, pool, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import outerjoin

from app.core.database import sqlalchemy_url
from app.core.logs import PHONE_KEYS, mask_phone
from app.models.access import ApiKey
from app.models.audit import AuditEvent, AuditResult
from app.models.permission import Caller, CallerKind, Origin
from app.models.user import User

LONGEST_NAME = 320
"""Characters kept of an actor: the longest email address."""
LONGEST_ID = 200
"""Characters kept of action, object and request id: they are in an index, whose entries have at most 2,700 bytes."""
LONGEST_AGENT = 300
LONGEST_TEXT, MOST_ITEMS, DEEPEST = 500, 100, 5
"""What is kept of a detail: characters of a text, items of a list or object, levels."""
SECRET_WORDS = ("password", "secret", "token", "otp", "recovery", "authorization", "cookie")
HIDDEN = "***"
LARGEST_PAGE = 500

INSERT = """
INSERT INTO audit_events (actor_kind, actor_id, actor, api_key_id, action, object_type, object_id, result, address,
                          user_agent, request_id, detail)
VALUES (%(actor_kind)s, %(actor_id)s, %(actor)s, %(api_key_id)s, %(action)s, %(object_type)s, %(object_id)s, %(result)s,
        %(address)s::inet, %(user_agent)s, %(request_id)s, %(detail)s::jsonb)
"""

Detail = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEventView:
    """One event as people see it: accounts and keys by their ids outside."""

    id: int
    occurred_at: datetime
    actor_kind: CallerKind
    actor: str
    actor_id: UUID | None
    api_key_id: UUID | None
    action: str
    object_type: str | None
    object_id: str | None
    result: AuditResult
    address: str | None
    user_agent: str | None
    request_id: str | None
    detail: Detail
    hash: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events; None leaves a field open. `since` is the first instant, `until` the first one no longer meant."""

    actor_id: UUID | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    result: AuditResult | None = None
    since: datetime | None = None
    until: datetime | None = None


ALL_EVENTS = AuditFilter()


async def record(
    session: AsyncSession,
    caller: Caller,
    action: str,
    *,
    origin: Origin,
    object_type: str | None = None,
    object_id: object = None,
    result: AuditResult = AuditResult.OK,
    detail: Detail | None = None,
) -> None:
    """Add an event in the caller's transaction, which from here on holds the end of the chain: do it last.

    Texts are cut to what is kept, characters that PostgreSQL cannot keep are replaced, `detail` has its secrets and
    phone numbers hidden. Of an act that is rolled back nothing is left: record a refusal in a transaction of its own.
    """
    connection = await session.connection()
    await connection.exec_driver_sql(
        INSERT, _values(caller, action, object_type, object_id, result, origin, detail or {})
    )


def record_sync(
    connection: Connection,
    caller: Caller,
    action: str,
    *,
    origin: Origin | None = None,
    object_type: str | None = None,
    object_id: object = None,
    result: AuditResult = AuditResult.OK,
    detail: Detail | None = None,
) -> None:
    """The same for the command line and jobs, over a psycopg connection. Does not commit."""
    connection.execute(
        INSERT, _values(caller, action, object_type, object_id, result, origin or Origin(), detail or {})
    )


async def list_events(
    session: AsyncSession, *, after_id: int | None = None, limit: int = 50, filters: AuditFilter = ALL_EVENTS
) -> list[AuditEventView]:
    """At most `limit` (500) events, newest first; with `after_id` those older than that one: the next page."""
    rows = await session.execute(_select(after_id, limit, filters))
    return [_view(row) for row in rows]


def list_events_sync(
    db_url: str, *, after_id: int | None = None, limit: int = 50, filters: AuditFilter = ALL_EVENTS
) -> list[AuditEventView]:
    """The same for the command line, over a connection of its own."""
    engine = create_engine(sqlalchemy_url(db_url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        return [_view(row) for row in connection.execute(_select(after_id, limit, filters))]


def _select(after_id: int | None, limit: int, filters: AuditFilter) -> Select[Any]:
    """By primary key backwards, or by an index of the filter; accounts and keys are looked up for the page only."""
    event = AuditEvent
    shown: list[Any] = [
        event.id, event.occurred_at, event.actor_kind, event.actor, User.public_id, ApiKey.public_id, event.action,
        event.object_type, event.object_id, event.result, event.address, event.user_agent, event.request_id,
        event.detail, event.hash,
    ]  # fmt: skip
    joined = outerjoin(event, User, User.id == event.actor_id).outerjoin(ApiKey, ApiKey.id == event.api_key_id)
    statement = select(*shown).select_from(joined)
    if filters.actor_id is not None:
        actor = select(User.id).where(User.public_id == filters.actor_id).scalar_subquery()
        statement = statement.where(event.actor_id == actor)
    wanted = {
        event.action: filters.action,
        event.object_type: filters.object_type,
        event.object_id: filters.object_id,
        event.result: filters.result,
    }
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(column == value)
    if filters.since is not None:
        statement = statement.where(event.occurred_at >= filters.since)
    if filters.until is not None:
        statement = statement.where(event.occurred_at < filters.until)
    if after_id is not None:
        statement = statement.where(event.id < after_id)
    return statement.order_by(event.id.desc()).limit(max(1, min(limit, LARGEST_PAGE)))


def _view(row: Row[Any]) -> AuditEventView:
    fields: list[Any] = list(row)
    fields[10] = None if fields[10] is None else str(getattr(fields[10], "ip", fields[10]))  # without its mask
    fields[14] = bytes(fields[14]).hex()
    return AuditEventView(*fields)


def _values(
    caller: Caller,
    action: str,
    object_type: str | None,
    object_id: object,
    result: AuditResult,
    origin: Origin,
    detail: Detail,
) -> dict[str, Any]:
    actor = caller.email if "@" in caller.email else mask_phone(caller.email)
    return {
        "actor_kind": caller.kind.value,
        "actor_id": caller.user_id,
        "actor": _storable(actor, LONGEST_NAME),
        "api_key_id": caller.api_key_id,
        "action": _storable(action, LONGEST_ID),
        "object_type": None if object_type is None else _storable(object_type, LONGEST_ID),
        "object_id": None if object_id is None else _storable(str(object_id), LONGEST_ID),
        "result": result.value,
        "address": _address(origin.address),
        "user_agent": None if origin.user_agent is None else _storable(origin.user_agent, LONGEST_AGENT),
        "request_id": None if origin.request_id is None else _storable(origin.request_id, LONGEST_ID),
        "detail": json.dumps(_shown(detail), ensure_ascii=False),
    }


def _storable(text: str, longest: int) -> str:
    """`text`, cut; NUL and halves of surrogate pairs, which PostgreSQL does not keep, are replaced."""
    return text[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _address(text: str | None) -> str | None:
    """The address without its zone; None for what is none, as a Unix socket."""
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _shown(value: Any, key: str = "", depth: int = 0) -> Any:
    """`value` as JSON that may be kept: bounded, without secrets, phone numbers but for their last two digits."""
    if isinstance(value, Mapping) and depth < DEEPEST:
        pairs = list(value.items())[:MOST_ITEMS]
        return {_storable(str(name), LONGEST_ID): _shown(item, str(name).lower(), depth + 1) for name, item in pairs}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        return [_shown(item, key, depth + 1) for item in list(value)[:MOST_ITEMS]]
    return _shown_scalar(value, key)


def _shown_scalar(value: Any, key: str) -> str | float | bool | None:
    if key in PHONE_KEYS and value is not None:
        text = _storable(str(value), LONGEST_TEXT)
        return "*" * max(len(text) - 2, 0) + text[-2:]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, bytes) or any(word in key for word in SECRET_WORDS):
        return HIDDEN
    return _storable(mask_phone(str(value)), LONGEST_TEXT)
