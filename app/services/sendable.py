"""Whether a contact may be texted: the one place that says so, as a predicate for SQL and as reasons for people.

`sendable` and `explain` are made of the same rules, in the order of the waterfall. Local hours and frequency are not
among them: they belong to a campaign and its moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.models.consent import Consent, ConsentAction, Purpose
from app.models.contact import Contact, ContactStatus
from app.models.suppression import Suppression, SuppressionPurpose


class Blocker(StrEnum):
    """Why a contact may not be texted, in the order in which reasons are given."""

    NOT_ACTIVE = "not_active"
    NOT_VALID = "not_valid"
    NOT_MOBILE = "not_mobile"
    NO_CONSENT = "no_consent"
    SUPPRESSED = "suppressed"
    OPTED_OUT = "opted_out"


SENTENCES: dict[Blocker, tuple[str, str]] = {
    Blocker.NOT_ACTIVE: ("El contacto no está activo.", "The contact is not active."),
    Blocker.NOT_VALID: ("El número no es válido o no está asignado.", "The number is not valid or not assigned."),
    Blocker.NOT_MOBILE: ("El número no es de un móvil.", "The number is not a mobile."),
    Blocker.NO_CONSENT: ("No consta su consentimiento.", "No consent is on record."),
    Blocker.SUPPRESSED: ("El número está en una lista de exclusión.", "The number is suppressed."),
    Blocker.OPTED_OUT: ("La persona pidió la baja.", "The person opted out."),
}
"""What people read: Spanish, English."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that stands in the way, with the sentence for people in Spanish and English."""

    blocker: Blocker
    spanish: str
    english: str


@dataclass(frozen=True, slots=True)
class Moment:
    """What is asked: to text for `purpose` at the instant `at`."""

    purpose: Purpose
    at: datetime


def _has_consent(moment: Moment) -> ColumnElement[bool]:
    """Marketing needs a grant that nothing newer withdrew; transactional needs only that nothing withdrew it."""
    newest = (
        select(Consent.action)
        .where(Consent.contact_id == Contact.id, Consent.purpose == moment.purpose, Consent.happened_at <= moment.at)
        .order_by(Consent.happened_at.desc(), Consent.id.desc())
        .limit(1)
        .correlate(Contact)
        .scalar_subquery()
    )
    if moment.purpose is Purpose.MARKETING:
        return func.coalesce(newest == ConsentAction.GRANTED, literal(value=False))
    return func.coalesce(newest != ConsentAction.WITHDRAWN, literal(value=True))


def _is_unsuppressed(moment: Moment) -> ColumnElement[bool]:
    """Every path that makes a contact links it to the suppressions of its number (suppression_service.link_contact)."""
    return ~exists().where(
        Suppression.contact_id == Contact.id,
        Suppression.purpose.in_((SuppressionPurpose.ALL, SuppressionPurpose(moment.purpose.value))),
        Suppression.created_at <= moment.at,
        or_(Suppression.lifted_at.is_(None), Suppression.lifted_at > moment.at),
    ).correlate(Contact)


def _is_opted_in(moment: Moment) -> ColumnElement[bool]:
    if moment.purpose is Purpose.TRANSACTIONAL:
        return literal(value=True)
    return or_(Contact.opt_out_at.is_(None), Contact.opt_out_at > moment.at)


_RULES: dict[Blocker, Callable[[Moment], ColumnElement[bool]]] = {
    Blocker.NOT_ACTIVE: lambda _: Contact.status == ContactStatus.ACTIVE,
    Blocker.NOT_VALID: lambda _: Contact.is_valid.is_(other=True),
    Blocker.NOT_MOBILE: lambda _: Contact.is_mobile.is_(other=True),
    Blocker.NO_CONSENT: _has_consent,
    Blocker.SUPPRESSED: _is_unsuppressed,
    Blocker.OPTED_OUT: _is_opted_in,
}


def rules(purpose: Purpose, at: datetime) -> dict[Blocker, ColumnElement[bool]]:
    """Blocker → condition over `contacts` that is true where it does not stand in the way; never NULL; in order."""
    moment = Moment(purpose, at)
    return {blocker: rule(moment) for blocker, rule in _RULES.items()}


def sendable(purpose: Purpose, at: datetime) -> ColumnElement[bool]:
    """The predicate over `contacts`: may be texted for `purpose` at `at`."""
    return and_(*rules(purpose, at).values())


async def explain(session: AsyncSession, contact_id: int, purpose: Purpose, at: datetime) -> tuple[Reason, ...]:
    """Everything that stands in the way of texting one contact, in order; empty: it may be texted.

    Raises: NotFound.
    """
    conditions = rules(purpose, at)
    columns = [condition.label(blocker.value) for blocker, condition in conditions.items()]
    row = (await session.execute(select(*columns).where(Contact.id == contact_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such contact.", code="contact_not_found")
    return tuple(
        Reason(blocker, *SENTENCES[blocker]) for blocker, passes in zip(conditions, row, strict=True) if not passes
    )
