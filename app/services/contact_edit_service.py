"""Contacts made and changed one at a time: by a person in the console, a form, a machine. The same rules as the migration's.

A number is normalised and classified by the plan in force; who was erased does not come back; an edit names the version it
was made from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, InvalidInput, NotFound
from app.core.plan_store import place_tables
from app.models.contact import Contact, ContactStatus, InvalidReason, LineType
from app.models.numbering import NumberingPlan, NumberingRange
from app.models.permission import Caller, Origin
from app.services import audit_service
from app.services.suppression_service import Suppressions
from app.utils import geo_utils, phone_utils
from app.utils.numbering_plan import GEOGRAPHIC, LINE_TYPES, NON_GEOGRAPHIC

LONGEST: dict[str, int] = {
    "full_name": 500, "address": 1000, "neighborhood": 300, "municipality": 300, "city": 300, "source": 60,
}  # fmt: skip
"""Characters of each text; a person is told, a migration shortens and records."""


@dataclass(frozen=True, slots=True)
class ContactDetails:
    """What people know of a contact. `state`: any spelling of a Mexican state."""

    full_name: str | None = None
    address: str | None = None
    neighborhood: str | None = None
    municipality: str | None = None
    state: str | None = None
    city: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A contact after it was written."""

    id: int
    phone_e164: str
    version: int
    is_new: bool


class ContactEditor:
    """Makes and changes contacts, and keeps suppressions with them."""

    def __init__(self, suppressions: Suppressions) -> None:
        self._suppressions = suppressions

    async def create(
        self, session: AsyncSession, caller: Caller, phone: str, details: ContactDetails, source: str, origin: Origin
    ) -> Saved:
        """Make a contact.

        Raises: InvalidInput (number, state, a text too long), Conflict (there is one, or the person was erased).
        """
        saved = await self._insert(session, phone, details, source)
        if saved is None:
            raise Conflict("There is a contact with this number already.", code="contact_exists")
        await _record(session, caller, "contact.create", saved, origin, {"source": source})
        return saved

    async def upsert(
        self, session: AsyncSession, caller: Caller, phone: str, details: ContactDetails, source: str, origin: Origin
    ) -> Saved:
        """Make a contact, or give the one with this number the details that are set; what is None stays as it was.

        Raises: as create(), but for the contact that is there.
        """
        saved = await self._insert(session, phone, details, source)
        if saved is None:
            e164 = _verdict(phone)[1]
            row = (
                await session.execute(select(Contact).where(Contact.phone_e164 == e164).with_for_update())
            ).scalar_one()
            changes = _changes(row, details)
            saved = await _apply(session, row.id, row.version, changes) if changes else _saved(row)
            await _record(session, caller, "contact.upsert", saved, origin, {"fields": sorted(changes)})
        else:
            await _record(session, caller, "contact.create", saved, origin, {"source": source})
        return saved

    async def _insert(self, session: AsyncSession, phone: str, details: ContactDetails, source: str) -> Saved | None:
        """The new contact, or None when its number is taken."""
        national, e164 = _verdict(phone)
        _check_lengths({**_texts(details), "source": source})
        await self._suppressions.admit(session, e164)
        values = {**await _classified(session, national), **_placed(national, details), "source": source}
        values |= {"phone_e164": e164, "phone_national": f"{national:010d}", "phone_original": phone[:200]}
        statement = insert(Contact).values(values).on_conflict_do_nothing(index_elements=[Contact.phone_e164])
        row = (
            await session.execute(statement.returning(Contact.id, Contact.phone_e164, Contact.version))
        ).one_or_none()
        if row is None:
            return None
        await self._suppressions.link_contact(session, row.id, e164)
        return Saved(row.id, row.phone_e164, row.version, is_new=True)


async def edit(
    session: AsyncSession, caller: Caller, contact_id: int, version: int, details: ContactDetails, origin: Origin
) -> Saved:
    """Replace what people know of a contact, made from its `version`; None empties a field.

    Raises: NotFound, InvalidInput, Conflict when somebody changed it meanwhile, or it was erased.
    """
    row = await _locked(session, contact_id)
    if row.status is ContactStatus.ERASED:
        raise Conflict("The contact was erased.", code="contact_erased")
    if row.version != version:
        raise Conflict(f"The contact was changed meanwhile: it is at version {row.version}.", code="version_conflict")
    _check_lengths(_texts(details))
    wanted = {**_texts(details), **_placed(int(row.phone_national), details)}
    changes = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    saved = await _apply(session, contact_id, version, changes) if changes else _saved(row)
    await _record(session, caller, "contact.edit", saved, origin, {"fields": sorted(changes)})
    return saved


async def set_status(
    session: AsyncSession, caller: Caller, contact_id: int, version: int, status: ContactStatus, origin: Origin
) -> Saved:
    """Move a contact along the table of moves of ContactStatus; erasing is a right of its own and not done here.

    Raises: NotFound, Conflict (no such move, or changed meanwhile), InvalidInput (ERASED).
    """
    if status is ContactStatus.ERASED:
        raise InvalidInput("A contact is erased by a request for erasure.", code="contact_erasure")
    row = await _locked(session, contact_id)
    if row.version != version:
        raise Conflict(f"The contact was changed meanwhile: it is at version {row.version}.", code="version_conflict")
    if not row.status.can_become(status):
        raise Conflict(f"A contact that is {row.status} does not become {status}.", code="status_move")
    if status is ContactStatus.ACTIVE and not row.is_valid:
        raise Conflict("The number is not valid: the contact cannot be active.", code="status_move")
    saved = await _apply(session, contact_id, version, {"status": status})
    detail = {"from": row.status, "to": status}
    await _record(session, caller, "contact.status", saved, origin, detail)
    return saved


def _verdict(phone: str) -> tuple[int, str]:
    verdict = phone_utils.normalize(phone)
    if verdict.national is None or verdict.e164 is None:
        raise InvalidInput(f"This is not a Mexican phone number: {verdict.reason}.", code="phone_invalid")
    return verdict.national, verdict.e164


async def _classified(session: AsyncSession, national: int) -> dict[str, Any]:
    """Line type, operator and validity by the plan in force."""
    service = int(NON_GEOGRAPHIC[national // 10**7])
    if service != GEOGRAPHIC:
        return _line(LineType(LINE_TYPES[service]), None)
    nearest = (
        select(NumberingRange)
        .join(NumberingPlan, NumberingPlan.id == NumberingRange.plan_id)
        .where(NumberingPlan.in_force, NumberingRange.first_number <= national)
        .order_by(NumberingRange.first_number.desc())
        .limit(1)
    )
    found = await session.scalar(nearest)
    if found is None or found.last_number < national:
        return _line(LineType.UNASSIGNED, None)
    return _line(LineType(found.line_type.value), found.operator)


def _line(line_type: LineType, operator: str | None) -> dict[str, Any]:
    is_valid = line_type is not LineType.UNASSIGNED
    return {
        "line_type": line_type, "operator": operator, "is_mobile": line_type is LineType.MOBILE, "is_valid": is_valid,
        "invalid_reason": None if is_valid else InvalidReason.UNASSIGNED,
        "status": ContactStatus.ACTIVE if is_valid else ContactStatus.INVALID,
    }  # fmt: skip


def _placed(national: int, details: ContactDetails) -> dict[str, Any]:
    """Texts, and state, city and time zone, with what was inferred from the LADA."""
    tables, lada = place_tables(), phone_utils.lada_of(national)
    state = geo_utils.state_code(details.state) if details.state else None
    if details.state and state is None:
        raise InvalidInput(f"There is no Mexican state called {details.state!r}.", code="state_unknown")
    at = geo_utils.locate(
        geo_utils.place_of_lada(tables.ladas, lada), tables.zones, state=state, municipality=details.municipality,
        city=details.city,
    )  # fmt: skip
    return {
        **_texts(details), "city": at.city, "lada": lada, "state_code": at.state_code,
        "state_name": geo_utils.STATE_NAMES[at.state_code] if at.state_code else None, "time_zone": at.time_zone,
        "inferred": at.inferred,
    }  # fmt: skip


def _texts(details: ContactDetails) -> dict[str, str | None]:
    return {it.name: getattr(details, it.name) for it in fields(details) if it.name != "state"}


def _check_lengths(texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        if text is not None and len(text) > LONGEST[name]:
            raise InvalidInput(f"{name} has at most {LONGEST[name]} characters.", code="text_too_long")


def _changes(row: Contact, details: ContactDetails) -> dict[str, Any]:
    """What an upsert changes: the fields that are set and differ."""
    _check_lengths(_texts(details))
    changes = {name: text for name, text in _texts(details).items() if text is not None and getattr(row, name) != text}
    if details.state or "municipality" in changes:
        merged = ContactDetails(
            state=details.state or row.state_code, city=details.city or row.city,
            municipality=details.municipality or row.municipality,
        )  # fmt: skip
        placed = _placed(int(row.phone_national), merged)
        names = ("state_code", "state_name", "time_zone", "inferred")
        changes |= {name: placed[name] for name in names if placed[name] != getattr(row, name)}
    return changes


async def _locked(session: AsyncSession, contact_id: int) -> Contact:
    row = await session.scalar(select(Contact).where(Contact.id == contact_id).with_for_update())
    if row is None:
        raise NotFound("There is no such contact.", code="contact_not_found")
    return row


async def _apply(session: AsyncSession, contact_id: int, version: int, changes: dict[str, Any]) -> Saved:
    statement = update(Contact).where(Contact.id == contact_id).values(**changes, version=version + 1)
    row = (
        await session.execute(
            statement.returning(Contact.id, Contact.phone_e164, Contact.version),
            execution_options={"synchronize_session": False},
        )
    ).one()
    return Saved(row.id, row.phone_e164, row.version, is_new=False)


def _saved(row: Contact) -> Saved:
    return Saved(row.id, row.phone_e164, row.version, is_new=False)


async def _record(
    session: AsyncSession, caller: Caller, action: str, saved: Saved, origin: Origin, detail: dict[str, Any]
) -> None:
    await audit_service.record(
        session, caller, action, origin=origin, object_type="contact", object_id=str(saved.id), detail=detail
    )
