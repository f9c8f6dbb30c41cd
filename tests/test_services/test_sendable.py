"""Who may be texted: random histories against a plain model, and the two forms of the rule against each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.async_database import Database
from app.core.config import ApiSettings
from app.core.errors import AppError, Conflict, InvalidInput, NotFound
from app.models.consent import ConsentAction, ConsentChannel, Purpose
from app.models.contact import Contact, ContactStatus, LineType
from app.models.permission import SYSTEM, Origin
from app.models.suppression import Suppression, SuppressionPurpose, SuppressionReason
from app.services import consent_service, sendable, suppression_service
from app.services.consent_service import ConsentAct
from app.services.phone_hash import PhoneHasher
from app.services.sendable import Blocker
from app.services.suppression_service import Suppressions

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = Origin()
RULES = Suppressions(PhoneHasher(b"k" * 32))
NUMBER = 5510000000


@dataclass
class Model:
    """One contact as a person with a notebook would keep it."""

    status: ContactStatus = ContactStatus.ACTIVE
    is_valid: bool = True
    is_mobile: bool = True
    acts: list[tuple[datetime, int, Purpose, ConsentAction]] = field(default_factory=list)
    suppressed: dict[tuple[SuppressionPurpose, SuppressionReason], int] = field(default_factory=dict)
    opted_out: bool = False

    def blockers(self, purpose: Purpose, at: datetime) -> list[Blocker]:
        """What stands in the way, in order."""
        newest = max(
            ((when, n, act) for when, n, kind, act in self.acts if kind is purpose and when <= at), default=None
        )
        action = newest[2] if newest else None
        marketing = purpose is Purpose.MARKETING
        consented = action is ConsentAction.GRANTED or (action is None and not marketing)
        stopped = {SuppressionPurpose.ALL, SuppressionPurpose(purpose.value)}
        found = {
            Blocker.NOT_ACTIVE: self.status is not ContactStatus.ACTIVE,
            Blocker.NOT_VALID: not self.is_valid,
            Blocker.NOT_MOBILE: not self.is_mobile,
            Blocker.NO_CONSENT: not consented,
            Blocker.SUPPRESSED: any(kind in stopped for kind, _ in self.suppressed),
            Blocker.OPTED_OUT: marketing and self.opted_out,
        }
        return [blocker for blocker, holds in found.items() if holds]


def phone(number: int) -> str:
    return f"+52{number}"


async def make_contact(session: AsyncSession, number: int, model: Model) -> int:
    await RULES.admit(session, phone(number))
    values = {
        "phone_e164": phone(number), "phone_national": str(number), "source": "test", "status": model.status,
        "is_valid": model.is_valid, "invalid_reason": None if model.is_valid else "unassigned",
        "is_mobile": model.is_mobile, "line_type": LineType.MOBILE if model.is_mobile else LineType.FIXED,
    }  # fmt: skip
    made = await session.scalar(insert(Contact).values(values).returning(Contact.id))
    assert made is not None
    await RULES.link_contact(session, made, phone(number))
    return int(made)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("consent"), st.sampled_from(Purpose), st.sampled_from(ConsentAction), st.integers(-3, 3)),
        st.tuples(st.just("suppress"), st.sampled_from(SuppressionPurpose), st.sampled_from(SuppressionReason)),
        st.tuples(st.just("lift"), st.integers(0, 5)),
        st.tuples(st.just("opt_out")),
        st.tuples(st.just("recreate")),
        st.tuples(st.just("status"), st.sampled_from([ContactStatus.ACTIVE, ContactStatus.BLOCKED])),
    ),
    max_size=12,
)


class History:
    """Plays steps on the database and in the model."""

    def __init__(self, session: AsyncSession, number: int, model: Model) -> None:
        self.session, self.number, self.model, self.contact_id = session, number, model, 0
        self.now = START

    async def play(self, steps: list[tuple[object, ...]]) -> None:
        self.contact_id = await make_contact(self.session, self.number, self.model)
        for name, *rest in steps:
            self.now += timedelta(hours=1)
            await getattr(self, str(name))(*rest)

    async def consent(self, purpose: Purpose, action: ConsentAction, days_ago: int) -> None:
        when = self.now - timedelta(days=abs(days_ago))
        act = ConsentAct(purpose, action, ConsentChannel.WEB_FORM, when, "form", "doc 1")
        number = await consent_service.record(self.session, SYSTEM, self.contact_id, act, ORIGIN)
        self.model.acts.append((when, number, purpose, action))

    async def suppress(self, purpose: SuppressionPurpose, reason: SuppressionReason) -> None:
        added = await RULES.suppress(
            self.session, SYSTEM, phone(self.number), purpose, reason, source="test", origin=ORIGIN
        )
        assert added == ((purpose, reason) not in self.model.suppressed)
        if added:
            newest = await suppression_service.of_contact(self.session, self.contact_id)
            self.model.suppressed[purpose, reason] = newest[0].id

    async def lift(self, which: int) -> None:
        in_force = list(self.model.suppressed.items())
        if which >= len(in_force):
            return
        (purpose, reason), number = in_force[which]
        if reason is SuppressionReason.ERASURE:
            with pytest.raises(Conflict):
                await RULES.lift(self.session, SYSTEM, number, "asked", ORIGIN)
            return
        await RULES.lift(self.session, SYSTEM, number, "asked", ORIGIN)
        del self.model.suppressed[purpose, reason]
        if reason is SuppressionReason.OPT_OUT:
            self.model.opted_out &= any(why is SuppressionReason.OPT_OUT for _, why in self.model.suppressed)

    async def opt_out(self) -> None:
        await RULES.opt_out(self.session, SYSTEM, self.contact_id, source="BAJA", origin=ORIGIN)
        self.model.opted_out = True
        key = SuppressionPurpose.MARKETING, SuppressionReason.OPT_OUT
        for found in await suppression_service.of_contact(self.session, self.contact_id):
            if (found.purpose, found.reason) == key and found.lifted_at is None:
                self.model.suppressed[key] = found.id

    async def recreate(self) -> None:
        """The contact is deleted and comes again: consent is gone with it, suppressions are not."""
        contact = Contact.__table__
        await self.session.execute(contact.delete().where(Contact.id == self.contact_id))  # type: ignore[attr-defined]
        if any(reason is SuppressionReason.ERASURE for _, reason in self.model.suppressed):
            with pytest.raises(Conflict):
                await make_contact(self.session, self.number, self.model)
            values = {"phone_e164": phone(self.number), "phone_national": str(self.number), "source": "test",
                      "is_valid": True, "is_mobile": True, "line_type": LineType.MOBILE}  # fmt: skip
            self.model.status, self.model.is_valid, self.model.is_mobile = ContactStatus.ACTIVE, True, True
            made = await self.session.scalar(insert(Contact).values(values).returning(Contact.id))
            assert made is not None
            self.contact_id = made
            await RULES.link_contact(self.session, made, phone(self.number))
        else:
            self.contact_id = await make_contact(self.session, self.number, self.model)
        self.model.acts.clear()
        self.model.opted_out = False

    async def status(self, status: ContactStatus) -> None:
        await self.session.execute(update(Contact).where(Contact.id == self.contact_id).values(status=status))
        self.model.status = status


async def agree(session: AsyncSession, history: History) -> None:
    """SQL's predicate, the explanation, and the model say the same, for every purpose."""
    at = history.now + timedelta(minutes=1)
    for purpose in Purpose:
        wanted = history.model.blockers(purpose, at)
        reasons = await sendable.explain(session, history.contact_id, purpose, at)
        assert [reason.blocker for reason in reasons] == wanted
        found = await session.scalar(
            select(Contact.id).where(Contact.id == history.contact_id, sendable.sendable(purpose, at))
        )
        assert (found is not None) == (wanted == [])


@given(steps=STEPS, valid=st.booleans(), mobile=st.booleans(), number=st.integers(0, 9_999_999))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_histories_come_to_what_a_notebook_says(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[object, ...]], valid: bool,
    mobile: bool, number: int,
) -> None:  # fmt: skip
    async def play() -> None:
        db = Database(module_database_url, ApiSettings())
        try:
            async with db.transaction() as session:
                history = History(session, NUMBER + number, Model(is_valid=valid, is_mobile=mobile))
                monkeypatch.setattr(clock, "utc_now", lambda: history.now)
                await history.play(steps)
                await agree(session, history)
                await session.rollback()
        finally:
            await db.close()

    asyncio.run(play())


@pytest.fixture
async def session(database_url: str) -> AsyncIterator[AsyncSession]:
    db = Database(database_url, ApiSettings())
    async with db.transaction() as session:
        yield session
    await db.close()


async def test_a_contact_without_a_record_is_not_sendable_for_marketing_and_says_why(session: AsyncSession) -> None:
    made = await make_contact(session, NUMBER, Model())
    reasons = await sendable.explain(session, made, Purpose.MARKETING, START)
    assert [reason.blocker for reason in reasons] == [Blocker.NO_CONSENT]
    assert reasons[0].spanish == "No consta su consentimiento."
    assert await sendable.explain(session, made, Purpose.TRANSACTIONAL, START) == ()


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START, " ", "doc"), "consent_source"),
        (ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START, "shop"), "consent_evidence"),
        (ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START, "shop", "x" * 501),
         "consent_reference"),
        (ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START.replace(tzinfo=None), "a", "b"),
         "consent_time"),
        (ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, datetime(2999, 1, 1, tzinfo=UTC), "a", "b"),
         "consent_time"),
    ],
)  # fmt: skip
async def test_an_act_that_proves_nothing_is_refused(session: AsyncSession, act: ConsentAct, code: str) -> None:
    made = await make_contact(session, NUMBER, Model())
    with pytest.raises(InvalidInput) as caught:
        await consent_service.record(session, SYSTEM, made, act, ORIGIN)
    assert caught.value.code == code
    assert await consent_service.history(session, made) == ()


async def test_nothing_is_added_to_who_is_not_there_or_was_erased(session: AsyncSession) -> None:
    act = ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START, "shop", "doc")
    with pytest.raises(NotFound):
        await consent_service.record(session, SYSTEM, 10**15, act, ORIGIN)
    erased = await make_contact(session, NUMBER, Model(status=ContactStatus.ERASED))
    with pytest.raises(Conflict):
        await consent_service.record(session, SYSTEM, erased, act, ORIGIN)


async def test_who_suppresses_a_number_waits_for_who_makes_its_contact(database_url: str) -> None:
    """Whichever is first, the suppression ends up on the contact."""
    db = Database(database_url, ApiSettings())

    async def suppress() -> None:
        async with db.transaction() as session:
            await RULES.suppress(
                session, SYSTEM, phone(NUMBER), SuppressionPurpose.ALL, SuppressionReason.COMPLAINT, source="call",
                origin=ORIGIN,
            )  # fmt: skip

    async with db.transaction() as session:
        made = await make_contact(session, NUMBER, Model())
        waiting = asyncio.create_task(suppress())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
    await waiting
    async with db.transaction() as session:
        reasons = await sendable.explain(session, made, Purpose.TRANSACTIONAL, clock.utc_now())
    await db.close()
    assert [reason.blocker for reason in reasons] == [Blocker.SUPPRESSED]


async def test_an_erased_number_does_not_come_back_and_no_one_lifts_it(session: AsyncSession) -> None:
    await RULES.suppress(
        session,
        SYSTEM,
        phone(NUMBER),
        SuppressionPurpose.ALL,
        SuppressionReason.ERASURE,
        source="request",
        origin=ORIGIN,
    )
    with pytest.raises(AppError) as caught:
        await make_contact(session, NUMBER, Model())
    assert caught.value.code == "contact_was_erased"
    number = await session.scalar(select(Suppression.id))
    with pytest.raises(Conflict) as caught:
        await RULES.lift(session, SYSTEM, number or 0, "asked", ORIGIN)
    assert caught.value.code == "suppression_for_good"


async def test_newest_act_counts_in_whatever_order_acts_are_recorded(session: AsyncSession) -> None:
    """A form of last week may be typed in today; of two acts of one instant the one recorded later counts."""
    made = await make_contact(session, NUMBER, Model())
    granted, withdrawn = ConsentAction.GRANTED, ConsentAction.WITHDRAWN
    recorded = [(granted, 10), (withdrawn, 20), (granted, 5), (granted, 30), (withdrawn, 30), (granted, 25)]
    told = []
    for action, days in recorded:
        act = ConsentAct(
            Purpose.MARKETING, action, ConsentChannel.PAPER, START - timedelta(days=40 - days), "shop", "doc"
        )
        await consent_service.record(session, SYSTEM, made, act, ORIGIN)
        told.append(await sendable.explain(session, made, Purpose.MARKETING, START) == ())
    assert told == [True, False, False, True, False, False]


async def test_what_is_still_to_come_does_not_count_yet(session: AsyncSession) -> None:
    made = await make_contact(session, NUMBER, Model())
    act = ConsentAct(Purpose.MARKETING, ConsentAction.GRANTED, ConsentChannel.PAPER, START, "shop", "doc")
    await consent_service.record(session, SYSTEM, made, act, ORIGIN)
    before, after = START - timedelta(seconds=1), START + timedelta(seconds=1)
    assert [it.blocker for it in await sendable.explain(session, made, Purpose.MARKETING, before)] == [
        Blocker.NO_CONSENT
    ]
    assert await sendable.explain(session, made, Purpose.MARKETING, after) == ()
