"""Sessions: a refresh token that two hold, and what is taken away from whoever is signed in or in mid-request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.to_thread
import httpx2
import pytest

from app.models.permission import Permission
from app.models.user import Role
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Service
from tests.test_security.support import (
    CHANGE,
    CONTACTS,
    KEYS,
    LOGIN,
    LOGOUT,
    LOGOUT_ALL,
    ME,
    OTHER_PASSWORD,
    REFRESH,
    SESSIONS,
    USERS,
    Owner,
    Person,
    at_once,
    bearing,
    demote,
    disable,
    enter,
    key_of,
    problem,
    state_of,
    switch_on,
    under_way,
)

ALIVE = """
SELECT count(*) FROM refresh_tokens t JOIN auth_sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
WHERE u.public_id = %s AND t.used_at IS NULL AND s.revoked_at IS NULL
"""


def refresh(api: Service, token: str) -> httpx2.Response:
    """The answer to a refresh token."""
    return api.ask("POST", REFRESH, json={"refresh_token": token})


# A refresh token that two hold


def test_stolen_refresh_token_ends_the_session_of_both(api: Service, owner: Owner, clock: Clock) -> None:
    person = enter(api)
    thief = refresh(api, person.refresh).json()
    clock.forward(seconds=11)
    problem(refresh(api, person.refresh), 401, "refresh_reused")
    problem(refresh(api, thief["refresh_token"]), 401, "session_ended")
    problem(bearing(api, thief["access_token"], "GET", ME), 401, "session_ended")
    assert not person.is_in()
    ((result, actor),) = owner.rows(
        "SELECT result, actor FROM audit_events WHERE action = 'session.reuse' AND actor = %s", person.account.email
    )
    assert (result, actor) == ("refused", person.account.email)


def test_every_older_refresh_token_of_a_chain_is_a_trap(api: Service, clock: Clock) -> None:
    person = enter(api)
    chain = [person.refresh]
    for _ in range(4):
        clock.forward(seconds=30)
        chain.append(refresh(api, chain[-1]).json()["refresh_token"])
    problem(refresh(api, chain[2]), 401, "refresh_reused")
    for token in chain:
        problem(refresh(api, token), 401, "session_ended")


def test_refresh_tokens_sent_at_once_leave_one_chain(api: Service, owner: Owner) -> None:
    for _ in range(3):
        person = enter(api)
        answers = at_once(*[lambda token=person.refresh: refresh(api, token)] * 6)
        assert {it.status_code for it in answers} == {200}
        assert owner.rows(ALIVE, person.id) == [(1,)]
        alive = [it for it in answers if refresh(api, it.json()["refresh_token"]).status_code == 200]
        assert len(alive) <= 1


def test_refresh_tokens_sent_at_once_later_end_the_session(api: Service, owner: Owner, clock: Clock) -> None:
    person = enter(api)
    assert refresh(api, person.refresh).status_code == 200
    clock.forward(minutes=1)
    answers = at_once(*[lambda: refresh(api, person.refresh)] * 6)
    assert {it.status_code for it in answers} == {401}
    assert owner.rows(ALIVE, person.id) == [(0,)]


@pytest.mark.parametrize("guess", ["a", "A" * 43, "%", "' OR '1'='1", "é", "null", "0" * 4096])
def test_refresh_token_cannot_be_guessed(api: Service, guess: str) -> None:
    problem(refresh(api, guess), 401, "refresh_invalid")


def test_no_secret_of_a_session_is_kept(api: Service, owner: Owner) -> None:
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    kept = ""
    for table in ("auth_sessions", "refresh_tokens", "api_keys", "users", "audit_events"):
        kept += str(owner.rows(f"SELECT t::text FROM {table} t"))
    for secret in (person.refresh, person.access, key, PASSWORD):
        assert secret not in kept
        assert secret.encode().hex() not in kept


# What is taken away is gone with the next request


def change_password(person: Person, new: str = OTHER_PASSWORD) -> httpx2.Response:
    """The answer to a new password."""
    return person.ask("POST", CHANGE, json={"old_password": PASSWORD, "new_password": new})


def replay(person: Person) -> None:
    """Use a refresh token whose successor was used."""
    refresh(person.api, refresh(person.api, person.refresh).json()["refresh_token"])
    problem(refresh(person.api, person.refresh), 401, "refresh_reused")


ENDS: dict[str, Callable[[Person, Person], object]] = {
    "signed out there": lambda one, _: one.ask("POST", LOGOUT),
    "signed out everywhere": lambda _, other: other.ask("POST", LOGOUT_ALL),
    "disabled": lambda one, _: disable(one.api, one),
    "password changed elsewhere": lambda _, other: change_password(other),
    "second factor switched on elsewhere": lambda _, other: switch_on(other),
    "refresh token replayed": lambda one, _: replay(one),
}


@pytest.mark.parametrize("how", ENDS)
def test_session_that_was_ended_opens_nothing(api: Service, how: str) -> None:
    one = enter(api)
    other = enter(api, account=one.account)
    assert one.is_in()
    ENDS[how](one, other)
    for path in (ME, CONTACTS, SESSIONS, KEYS):
        problem(one.ask("GET", path), 401, "session_ended")
    assert refresh(api, one.refresh).status_code == 401
    for path in (LOGOUT, LOGOUT_ALL):
        assert one.ask("POST", path).status_code == 401


def test_account_that_was_shut_by_hand_is_out_too(api: Service, owner: Owner) -> None:
    """By a statement in the database, which ends no session and no key."""
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    owner.run("UPDATE users SET disabled_at = now() WHERE public_id = %s", person.id)
    problem(person.ask("GET", ME), 401, "session_ended")
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")
    problem(refresh(api, person.refresh), 401, "session_ended")
    problem(
        api.ask("POST", LOGIN, json={"email": person.account.email, "password": PASSWORD}), 401, "credentials_invalid"
    )


def test_account_opened_again_does_not_bring_old_tokens_back(api: Service) -> None:
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    disable(api, person)
    body = {"version": person.version}
    assert api.ask("POST", f"{USERS}/{person.id}/enable", Role.ADMIN, json=body).status_code == 200
    assert not person.is_in()
    problem(refresh(api, person.refresh), 401, "session_ended")
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")
    assert enter(api, account=person.account).is_in()


def test_role_counts_with_the_next_request(api: Service) -> None:
    person = enter(api, Role.ADMIN)
    assert person.ask("GET", "/api/v1/audit").status_code == 200
    demote(api, person, Role.ANALYST)
    problem(person.ask("GET", "/api/v1/audit"), 403, "forbidden")
    problem(person.ask("GET", USERS), 403, "forbidden")
    assert person.ask("GET", f"{CONTACTS}/1").json()["is_masked"] is True


def test_session_ends_on_its_day(api: Service, clock: Clock) -> None:
    person = enter(api)
    clock.forward(days=13, hours=23)
    tokens = refresh(api, person.refresh).json()
    clock.forward(hours=2)
    problem(bearing(api, tokens["access_token"], "GET", ME), 401, "token_expired")
    problem(refresh(api, tokens["refresh_token"]), 401, "session_ended")


# In mid-request: the head is there, the body is not yet

NEW_USER = {"email": "made.meanwhile@example.com", "role": "admin", "password": OTHER_PASSWORD}
NEW_KEY = {"name": "made meanwhile", "scopes": ["contacts:read"], "days": 1}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    USERS: ("POST", NEW_USER),
    KEYS: ("POST", NEW_KEY),
    CHANGE: ("POST", {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}),
}
MEANWHILE: dict[str, Callable[[Person], object]] = {
    "disabled": lambda it: disable(it.api, it),
    "signed out": lambda it: it.ask("POST", LOGOUT_ALL),
    "password changed": lambda it: change_password(
        enter(it.api, account=it.account), "quiet-harbour-keeps-3-umbrellas"
    ),
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("how", MEANWHILE)
def test_request_under_way_does_nothing_once_its_session_ended(api: Service, owner: Owner, path: str, how: str) -> None:
    person = enter(api, Role.ADMIN)
    method, body = REQUESTS[path]
    before = owner.count("users"), owner.count("api_keys")
    answer = under_way(person, method, path, body, lambda: MEANWHILE[how](person))
    assert (answer.status, answer.code) == (401, "session_ended")
    assert (owner.count("users"), owner.count("api_keys")) == before


def test_request_under_way_is_refused_once_the_role_is_gone(api: Service, owner: Owner) -> None:
    person, before = enter(api, Role.ADMIN), owner.count("users")
    answer = under_way(person, "POST", USERS, NEW_USER, lambda: demote(api, person, Role.MARKETER))
    assert (answer.status, answer.code) == (403, "forbidden")
    assert owner.count("users") == before


@pytest.mark.parametrize("how", ["disabled", "password changed"])
def test_sign_in_under_way_is_refused_once_the_account_changed(
    api: Service, owner: Owner, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The password was looked at and right; then, before the session is opened, it is too late."""
    account = api.add_account(Role.MARKETER)
    hasher = state_of(api).auth._hasher
    verify = hasher.verify_in_thread
    person = enter(api, account=account)

    async def late(password: str, hashed: str | None) -> tuple[bool, bool]:
        found: tuple[bool, bool] = await verify(password, hashed)
        monkeypatch.setattr(hasher, "verify_in_thread", verify)
        await anyio.to_thread.run_sync(MEANWHILE[how], person)
        return found

    monkeypatch.setattr(hasher, "verify_in_thread", late)
    before = owner.count("auth_sessions")
    body = {"email": account.email, "password": PASSWORD}
    problem(api.ask("POST", LOGIN, json=body), 401, "credentials_invalid")
    assert owner.count("auth_sessions") == before + (how == "password changed")  # that of the change itself


def test_page_that_is_not_read_to_its_end_keeps_no_connection(api: Service) -> None:
    """Pages are whole answers of bounded size: whoever is disabled gets no further page."""
    person = enter(api, Role.MARKETER)
    page = person.ask("GET", f"{CONTACTS}?limit=5").json()
    disable(api, person)
    problem(person.ask("GET", f"{CONTACTS}?limit=5&cursor={page['next']}"), 401, "session_ended")
