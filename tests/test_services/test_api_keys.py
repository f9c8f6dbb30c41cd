"""API keys: bounded by scopes, end and owner; shown once; found by who may."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import AppError, Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from app.models.permission import SYSTEM, Caller, CallerKind, Origin, Permission
from app.models.user import Role
from app.services import api_key_service, user_service
from app.services.api_key_service import NewKey
from app.services.user_service import UserView
from tests.sign_in import Clock, Desk, at_once

READ = Permission.CONTACTS_READ


async def make(desk: Desk, caller: Caller, owner: UserView | None = None, **changes: Any) -> NewKey:
    given: dict[str, Any] = {"name": "nightly export", "scopes": [READ], "days": 30, **changes}
    async with desk.db.transaction() as session:
        return await api_key_service.create(
            session, caller, **given, owner=owner.public_id if owner else None, origin=desk.origin
        )


async def refusal(desk: Desk, key: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await desk.auth.authenticate(key, desk.origin)
    return caught.value.code


async def test_key_acts_for_its_owner_with_what_both_may(desk: Desk) -> None:
    user = await desk.add(Role.MANAGER)
    _, caller = await desk.enter(user)
    made = await make(desk, caller, scopes=[READ, Permission.USERS_READ])
    acts = await desk.auth.authenticate(made.key, desk.origin)
    assert (acts.kind, acts.public_id, acts.session_id) == (CallerKind.API_KEY, user.public_id, None)
    assert acts.permissions == {READ, Permission.USERS_READ}
    async with desk.db.transaction() as session:
        await user_service.change_role(session, SYSTEM, user.public_id, Role.ANALYST, None, desk.origin)
    assert (await desk.auth.authenticate(made.key, desk.origin)).permissions == {READ}
    with pytest.raises(Forbidden):
        await desk.auth.logout(acts, desk.origin)


async def test_key_is_kept_nowhere(desk: Desk) -> None:
    _, caller = await desk.enter(await desk.add())
    made = await make(desk, caller)
    assert made.key.startswith(made.view.prefix)
    kept = str(desk.rows("SELECT k.*, e.detail FROM api_keys k, audit_events e"))
    assert made.key not in kept
    assert made.key[len(made.view.prefix) :] not in kept


async def test_key_that_is_not_whole_is_none(desk: Desk) -> None:
    _, caller = await desk.enter(await desk.add())
    key = (await make(desk, caller)).key
    swapped = key[:-1] + ("A" if key[-1] != "A" else "B")
    for wrong in (swapped, key[:-1], key + "A", key.upper(), key[:16], "sms_", "sms_" + "A" * 43, "sms_\0", f" {key}"):
        with pytest.raises(Unauthenticated):
            await desk.auth.authenticate(wrong, desk.origin)


async def test_key_ends_on_its_day_and_when_it_is_revoked(desk: Desk, clock: Clock) -> None:
    _, caller = await desk.enter(await desk.add())
    old, revoked = await make(desk, caller, days=1), await make(desk, caller, days=365)
    for _ in range(2):
        async with desk.db.transaction() as session:
            view = await api_key_service.revoke(session, caller, revoked.view.public_id, desk.origin)
    assert view.revoked_at is not None
    assert await refusal(desk, revoked.key) == "api_key_invalid"
    assert (await desk.auth.authenticate(old.key, desk.origin)).api_key_id
    clock.forward(days=1)
    assert await refusal(desk, old.key) == "api_key_invalid"
    assert desk.events().count(("api_key.revoke", "ok")) == 1


async def test_last_use_is_noted_once_a_minute(desk: Desk, clock: Clock) -> None:
    _, caller = await desk.enter(await desk.add())
    made = await make(desk, caller)

    def noted() -> tuple[Any, ...]:
        return desk.rows("SELECT last_used_at, host(last_used_from), xmin::text FROM api_keys")[0]

    await at_once(*(desk.auth.authenticate(made.key, Origin("192.0.2.1")) for _ in range(5)))
    first = noted()
    await desk.auth.authenticate(made.key, Origin("192.0.2.2"))
    assert (noted(), first[1]) == (first, "192.0.2.1")
    clock.forward(seconds=61)
    await desk.auth.authenticate(made.key, Origin("a unix socket"))
    assert noted()[0] > first[0]
    assert noted()[1] is None


async def test_nobody_gives_what_he_has_not(desk: Desk) -> None:
    marketer, admin = await desk.add(Role.MARKETER), await desk.add(Role.ADMIN)
    _, caller = await desk.enter(marketer)
    _, chief = await desk.enter(admin)
    refused: list[tuple[type[AppError], dict[str, Any]]] = [
        (Forbidden, {"scopes": [Permission.AUDIT_READ]}),
        (InvalidInput, {"scopes": [Permission.SELF, READ]}),
        (InvalidInput, {"scopes": []}),
        (InvalidInput, {"days": 0}),
        (InvalidInput, {"days": 366}),
        (InvalidInput, {"name": "  "}),
        (InvalidInput, {"name": "a\0b"}),
        (InvalidInput, {"name": "x" * 101}),
    ]
    for error, changes in refused:
        with pytest.raises(error):
            await make(desk, caller, **changes)
    with pytest.raises(Forbidden):  # the maker may, the owner may not
        await make(desk, chief, marketer, scopes=[Permission.AUDIT_READ])
    with pytest.raises(Forbidden):  # the owner may, the maker may not
        await make(desk, chief, await desk.add(Role.SERVICE), scopes=[Permission.METRICS_READ])
    assert (await make(desk, chief, marketer)).view.owner_email == marketer.email


async def test_keys_of_others_are_not_to_be_seen(desk: Desk) -> None:
    one, two, admin = await desk.add(), await desk.add(), await desk.add(Role.ADMIN)
    (_, caller), (_, other), (_, chief) = [await desk.enter(user) for user in (one, two, admin)]
    mine, theirs = await make(desk, caller), await make(desk, other)
    async with desk.db.transaction() as session:
        with pytest.raises(NotFound):
            await api_key_service.revoke(session, caller, theirs.view.public_id, desk.origin)
        with pytest.raises(Forbidden):
            await api_key_service.list_keys(session, caller, of_all=True)
        assert [key.public_id for key in (await api_key_service.list_keys(session, caller)).items] == [
            mine.view.public_id
        ]
        first = await api_key_service.list_keys(session, chief, of_all=True, limit=1)
        rest = await api_key_service.list_keys(session, chief, of_all=True, limit=1, after=first.last_id)
        assert [key.owner_email for key in first.items + rest.items] == [one.email, two.email]
        assert rest.last_id is None
        await api_key_service.revoke(session, chief, theirs.view.public_id, desk.origin)
    with pytest.raises(NotFound):
        await make(desk, caller, two)
    assert await refusal(desk, theirs.key) == "api_key_invalid"


async def test_account_has_so_many_keys_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_key_service, "MOST_KEYS", 3)
    _, caller = await desk.enter(await desk.add())
    ended = await at_once(*(make(desk, caller) for _ in range(5)))
    assert sum(isinstance(it, NewKey) for it in ended) == 3
    assert sum(isinstance(it, Conflict) for it in ended) == 2
