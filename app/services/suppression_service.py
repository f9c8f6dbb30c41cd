"""Numbers that must not be texted: added, lifted with a reason, never deleted; known by a keyed hash that outlives contacts.

A suppression holds for a number, whether there is a contact with it or not. `contact_id` is there so that SQL finds it:
whoever makes a contact calls `link_contact` in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.errors import Conflict, InvalidInput, NotFound
from app.models.contact import Contact
from app.models.permission import Caller, Origin
from app.models.suppression import Suppression, SuppressionPurpose, SuppressionReason
from app.services import audit_service
from app.services.consent_service import require_contact
from app.services.phone_hash import KEY_ID, PhoneHasher

FOR_GOOD = frozenset({SuppressionReason.ERASURE})
"""Reasons that nobody lifts: the person asked to be gone."""


@dataclass(frozen=True, slots=True)
class SuppressionView:
    """A suppression as people see it; it tells no number."""

    id: int
    contact_id: int | None
    purpose: SuppressionPurpose
    reason: SuppressionReason
    source: str
    created_at: datetime
    lifted_at: datetime | None
    lifted_reason: str | None


class Suppressions:
    """The rules of suppression, with the key under which numbers are hashed."""

    def __init__(self, hasher: PhoneHasher) -> None:
        self._hasher = hasher

    async def suppress(
        self, session: AsyncSession, caller: Caller, phone_e164: str, purpose: SuppressionPurpose,
        reason: SuppressionReason, *, source: str, evidence: str | None = None, origin: Origin,
    ) -> bool:  # fmt: skip
        """Keep a number from being texted; False when it already is, for the same purpose and reason.

        Raises: InvalidInput without a source.
        """
        if not source.strip():
            raise InvalidInput("Say where the suppression came from.", code="suppression_source")
        phone_hash = self._hasher.of(phone_e164)
        await _lock_number(session, phone_hash)
        contact_id = await session.scalar(select(Contact.id).where(Contact.phone_e164 == phone_e164))
        values = {
            "phone_hash": phone_hash, "key_id": KEY_ID, "contact_id": contact_id, "purpose": purpose,
            "reason": reason, "source": source, "evidence": evidence, "created_by": caller.user_id,
            "created_at": clock.utc_now(),
        }  # fmt: skip
        in_force = insert(Suppression).values(values).on_conflict_do_nothing(
            index_elements=["phone_hash", "purpose", "reason"], index_where=Suppression.lifted_at.is_(None)
        )  # fmt: skip
        number = await session.scalar(in_force.returning(Suppression.id))
        if number is None:
            return False
        await audit_service.record(
            session, caller, "suppression.add", origin=origin, object_type="suppression", object_id=str(number),
            detail={"purpose": purpose, "reason": reason},
        )  # fmt: skip
        return True

    async def opt_out(
        self, session: AsyncSession, caller: Caller, contact_id: int, *, source: str, origin: Origin
    ) -> None:
        """What BAJA does: no marketing from now on, by the contact and by its number.

        Raises: NotFound, Conflict.
        """
        phone = await require_contact(session, contact_id)
        now = clock.utc_now()
        await session.execute(
            update(Contact).where(Contact.id == contact_id, Contact.opt_out_at.is_(None)).values(opt_out_at=now)
        )
        await self.suppress(
            session,
            caller,
            phone,
            SuppressionPurpose.MARKETING,
            SuppressionReason.OPT_OUT,
            source=source,
            origin=origin,
        )

    async def lift(
        self, session: AsyncSession, caller: Caller, suppression_id: int, why: str, origin: Origin
    ) -> SuppressionView:
        """End a suppression, with the reason; an opt-out ends for the contact too.

        Raises: InvalidInput without a reason, NotFound, Conflict (already lifted, or one that nobody lifts).
        """
        if not why.strip():
            raise InvalidInput("Say why the suppression is lifted.", code="suppression_reason")
        found = await session.scalar(select(Suppression).where(Suppression.id == suppression_id).with_for_update())
        if found is None:
            raise NotFound("There is no such suppression.", code="suppression_not_found")
        if found.lifted_at is not None:
            raise Conflict("The suppression was lifted already.", code="suppression_lifted")
        if found.reason in FOR_GOOD:
            raise Conflict("Who was erased stays out: this suppression is not lifted.", code="suppression_for_good")
        found.lifted_at, found.lifted_by, found.lifted_reason = clock.utc_now(), caller.user_id, why
        await session.flush()
        if found.reason is SuppressionReason.OPT_OUT and found.contact_id is not None:
            other = exists().where(
                Suppression.contact_id == found.contact_id,
                Suppression.reason == SuppressionReason.OPT_OUT,
                Suppression.lifted_at.is_(None),
            )
            await session.execute(update(Contact).where(Contact.id == found.contact_id, ~other).values(opt_out_at=None))
        await audit_service.record(
            session, caller, "suppression.lift", origin=origin, object_type="suppression",
            object_id=str(suppression_id), detail={"why": why},
        )  # fmt: skip
        return _view(found)

    async def admit(self, session: AsyncSession, phone_e164: str) -> None:
        """Call before a contact is made, in its transaction: nobody suppresses this number until that ends.

        Raises: Conflict when the person with this number asked to be erased: no path may make a contact of it again.
        """
        phone_hash = self._hasher.of(phone_e164)
        await _lock_number(session, phone_hash)
        erased = select(Suppression.id).where(
            Suppression.phone_hash == phone_hash,
            Suppression.reason == SuppressionReason.ERASURE,
            Suppression.lifted_at.is_(None),
        )
        if await session.scalar(erased) is not None:
            raise Conflict("The person with this number asked to be erased.", code="contact_was_erased")

    async def link_contact(self, session: AsyncSession, contact_id: int, phone_e164: str) -> None:
        """Give a new contact the suppressions that its number has; after `admit`, in the same transaction."""
        await session.execute(
            update(Suppression)
            .where(Suppression.phone_hash == self._hasher.of(phone_e164), Suppression.contact_id.is_(None))
            .values(contact_id=contact_id)
        )


async def of_contact(session: AsyncSession, contact_id: int) -> tuple[SuppressionView, ...]:
    """Every suppression of a contact, newest first, the lifted ones with them."""
    rows = await session.scalars(
        select(Suppression).where(Suppression.contact_id == contact_id).order_by(Suppression.id.desc())
    )
    return tuple(map(_view, rows))


async def _lock_number(session: AsyncSession, phone_hash: bytes) -> None:
    """Who suppresses a number and who makes a contact of it go one after the other: each sees what the other did."""
    await session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(phone_hash[:8], "big", signed=True))))


def _view(row: Suppression) -> SuppressionView:
    return SuppressionView(
        row.id, row.contact_id, row.purpose, row.reason, row.source, row.created_at, row.lifted_at, row.lifted_reason
    )
