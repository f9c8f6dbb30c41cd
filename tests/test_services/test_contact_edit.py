"""Contacts made and changed one at a time: classified as the migration does it, versioned, and never brought back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.async_database import Database
from app.core.config import ApiSettings
from app.core.errors import AppError, Conflict, InvalidInput, NotFound
from app.core.plan_store import packaged_plan
from app.models.audit import AuditEvent
from app.models.contact import Contact, ContactStatus, LineType
from app.models.permission import SYSTEM, Origin
from app.models.suppression import SuppressionPurpose, SuppressionReason
from app.services import contact_edit_service, numbering_service, suppression_service
from app.services.contact_edit_service import ContactDetails, ContactEditor, Saved
from app.services.phone_hash import PhoneHasher
from app.services.suppression_service import Suppressions

ORIGIN = Origin()
RULES = Suppressions(PhoneHasher(b"k" * 32))
EDITOR = ContactEditor(RULES)
MOBILE = "55 1234 5678"


@pytest.fixture
async def session(database_url: str) -> AsyncIterator[AsyncSession]:
    db = Database(database_url, ApiSettings())
    async with db.transaction() as session:
        yield session
    await db.close()


async def create(session: AsyncSession, phone: str = MOBILE, details: ContactDetails | None = None) -> Saved:
    return await EDITOR.create(session, SYSTEM, phone, details or ContactDetails(), "test", ORIGIN)


async def row_of(session: AsyncSession, contact_id: int) -> Contact:
    row = await session.scalar(
        select(Contact).where(Contact.id == contact_id).execution_options(populate_existing=True)
    )
    assert row is not None
    return row


@pytest.mark.parametrize(
    "number",
    ["5512345678", "8001234567", "9001234567", "3312345678", "2221234567", "6641234567", "9989999999", "5500000000"],
)
async def test_a_new_contact_is_classified_as_the_plan_says(session: AsyncSession, number: str) -> None:
    """The same answer as `smsctl numbering lookup`, which reads the plan another way."""
    saved = await create(session, f"044 {number}")
    row, wanted = await row_of(session, saved.id), numbering_service.lookup(packaged_plan(), number)
    assert saved.phone_e164 == wanted.e164 == row.phone_e164
    assert (row.line_type, row.is_mobile, row.operator, row.is_valid) == (
        wanted.line_type, wanted.is_mobile, wanted.operator, wanted.valid,
    )  # fmt: skip
    assert (row.lada, row.city, row.state_code, row.time_zone) == (
        wanted.lada, wanted.city, wanted.state_code, wanted.time_zone,
    )  # fmt: skip
    assert row.status is (ContactStatus.ACTIVE if wanted.valid else ContactStatus.INVALID)


async def test_what_is_given_wins_over_what_the_lada_says(session: AsyncSession) -> None:
    details = ContactDetails(full_name="ANA", state="B.C.", municipality="TIJUANA", city="TIJUANA")
    row = await row_of(session, (await create(session, details=details)).id)
    assert (row.state_code, row.state_name, row.time_zone, row.inferred) == (
        "BCN",
        "Baja California",
        "America/Tijuana",
        0,
    )


@pytest.mark.parametrize(
    ("phone", "details", "code"),
    [
        ("123", ContactDetails(), "phone_invalid"),
        ("+1 212 555 0100", ContactDetails(), "phone_invalid"),
        ("", ContactDetails(), "phone_invalid"),
        (MOBILE, ContactDetails(state="Atlantis"), "state_unknown"),
        (MOBILE, ContactDetails(full_name="x" * 501), "text_too_long"),
    ],
)
async def test_bad_input_is_refused_and_nothing_is_made(
    session: AsyncSession, phone: str, details: ContactDetails, code: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await create(session, phone, details)
    assert caught.value.code == code
    assert await session.scalar(select(Contact.id)) is None


async def test_a_number_is_there_once_in_whatever_spelling(session: AsyncSession) -> None:
    await create(session)
    with pytest.raises(Conflict) as caught:
        await create(session, "+52 1 55-1234-5678")
    assert caught.value.code == "contact_exists"


async def test_an_upsert_changes_only_what_is_given(session: AsyncSession) -> None:
    first = await create(session, details=ContactDetails(full_name="ANA", address="CALLE 1", state="JALISCO"))
    again = await EDITOR.upsert(session, SYSTEM, "+525512345678", ContactDetails(full_name="ANA LOPEZ"), "api", ORIGIN)
    row = await row_of(session, first.id)
    assert (again.id, again.is_new, again.version) == (first.id, False, 2)
    assert (row.full_name, row.address, row.state_code, row.source) == ("ANA LOPEZ", "CALLE 1", "JAL", "test")
    same = await EDITOR.upsert(session, SYSTEM, MOBILE, ContactDetails(full_name="ANA LOPEZ"), "api", ORIGIN)
    assert same.version == 2


async def test_an_edit_of_an_old_version_is_refused(session: AsyncSession) -> None:
    made = await create(session)
    await contact_edit_service.edit(session, SYSTEM, made.id, 1, ContactDetails(full_name="A"), ORIGIN)
    with pytest.raises(Conflict) as caught:
        await contact_edit_service.edit(session, SYSTEM, made.id, 1, ContactDetails(full_name="B"), ORIGIN)
    assert caught.value.code == "version_conflict"
    assert (await row_of(session, made.id)).full_name == "A"
    with pytest.raises(NotFound):
        await contact_edit_service.edit(session, SYSTEM, 10**15, 1, ContactDetails(), ORIGIN)


async def test_two_edits_at_once_do_not_overwrite_each_other(database_url: str) -> None:
    db = Database(database_url, ApiSettings())
    async with db.transaction() as session:
        made = await create(session)

    async def change(name: str) -> str:
        try:
            async with db.transaction() as session:
                await contact_edit_service.edit(session, SYSTEM, made.id, 1, ContactDetails(full_name=name), ORIGIN)
        except AppError as error:
            return error.code
        return "done"

    outcomes = await asyncio.gather(*(change(name) for name in "ABCD"))
    await db.close()
    assert sorted(outcomes) == ["done", *["version_conflict"] * 3]


async def test_a_status_moves_only_as_the_table_says(session: AsyncSession) -> None:
    made = await create(session)
    blocked = await contact_edit_service.set_status(session, SYSTEM, made.id, 1, ContactStatus.BLOCKED, ORIGIN)
    for wanted in (ContactStatus.INVALID, ContactStatus.INACTIVE, ContactStatus.BLOCKED):
        with pytest.raises(Conflict):
            await contact_edit_service.set_status(session, SYSTEM, made.id, blocked.version, wanted, ORIGIN)
    with pytest.raises(InvalidInput):
        await contact_edit_service.set_status(session, SYSTEM, made.id, blocked.version, ContactStatus.ERASED, ORIGIN)
    unassigned = await create(session, "5500000000")
    assert (await row_of(session, unassigned.id)).line_type is LineType.UNASSIGNED
    with pytest.raises(Conflict):
        await contact_edit_service.set_status(session, SYSTEM, unassigned.id, 1, ContactStatus.ACTIVE, ORIGIN)


async def test_a_new_contact_has_the_suppressions_of_its_number_and_an_erased_one_none_at_all(
    session: AsyncSession,
) -> None:
    for phone, reason in (("+525512345678", SuppressionReason.COMPLAINT), ("+525512345679", SuppressionReason.ERASURE)):
        await RULES.suppress(session, SYSTEM, phone, SuppressionPurpose.ALL, reason, source="test", origin=ORIGIN)
    made = await create(session)
    assert [it.reason for it in await suppression_service.of_contact(session, made.id)] == [SuppressionReason.COMPLAINT]
    with pytest.raises(Conflict) as caught:
        await create(session, "55 1234 5679")
    assert caught.value.code == "contact_was_erased"


async def test_every_change_is_on_record_without_the_number(session: AsyncSession) -> None:
    made = await create(session, details=ContactDetails(full_name="ANA"))
    await contact_edit_service.edit(session, SYSTEM, made.id, 1, ContactDetails(full_name="EVA"), ORIGIN)
    events = (await session.scalars(select(AuditEvent).order_by(AuditEvent.id))).all()
    assert [(event.action, event.object_id) for event in events] == [
        ("contact.create", str(made.id)), ("contact.edit", str(made.id)),
    ]  # fmt: skip
    assert all("5512345678" not in str(event.detail) and "EVA" not in str(event.detail) for event in events)
