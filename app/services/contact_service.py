"""Contacts to look at: one, or a page of them; masked for callers who may not see numbers and names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.errors import NotFound
from app.models.contact import Contact, ContactStatus, InvalidReason, LineType
from app.models.permission import Caller, Origin, Permission
from app.services import audit_service

WINDOW = 100_000
"""Rows that a filtered page looks at with one statement (some 50 ms from memory)."""
MOST_WINDOWS = 10
"""A page ends here, found or not: rare filters must not read 36 million rows for one answer. Its cursor goes on."""

SHOWN = (
    Contact.id, Contact.phone_e164, Contact.full_name, Contact.address, Contact.neighborhood, Contact.municipality,
    Contact.state_code, Contact.state_name, Contact.lada, Contact.city, Contact.line_type, Contact.operator,
    Contact.is_valid, Contact.invalid_reason, Contact.status, Contact.time_zone, Contact.source, Contact.opt_out_at,
    Contact.last_sent_at, Contact.send_count, Contact.created_at, Contact.version,
)  # fmt: skip
_ONE = select(*SHOWN).where(Contact.id == bindparam("contact_id"))
"""Made once: putting it together would cost as much as asking."""


@dataclass(frozen=True, slots=True)
class ContactView:
    """A contact as its caller may see it."""

    id: int
    phone_e164: str
    full_name: str | None
    address: str | None
    neighborhood: str | None
    municipality: str | None
    state_code: str | None
    state_name: str | None
    lada: str | None
    city: str | None
    line_type: LineType
    operator: str | None
    is_valid: bool
    invalid_reason: InvalidReason | None
    status: ContactStatus
    time_zone: str | None
    source: str
    opt_out_at: datetime | None
    last_sent_at: datetime | None
    send_count: int
    created_at: datetime
    version: int
    is_masked: bool


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Which contacts; None leaves a field open."""

    state_code: str | None = None
    lada: str | None = None
    line_type: LineType | None = None
    is_valid: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as SQL."""
        wanted = ((Contact.state_code, self.state_code), (Contact.lada, self.lada),
                  (Contact.line_type, self.line_type), (Contact.is_valid, self.is_valid))  # fmt: skip
        return [column == value for column, value in wanted if value is not None]

    def named(self) -> dict[str, str | bool]:
        """What is set, for the audit log."""
        values = {"state_code": self.state_code, "lada": self.lada, "line_type": self.line_type,
                  "is_valid": self.is_valid}  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ContactPage:
    """Contacts by id; `last_id` is where the next page begins, None at the end."""

    items: tuple[ContactView, ...]
    last_id: int | None


async def get(session: AsyncSession | AsyncConnection, caller: Caller, contact_id: int) -> ContactView:
    """One contact; masked unless the caller has `contacts:reveal`.

    Raises: NotFound.
    """
    row = (await session.execute(_ONE, {"contact_id": contact_id})).one_or_none()
    if row is None:
        raise NotFound("There is no such contact.", code="contact_not_found")
    return _view(row, is_masked=not caller.may(Permission.CONTACTS_REVEAL))


async def list_contacts(
    session: AsyncSession, caller: Caller, origin: Origin, wanted: ContactFilter, *, after_id: int = 0, limit: int = 50
) -> ContactPage:
    """At most `limit` contacts behind `after_id`, by id; the reading goes on record in the same transaction.

    With filters at most WINDOW * MOST_WINDOWS rows are looked at: the page may be short, even empty, and have a next one.
    """
    rows, last_id = await _scan(session, wanted.conditions(), after_id, limit)
    is_masked = not caller.may(Permission.CONTACTS_REVEAL)
    await audit_service.record(
        session, caller, "contacts.list", origin=origin, object_type="contacts",
        detail={"filters": wanted.named(), "rows": len(rows), "after": after_id, "masked": is_masked},
    )  # fmt: skip
    return ContactPage(tuple(_view(row, is_masked=is_masked) for row in rows), last_id)


async def _scan(
    session: AsyncSession, conditions: list[ColumnElement[bool]], after_id: int, limit: int
) -> tuple[list[Row[*tuple[Any, ...]]], int | None]:
    """The rows, and the id behind which to go on; one row more than asked for tells whether there is more."""
    found: list[Row[*tuple[Any, ...]]] = []
    position = after_id
    for _ in range(MOST_WINDOWS):
        until = await _window_end(session, position) if conditions else None
        statement = select(*SHOWN).where(Contact.id > position, *conditions).order_by(Contact.id)
        if until is not None:
            statement = statement.where(Contact.id <= until)
        found += (await session.execute(statement.limit(limit + 1 - len(found)))).all()
        if len(found) > limit:
            return found[:limit], found[limit - 1].id
        if until is None:
            return found, None
        position = until
    return found, position


async def _window_end(session: AsyncSession, position: int) -> int | None:
    """The id of the last row of the window behind `position`; None when the table ends in it."""
    ids = select(Contact.id).where(Contact.id > position).order_by(Contact.id)
    found: int | None = await session.scalar(ids.offset(WINDOW - 1).limit(1))
    return found


def _view(row: Row[*tuple[Any, ...]], *, is_masked: bool) -> ContactView:
    fields = dict(row._mapping)
    if is_masked:
        hidden = {"phone_e164": mask_number(row.phone_e164), "full_name": initials(row.full_name)}
        fields |= {**hidden, "address": None, "neighborhood": None}
    return ContactView(**fields, is_masked=is_masked)


def mask_number(phone_e164: str) -> str:
    """A number of which country and the last four digits can be read: +52******5678."""
    return phone_e164[:3] + "*" * (len(phone_e164) - 7) + phone_e164[-4:]


def initials(name: str | None) -> str | None:
    """The first letters of a name's words: M. P. L.; what begins with no letter is left out. None stays None."""
    if name is None:
        return None
    return " ".join(f"{word[0].upper()}." for word in name.split() if word[0].isalpha())
