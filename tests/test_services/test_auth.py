"""Signing in, refreshing and signing out: what is refused, what ends, and that of two at once one comes through."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher as Argon2

from app.core.config import Settings
from app.core.database import connect
from app.core.errors import Forbidden, InvalidInput, TooMany, Unauthenticated
from app.models.permission import ROLE_PERMISSIONS, SYSTEM, CallerKind, Origin
from app.models.user import Role
from app.services import audit_chain, session_service, user_service
from tests.sign_in import PASSWORD, Clock, Desk, at_once, hash_of, open_desk, some_email, somewhere

OTHER = "quiet-harbour-keeps-3-umbrellas"


async def refused(awaitable: object) -> str:
    """The code of the refusal that it must end with."""
    with pytest.raises(Unauthenticated) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


async def test_right_password_signs_in_and_the_token_is_the_person(desk: Desk) -> None:
    user = await desk.add(Role.MANAGER)
    signed_in = await desk.auth.login(f"  {user.email.upper()} ", PASSWORD, None, desk.origin)
    caller = await desk.auth.authenticate(signed_in.access_token, desk.origin)
    assert (caller.kind, caller.public_id, caller.email) == (CallerKind.USER, user.public_id, user.email)
    assert (caller.role, caller.permissions) == (Role.MANAGER, ROLE_PERMISSIONS[Role.MANAGER])
    assert (signed_in.token_type, signed_in.expires_in) == ("bearer", 600)
    assert desk.events() == [("session.login", "ok")]
    assert audit_chain.verify(desk.url).ok


async def test_wrong_unknown_disabled_and_passwordless_are_told_alike(desk: Desk) -> None:
    shut, invited = await desk.add(), await desk.add(password=None)
    async with desk.db.transaction() as session:
        await user_service.disable(session, SYSTEM, shut.public_id, None, desk.origin)
    for email, password in (
        (shut.email, PASSWORD), (invited.email, PASSWORD), (some_email(), PASSWORD), ("\0\ud800", "\ud800"),
        ((await desk.add()).email, OTHER), ((await desk.add()).email, "x" * 5000), ("x" * 5000, ""),
    ):  # fmt: skip
        assert await refused(desk.auth.login(email, password, None, desk.origin)) == "credentials_invalid"
    assert desk.events().count(("session.login", "refused")) == 7


async def test_what_was_typed_in_place_of_the_address_is_not_kept(desk: Desk) -> None:
    await refused(desk.auth.login(PASSWORD, "", None, desk.origin))
    await refused(desk.auth.login("Bob@Example.com", PASSWORD, None, desk.origin))
    kept = desk.rows(
        "SELECT actor, actor_id, detail::text FROM audit_events WHERE action = 'session.login' ORDER BY id"
    )
    assert [(actor, number) for actor, number, _ in kept] == [("not an address", None), ("bob@example.com", None)]
    assert PASSWORD not in str(kept)


async def test_password_is_the_same_however_its_letters_are_composed(desk: Desk) -> None:
    user = await desk.add(password="ñandú-volador-azul-47")
    decomposed = "n\u0303andu\u0301-volador-azul-47"
    assert (await desk.login(user, password=decomposed)).access_token


async def test_hash_of_weaker_parameters_is_renewed_at_sign_in(desk: Desk) -> None:
    user = await desk.add()
    weak = Argon2(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    with connect(desk.url) as connection:
        connection.execute("UPDATE users SET password_hash = %s", (weak,))
    await desk.login(user)
    ((now,),) = desk.rows("SELECT password_hash FROM users")
    assert now != weak
    assert "m=19456,t=2" in now
    await desk.login(user)
    assert desk.rows("SELECT password_hash FROM users") == [(now,)]


async def test_account_waits_after_too_many_failures_and_another_does_not(desk: Desk, clock: Clock) -> None:
    user, other = await desk.add(), await desk.add()
    for _ in range(10):
        await refused(desk.login(user, password=OTHER))
    with pytest.raises(TooMany) as caught:
        await desk.login(user)
    assert 0 < caught.value.retry_after_s <= 900
    assert (await desk.login(other)).access_token
    assert len(desk.events()) == 11
    clock.forward(minutes=15)
    assert (await desk.login(user)).access_token


async def test_success_clears_what_the_account_had_failed(desk: Desk) -> None:
    user = await desk.add()
    for _ in range(2):
        for _ in range(9):
            await refused(desk.login(user, password=OTHER))
        await desk.login(user)


async def test_address_waits_after_too_many_failures_and_locks_no_account_then(
    settings: Settings, database_url: str, valkey_url: str, clock: Clock
) -> None:
    limits = {"logins_per_address": "3/15minutes", "logins_per_account": "4/15minutes"}
    async with open_desk(settings, database_url, valkey_url, **limits) as desk:
        user = await desk.add()
        for _ in range(5):
            await desk.login(user)
        of_network = Origin("2001:db8:0:1::1"), Origin("2001:db8:0:1:ffff::2%eth0"), Origin("2001:db8:0:1::3")
        for origin in of_network:
            await refused(desk.auth.login(user.email, OTHER, None, origin))
        for _ in range(3):
            with pytest.raises(TooMany):
                await desk.auth.login(user.email, OTHER, None, Origin("2001:db8:0:1::4"))
        assert (await desk.auth.login(user.email, PASSWORD, None, somewhere())).access_token


async def test_many_guesses_at_once_are_counted_before_they_are_looked_at(desk: Desk) -> None:
    user = await desk.add()
    ended = await at_once(*(desk.login(user, password=OTHER) for _ in range(25)))
    assert sum(isinstance(error, Unauthenticated) for error in ended) == 10
    assert sum(isinstance(error, TooMany) for error in ended) == 15


async def test_refresh_gives_the_next_pair_of_the_same_session(desk: Desk, clock: Clock) -> None:
    user = await desk.add()
    first, caller = await desk.enter(user)
    clock.forward(minutes=9)
    second = await desk.auth.refresh(first.refresh_token, desk.origin)
    again = await desk.auth.authenticate(second.access_token, desk.origin)
    assert again.session_id == caller.session_id
    assert second.refresh_token != first.refresh_token
    assert await refused(desk.auth.refresh("nonsense\ud800", desk.origin)) == "refresh_invalid"
    assert await refused(desk.auth.refresh(second.access_token, desk.origin)) == "refresh_invalid"


async def test_refresh_token_used_again_later_ends_the_family_and_is_on_record(desk: Desk, clock: Clock) -> None:
    first, _ = await desk.enter(await desk.add())
    second = await desk.auth.refresh(first.refresh_token, desk.origin)
    clock.forward(seconds=11)
    assert await refused(desk.auth.refresh(first.refresh_token, desk.origin)) == "refresh_reused"
    assert await refused(desk.auth.refresh(second.refresh_token, desk.origin)) == "session_ended"
    assert await refused(desk.auth.authenticate(second.access_token, desk.origin)) == "session_ended"
    assert desk.events() == [("session.login", "ok"), ("session.reuse", "refused")]


async def test_honest_retry_gets_a_pair_and_the_lost_one_is_dead(desk: Desk, clock: Clock) -> None:
    first, _ = await desk.enter(await desk.add())
    lost = await desk.auth.refresh(first.refresh_token, desk.origin)
    clock.forward(seconds=9)
    kept = await desk.auth.refresh(first.refresh_token, desk.origin)
    assert desk.rows("SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL") == [(1,)]
    after = await desk.auth.refresh(kept.refresh_token, desk.origin)
    assert await refused(desk.auth.refresh(lost.refresh_token, desk.origin)) == "refresh_reused"
    assert await refused(desk.auth.refresh(after.refresh_token, desk.origin)) == "session_ended"


async def test_retry_within_the_window_is_reuse_once_the_successor_was_used(desk: Desk) -> None:
    first, _ = await desk.enter(await desk.add())
    second = await desk.auth.refresh(first.refresh_token, desk.origin)
    await desk.auth.refresh(second.refresh_token, desk.origin)
    assert await refused(desk.auth.refresh(first.refresh_token, desk.origin)) == "refresh_reused"


async def test_window_is_not_made_longer_by_retries(desk: Desk, clock: Clock) -> None:
    first, _ = await desk.enter(await desk.add())
    for _ in range(3):
        await desk.auth.refresh(first.refresh_token, desk.origin)
        clock.forward(seconds=4)
    assert await refused(desk.auth.refresh(first.refresh_token, desk.origin)) == "refresh_reused"


@pytest.mark.parametrize("window", [0, 10])
async def test_of_two_refreshes_at_once_one_chain_lives(
    settings: Settings, database_url: str, valkey_url: str, clock: Clock, window: int
) -> None:
    async with open_desk(settings, database_url, valkey_url, retry_window_s=window) as desk:
        user = await desk.add()
        for _ in range(5):
            first = await desk.login(user)
            ended = await at_once(*(desk.auth.refresh(first.refresh_token, desk.origin) for _ in range(4)))
            alive = desk.rows(
                "SELECT count(*) FROM refresh_tokens t JOIN auth_sessions s ON s.id = t.session_id"
                " WHERE t.used_at IS NULL AND s.revoked_at IS NULL"
            )
            won = [it for it in ended if not isinstance(it, Exception)]
            assert len(won) == (4 if window else 1)
            assert alive == [(1 if window else 0,)]
            with connect(desk.url) as connection:
                connection.execute("DELETE FROM auth_sessions")


async def test_session_ends_on_its_day_however_often_it_is_refreshed(desk: Desk, clock: Clock) -> None:
    user = await desk.add()
    first = await desk.login(user)
    clock.forward(days=13, hours=23, minutes=59)
    second = await desk.auth.refresh(first.refresh_token, desk.origin)
    clock.forward(minutes=2)
    assert await refused(desk.auth.authenticate(second.access_token, desk.origin)) == "session_ended"
    assert await refused(desk.auth.refresh(second.refresh_token, desk.origin)) == "session_ended"
    clock.forward(days=31)
    await desk.login(user)
    assert desk.rows("SELECT count(*) FROM auth_sessions") == [(1,)]


async def test_logout_ends_this_session_and_everywhere_ends_all(desk: Desk) -> None:
    user = await desk.add()
    (one, caller), (two, _), (three, last) = [await desk.enter(user) for _ in range(3)]
    await desk.auth.logout(caller, desk.origin)
    assert await refused(desk.auth.authenticate(one.access_token, desk.origin)) == "session_ended"
    assert await refused(desk.auth.refresh(one.refresh_token, desk.origin)) == "session_ended"
    assert (await desk.auth.authenticate(two.access_token, desk.origin)).public_id == user.public_id
    async with desk.db.transaction() as session:
        assert [view.is_current for view in await session_service.list_sessions(session, last)] == [True, False]
    await desk.auth.logout_everywhere(last, desk.origin)
    for pair in (two, three):
        assert await refused(desk.auth.authenticate(pair.access_token, desk.origin)) == "session_ended"
        assert await refused(desk.auth.refresh(pair.refresh_token, desk.origin)) == "session_ended"
    with pytest.raises(Forbidden):
        await desk.auth.logout(SYSTEM, desk.origin)


async def test_change_of_password_ends_all_but_the_new_pair(desk: Desk) -> None:
    user = await desk.add()
    (old, caller), (elsewhere, _) = await desk.enter(user), await desk.enter(user)
    assert await refused(desk.auth.change_password(caller, OTHER, OTHER, desk.origin)) == "credentials_invalid"
    with pytest.raises(InvalidInput):
        await desk.auth.change_password(caller, PASSWORD, "password123456", desk.origin)
    fresh = await desk.auth.change_password(caller, PASSWORD, OTHER, desk.origin)
    assert (await desk.auth.authenticate(fresh.access_token, desk.origin)).session_id == caller.session_id
    for pair in (old, elsewhere):
        assert await refused(desk.auth.authenticate(pair.access_token, desk.origin)) == "session_ended"
        with pytest.raises(Unauthenticated):
            await desk.auth.refresh(pair.refresh_token, desk.origin)
    assert await refused(desk.login(user)) == "credentials_invalid"
    assert (await desk.login(user, password=OTHER)).access_token
    assert (await desk.auth.refresh(fresh.refresh_token, desk.origin)).access_token


async def test_of_two_changes_of_password_at_once_one_counts(desk: Desk) -> None:
    user = await desk.add()
    _, caller = await desk.enter(user)
    new = [f"{OTHER}-{n}" for n in range(3)]
    ended = await at_once(*(desk.auth.change_password(caller, PASSWORD, it, desk.origin) for it in new))
    assert sum(not isinstance(it, Exception) for it in ended) == 1


async def test_password_changed_during_a_sign_in_refuses_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await desk.add()
    verify = desk.auth._hasher.verify_in_thread

    async def slow(password: str, hashed: str | None) -> tuple[bool, bool]:
        found = await verify(password, hashed)
        with connect(desk.url) as connection:
            connection.execute("UPDATE users SET password_hash = %s", (hash_of(OTHER),))
        return found

    monkeypatch.setattr(desk.auth._hasher, "verify_in_thread", slow)
    assert await refused(desk.login(user)) == "credentials_invalid"
    assert desk.rows("SELECT count(*) FROM auth_sessions") == [(0,)]
