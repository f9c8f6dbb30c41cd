"""Consent: dated, sourced acts that are only ever added; the newest act per contact and purpose is the state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.errors import Conflict, InvalidInput, NotFound
from app.models.consent import Consent, ConsentAction, ConsentChannel, Purpose
from app.models.contact import Contact, ContactStatus
from app.models.permission import Caller, Origin
from app.services import audit_service

CLOCKS_DIFFER = timedelta(minutes=5)
"""An act may seem to lie in the future by so much: the clock of the form that took it is not ours."""
LONGEST_REFERENCE = 500
"""Characters of a source or of a reference to evidence."""


@dataclass(frozen=True, slots=True)
class ConsentAct:
    """What a person did, when, and how we know."""

    purpose: Purpose
    action: ConsentAction
    channel: ConsentChannel
    happened_at: datetime
    source: str
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """An act as it is on record. `recorded_by`: account number; None where the platform did."""

    id: int
    act: ConsentAct
    recorded_at: datetime
    recorded_by: int | None


async def record(session: AsyncSession, caller: Caller, contact_id: int, act: ConsentAct, origin: Origin) -> int:
    """Add one act to a contact's history; its number.

    Raises: InvalidInput (no source, a grant without evidence, an act in the future), NotFound, Conflict (erased).
    """
    _check(act)
    await require_contact(session, contact_id)
    values = {
        "contact_id": contact_id, "purpose": act.purpose, "action": act.action, "channel": act.channel,
        "happened_at": act.happened_at, "source": act.source, "evidence": act.evidence, "recorded_by": caller.user_id,
    }  # fmt: skip
    number = await session.scalar(insert(Consent).values(values).returning(Consent.id))
    await audit_service.record(
        session, caller, f"consent.{act.action}", origin=origin, object_type="contact", object_id=str(contact_id),
        detail={"purpose": act.purpose, "channel": act.channel, "consent_id": number},
    )  # fmt: skip
    return int(number or 0)


async def history(session: AsyncSession, contact_id: int) -> tuple[ConsentRecord, ...]:
    """Every act of a contact, newest first, as the state is derived from them."""
    rows = await session.execute(
        select(Consent).where(Consent.contact_id == contact_id).order_by(Consent.happened_at.desc(), Consent.id.desc())
    )
    return tuple(
        ConsentRecord(
            row.id,
            ConsentAct(row.purpose, row.action, row.channel, row.happened_at, row.source, row.evidence),
            row.recorded_at,
            row.recorded_by,
        )
        for row in rows.scalars()
    )


async def require_contact(session: AsyncSession, contact_id: int) -> str:
    """The E.164 number of a contact that is there and not erased, locked against erasure until the transaction ends.

    Raises: NotFound, Conflict.
    """
    statement = select(Contact.phone_e164, Contact.status).where(Contact.id == contact_id)
    row = (await session.execute(statement.with_for_update(key_share=True))).one_or_none()
    if row is None:
        raise NotFound("There is no such contact.", code="contact_not_found")
    if row.status is ContactStatus.ERASED:
        raise Conflict("The contact was erased: nothing is added to it.", code="contact_erased")
    return str(row.phone_e164)


def _check(act: ConsentAct) -> None:
    if not act.source.strip():
        raise InvalidInput("Say where the consent came from: a form, a shop, a message.", code="consent_source")
    if act.action is ConsentAction.GRANTED and not (act.evidence or "").strip():
        raise InvalidInput("A consent needs a reference to its evidence.", code="consent_evidence")
    if max(len(act.source), len(act.evidence or "")) > LONGEST_REFERENCE:
        raise InvalidInput(f"A reference has at most {LONGEST_REFERENCE} characters.", code="consent_reference")
    if act.happened_at.tzinfo is None:
        raise InvalidInput("The time of the act needs an offset from UTC.", code="consent_time")
    if act.happened_at > clock.utc_now() + CLOCKS_DIFFER:
        raise InvalidInput("The act lies in the future.", code="consent_time")
