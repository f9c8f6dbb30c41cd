"""Invitations: links used again, old, replaced, guessed, used at once, and what they do not open."""

from __future__ import annotations

from uuid import uuid4

import httpx2
import pytest

from app.models.user import Role
from tests.sign_in import Clock
from tests.test_api.support import Account, Service, address
from tests.test_security.conftest import Make
from tests.test_security.support import (
    ACCEPT,
    INVITATIONS,
    LOGIN,
    OTHER_PASSWORD,
    USERS,
    Owner,
    at_once,
    enter,
    invite,
    problem,
)


def some_email() -> str:
    """An address that no account has."""
    return f"invited-{uuid4().hex[:10]}@example.com"


def accept(api: Service, token: str, password: str = OTHER_PASSWORD) -> httpx2.Response:
    """The answer to an invitation."""
    return api.ask("POST", ACCEPT, json={"token": token, "password": password})


def test_invitation_is_used_once(api: Service) -> None:
    email = some_email()
    token, _ = invite(api, email)
    assert accept(api, token).status_code == 200
    problem(accept(api, token, "quiet-harbour-keeps-3-umbrellas"), 401, "invitation_invalid")
    assert api.ask("POST", LOGIN, json={"email": email, "password": OTHER_PASSWORD}).status_code == 200


def test_invitation_that_many_use_at_once_sets_one_password(api: Service) -> None:
    email = some_email()
    token, _ = invite(api, email)
    passwords = [f"{OTHER_PASSWORD}-{n}" for n in range(4)]
    answers = at_once(*[lambda it=it: accept(api, token, it) for it in passwords])
    assert sorted(it.status_code for it in answers) == [200, 401, 401, 401]
    statuses = [api.ask("POST", LOGIN, json={"email": email, "password": it}).status_code for it in passwords]
    assert statuses.count(200) == 1


def test_invitation_ends_after_three_days(api: Service, clock: Clock) -> None:
    token, _ = invite(api, some_email())
    clock.forward(hours=71, minutes=59)
    problem(accept(api, token, "password"), 422, "password_weak")
    clock.forward(minutes=2)
    problem(accept(api, token), 401, "invitation_invalid")


def test_invitation_ends_when_a_newer_one_is_made(api: Service) -> None:
    old, user_id = invite(api, some_email())
    new = api.ask("POST", f"{USERS}/{user_id}/invitations", Role.ADMIN).json()["token"]
    problem(accept(api, old), 401, "invitation_invalid")
    assert accept(api, new).status_code == 200


def test_invitation_ends_with_its_account_and_does_not_come_back(api: Service) -> None:
    token, user_id = invite(api, some_email())
    for path in ("disable", "enable"):
        version = api.ask("GET", f"{USERS}/{user_id}", Role.ADMIN).json()["version"]
        assert api.ask("POST", f"{USERS}/{user_id}/{path}", Role.ADMIN, json={"version": version}).status_code == 200
        problem(accept(api, token), 401, "invitation_invalid")


def test_weak_password_does_not_use_an_invitation_up(api: Service) -> None:
    token, _ = invite(api, some_email())
    for _ in range(3):
        problem(accept(api, token, "password1234"), 422, "password_weak")
    assert accept(api, token).status_code == 200


def test_invitation_cannot_be_guessed(api: Service) -> None:
    token, _ = invite(api, some_email())
    assert len(token) == 43
    for guess in (
        token[:-1], token + "A", token.swapcase(), f" {token}", token[::-1], "%", "' OR '1'='1", "A" * 43, "\u0131" * 43,
    ):  # fmt: skip
        problem(accept(api, guess), 401, "invitation_invalid")
    assert accept(api, token).status_code == 200


def test_guesses_of_links_and_of_refresh_tokens_are_counted_by_address(make: Make) -> None:
    with make(limits={"per_address": "4/hour"}) as api:
        here = {"X-Forwarded-For": address()}
        bodies = [{"token": "a" * 43, "password": OTHER_PASSWORD}] * 3 + [
            {"token": "b" * 43, "password": OTHER_PASSWORD}
        ]
        statuses = [api.ask("POST", ACCEPT, json=body, headers=here).status_code for body in bodies]
        assert statuses == [401] * 4
        assert api.ask("POST", ACCEPT, json=bodies[0], headers=here).status_code == 429
        guess = {"refresh_token": "a" * 43}
        assert api.ask("POST", "/api/v1/auth/refresh", json=guess, headers=here).status_code == 429


def test_new_password_by_link_ends_every_session_of_the_old_one(api: Service) -> None:
    person = enter(api)
    token = api.ask("POST", f"{USERS}/{person.id}/invitations", Role.ADMIN).json()["token"]
    assert person.is_in()
    assert accept(api, token).status_code == 200
    assert not person.is_in()
    old = {"email": person.account.email, "password": person.account.password}
    problem(api.ask("POST", LOGIN, json=old), 401, "credentials_invalid")
    api.login(Account(person.account.email, OTHER_PASSWORD, person.account.public_id))


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_only_administrators_invite(api: Service, role: Role) -> None:
    body = {"email": some_email(), "role": "admin"}
    problem(api.ask("POST", INVITATIONS, role, json=body), 403, "forbidden")
    user_id = api.accounts[Role.ADMIN].public_id
    problem(api.ask("POST", f"{USERS}/{user_id}/invitations", role), 403, "forbidden")


def test_link_is_shown_once_and_kept_nowhere(api: Service, owner: Owner, capsys: pytest.CaptureFixture[str]) -> None:
    token, user_id = invite(api, some_email())
    accept(api, token)
    kept = str(owner.rows("SELECT t::text FROM invitations t")) + str(owner.rows("SELECT t::text FROM audit_events t"))
    assert token not in kept + capsys.readouterr().err + api.ask("GET", f"{USERS}/{user_id}", Role.ADMIN).text


def test_link_stands_behind_a_number_sign_and_names_our_own_address(make: Make) -> None:
    """What is behind # is sent to no server; and the address is that of the settings, whatever a request says."""
    with make(api={"public_url": "https://sms.example.com/"}) as api:
        forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
        body = {"email": some_email(), "role": "analyst"}
        made = api.ask("POST", INVITATIONS, Role.ADMIN, json=body, headers=forged).json()
        assert made["url"] == f"https://sms.example.com/invitation#{made['token']}"
