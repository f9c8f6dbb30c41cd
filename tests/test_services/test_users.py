"""Accounts: the last administrator stays, two edits at once do not undo each other, what is shut is shut at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from app.models.permission import SYSTEM, Caller, Permission
from app.models.user import Role
from app.services import api_key_service, audit_chain, user_service
from app.services.user_service import Invited, UserView
from tests.sign_in import PASSWORD, Clock, Desk, at_once, some_email

OTHER = "quiet-harbour-keeps-3-umbrellas"


async def act(desk: Desk, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
    async with desk.db.transaction() as session:
        return await work(session)


async def shut(desk: Desk, user: UserView, by: Caller = SYSTEM, version: int | None = None) -> UserView:
    done: UserView = await act(
        desk, lambda session: user_service.disable(session, by, user.public_id, version, desk.origin)
    )
    return done


async def give(desk: Desk, user: UserView, role: Role, by: Caller = SYSTEM, version: int | None = None) -> UserView:
    done: UserView = await act(
        desk, lambda session: user_service.change_role(session, by, user.public_id, role, version, desk.origin)
    )
    return done


async def invite(desk: Desk, email: str, role: Role = Role.ANALYST) -> Invited:
    made: Invited = await act(
        desk,
        lambda session: user_service.invite(
            session, SYSTEM, desk.settings.auth, email=email, role=role, origin=desk.origin
        ),
    )
    return made


async def test_account_is_made_once_whatever_its_letters(desk: Desk) -> None:
    user = await desk.add(email="  Ana@Example.COM ")
    assert (user.email, user.version, user.has_password, user.has_second_factor) == ("ana@example.com", 1, True, False)
    for same in ("ana@example.com", "ANA@EXAMPLE.COM", "\uff41na@example.com"):  # the last with a wide letter a
        with pytest.raises(Conflict):
            await desk.add(email=same)
    ended = await at_once(*(desk.add(email="bob@example.com") for _ in range(5)))
    assert sum(isinstance(it, UserView) for it in ended) == 1


@pytest.mark.parametrize(
    "email",
    ["", "a", "@", "a@", "@b.mx", "a@b", "a b@c.mx", "a@b..mx", "a@b.mx\n", "a@b.mx\0", "a@-b.mx", "ñ@b.mx", "a@b@c.mx",
     "a" * 65 + "@b.mx", "a@" + "b" * 250 + ".mx", "\ud800@b.mx", "a@b.mx, c@d.mx", "<a@b.mx>"],
)  # fmt: skip
def test_what_is_no_address_is_refused(email: str) -> None:
    if email == "a@b.mx\n":
        assert user_service.normal_email(email) == "a@b.mx"
        return
    with pytest.raises(InvalidInput):
        user_service.normal_email(email)


async def test_disabled_account_is_out_with_the_next_request_and_stays_out(desk: Desk) -> None:
    user = await desk.add(Role.SERVICE)
    signed_in, _ = await desk.enter(user)
    made = await act(
        desk,
        lambda session: api_key_service.create(
            session,
            SYSTEM,
            name="n",
            scopes=[Permission.CONTACTS_READ],
            days=9,
            owner=user.public_id,
            origin=desk.origin,
        ),
    )
    assert (await desk.auth.authenticate(made.key, desk.origin)).public_id == user.public_id
    assert (await shut(desk, user)).disabled_at is not None
    for _ in range(2):
        for bearer in (signed_in.access_token, made.key):
            with pytest.raises(Unauthenticated):
                await desk.auth.authenticate(bearer, desk.origin)
        with pytest.raises(Unauthenticated):
            await desk.auth.refresh(signed_in.refresh_token, desk.origin)
        with pytest.raises(Conflict):
            await shut(desk, user)
        await act(desk, lambda session: user_service.enable(session, SYSTEM, user.public_id, None, desk.origin))
        await desk.login(user)
        await shut(desk, user)
    ((detail,), *_) = desk.rows("SELECT detail FROM audit_events WHERE action = 'user.disable'")
    assert detail == {"sessions": 1, "api_keys": 1}


async def test_account_disabled_during_use_is_never_let_in_afterwards(desk: Desk) -> None:
    user = await desk.add()
    signed_in, _ = await desk.enter(user)
    done = asyncio.Event()

    async def ask() -> list[bool]:
        """Whether one who asked after the account was shut was let in, again and again."""
        answers: list[bool] = []
        while len(answers) < 5:
            is_shut = done.is_set()
            try:
                await desk.auth.authenticate(signed_in.access_token, desk.origin)
            except Unauthenticated:
                answers += [False] if is_shut else []
            else:
                answers += [True] if is_shut else []
        return answers

    async def end() -> None:
        await shut(desk, user)
        done.set()

    *answers, _ = await asyncio.gather(ask(), ask(), end())
    assert answers == [[False] * 5] * 2


async def test_sign_in_and_disabling_at_once_leave_no_session(desk: Desk) -> None:
    for _ in range(4):
        user = await desk.add()
        await at_once(desk.login(user), shut(desk, user), desk.login(user))
    alive = desk.rows("SELECT count(*) FROM auth_sessions WHERE revoked_at IS NULL")
    assert alive == [(0,)]


async def test_role_counts_from_the_next_request_on(desk: Desk) -> None:
    user = await desk.add(Role.ANALYST)
    signed_in, before = await desk.enter(user)
    await give(desk, user, Role.COMPLIANCE)
    after = await desk.auth.authenticate(signed_in.access_token, desk.origin)
    assert (before.may(Permission.AUDIT_READ), after.may(Permission.AUDIT_READ)) == (False, True)


async def test_last_administrator_stays(desk: Desk) -> None:
    admin = await desk.add(Role.ADMIN)
    await desk.add(Role.ADMIN, password=None)  # invited, cannot sign in
    await shut(desk, await desk.add(Role.ADMIN))
    for change in (shut(desk, admin), give(desk, admin, Role.MANAGER)):
        with pytest.raises(Conflict) as caught:
            await change
        assert caught.value.code == "last_admin"
    assert (await give(desk, admin, Role.ADMIN)).role is Role.ADMIN


@pytest.mark.parametrize("way", ["demote", "disable", "both"])
async def test_of_two_administrators_at_once_one_stays(desk: Desk, way: str) -> None:
    for _ in range(5):
        one, two = await desk.add(Role.ADMIN), await desk.add(Role.ADMIN)
        first = give(desk, one, Role.ANALYST) if way != "disable" else shut(desk, one)
        second = give(desk, two, Role.ANALYST) if way == "demote" else shut(desk, two)
        ended = await at_once(first, second)
        assert [it.code for it in ended if isinstance(it, Conflict)] == ["last_admin"]
        left = desk.rows("SELECT public_id FROM users WHERE role = 'admin' AND disabled_at IS NULL")
        assert len(left) == 1
        desk.rows("UPDATE users SET disabled_at = now() WHERE role = 'admin' RETURNING 1")


async def test_nobody_changes_himself(desk: Desk) -> None:
    admin, _ = await desk.add(Role.ADMIN), await desk.add(Role.ADMIN)
    _, caller = await desk.enter(admin)
    for change in (shut(desk, admin, caller), give(desk, admin, Role.ANALYST, caller)):
        with pytest.raises(Conflict) as caught:
            await change
        assert caught.value.code == "own_account"


async def test_of_two_edits_of_one_version_one_counts(desk: Desk) -> None:
    user = await desk.add(Role.ANALYST)
    roles = (Role.MANAGER, Role.MARKETER, Role.COMPLIANCE)
    ended = await at_once(*(give(desk, user, role, version=1) for role in roles))
    assert sorted(it.code for it in ended if isinstance(it, Conflict)) == ["version_conflict"] * 2
    (won,) = (it for it in ended if isinstance(it, UserView))
    assert won.version == 2
    with pytest.raises(Conflict):
        await shut(desk, user, version=1)
    assert (await shut(desk, user, version=2)).version == 3


async def test_invited_person_sets_a_password_once(desk: Desk, clock: Clock) -> None:
    made = await invite(desk, some_email())
    with pytest.raises(InvalidInput):
        await desk.auth.accept_invitation(made.token, "password123456", desk.origin)
    ended = await at_once(*(desk.auth.accept_invitation(made.token, PASSWORD, desk.origin) for _ in range(3)))
    assert sum(isinstance(it, UserView) for it in ended) == 1
    assert {it.code for it in ended if isinstance(it, Unauthenticated)} == {"invitation_invalid"}
    assert (await desk.login(made.user)).access_token
    assert made.token not in str(desk.rows("SELECT * FROM audit_events"))


async def test_invitation_is_over_when_it_is_old_replaced_or_its_account_shut(desk: Desk, clock: Clock) -> None:
    old, replaced, closed = [await invite(desk, some_email()) for _ in range(3)]
    settings = desk.settings.auth
    again: Invited = await act(
        desk,
        lambda session: user_service.invite_again(session, SYSTEM, settings, replaced.user.public_id, desk.origin),
    )
    await shut(desk, closed.user)
    await act(desk, lambda session: user_service.enable(session, SYSTEM, closed.user.public_id, None, desk.origin))
    await desk.auth.accept_invitation(again.token, PASSWORD, desk.origin)
    clock.forward(hours=72)
    for token in (old.token, replaced.token, again.token, closed.token, "nonsense"):
        with pytest.raises(Unauthenticated):
            await desk.auth.accept_invitation(token, PASSWORD, desk.origin)


async def test_new_password_by_link_ends_the_sessions_of_the_old_one(desk: Desk) -> None:
    user = await desk.add()
    signed_in, _ = await desk.enter(user)
    made: Invited = await act(
        desk,
        lambda session: user_service.invite_again(session, SYSTEM, desk.settings.auth, user.public_id, desk.origin),
    )
    await desk.auth.accept_invitation(made.token, OTHER, desk.origin)
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(signed_in.access_token, desk.origin)
    assert (await desk.login(user, password=OTHER)).access_token


async def test_accounts_are_listed_by_page_in_the_order_of_their_making(desk: Desk) -> None:
    made = [(await desk.add()).public_id for _ in range(7)]
    found: list[UUID] = []
    after: UUID | None = None
    while True:
        async with desk.db.transaction() as session:
            page = await user_service.list_users(session, after=after, limit=3)
        found += [user.public_id for user in page.items]
        after = page.last_id
        if after is None:
            break
    assert found == made
    with pytest.raises(NotFound):
        await act(desk, lambda session: user_service.get(session, uuid4()))


async def test_everything_done_to_an_account_is_on_record(desk: Desk) -> None:
    admin, user = await desk.add(Role.ADMIN), await desk.add(Role.ANALYST)
    _, caller = await desk.enter(admin)
    await give(desk, user, Role.MANAGER, caller)
    await shut(desk, user, caller)
    await act(desk, lambda session: user_service.enable(session, caller, user.public_id, None, desk.origin))
    kept = desk.rows(
        "SELECT action, actor, host(address), request_id FROM audit_events WHERE object_id = %s ORDER BY id",
        str(user.public_id),
    )
    assert [row[0] for row in kept] == ["user.create", "user.change_role", "user.disable", "user.enable"]
    assert {row[1:] for row in kept[1:]} == {(admin.email, desk.origin.address, desk.origin.request_id)}
    assert audit_chain.verify(desk.url).ok
