"""The second factor: codes used twice, guessed, of somebody else, and ways around it."""

from __future__ import annotations

import pytest

from app.models.permission import Permission
from app.models.user import Role
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Account, Service
from tests.test_security.conftest import Make
from tests.test_security.support import (
    CHANGE,
    FACTOR,
    LOGIN,
    OTHER_PASSWORD,
    USERS,
    Owner,
    at_once,
    bearing,
    demote,
    enter,
    key_of,
    one_time,
    problem,
    switch_on,
)


def login(api: Service, account: Account, otp: str | None = None, password: str = PASSWORD) -> tuple[int, str]:
    """Status and code of a sign-in."""
    body = {"email": account.email, "password": password} | ({} if otp is None else {"otp": otp})
    answer = api.ask("POST", LOGIN, json=body)
    return answer.status_code, answer.json().get("code", "")


def test_sign_in_without_the_code_gives_nothing(api: Service, owner: Owner) -> None:
    person = enter(api)
    switch_on(person)
    before = owner.count("auth_sessions")
    assert login(api, person.account) == (401, "otp_required")
    assert login(api, person.account, "") in ((422, "invalid_input"), (401, "otp_required"))
    assert owner.count("auth_sessions") == before


def test_code_counts_once(api: Service, clock: Clock) -> None:
    person = enter(api)
    secret, _ = switch_on(person)
    assert login(api, person.account, one_time(secret, -1)) == (401, "otp_invalid")  # that it was confirmed with
    code = one_time(secret)
    assert login(api, person.account, code)[0] == 200
    assert login(api, person.account, code) == (401, "otp_invalid")
    assert login(api, person.account, f" {code[:3]} {code[3:]} ") == (401, "otp_invalid")
    off = {"password": PASSWORD, "code": code}
    problem(person.ask("POST", f"{FACTOR}/disable", json=off), 401, "otp_invalid")


def test_code_before_one_that_was_used_counts_no_more(api: Service, clock: Clock) -> None:
    person = enter(api)
    secret, _ = switch_on(person)
    later, now = one_time(secret, 1), one_time(secret)
    assert login(api, person.account, later)[0] == 200
    assert login(api, person.account, now) == (401, "otp_invalid")


def test_code_that_many_use_at_once_lets_one_in(api: Service, clock: Clock) -> None:
    person = enter(api)
    secret, recovery = switch_on(person)
    for code in (one_time(secret), recovery[0]):
        answers = at_once(*[lambda code=code: login(api, person.account, code)] * 6)
        assert [status for status, _ in answers].count(200) == 1


def test_recovery_code_counts_once(api: Service) -> None:
    person = enter(api)
    _, recovery = switch_on(person)
    assert login(api, person.account, recovery[3])[0] == 200
    for spelling in (recovery[3], recovery[3].upper(), recovery[3].replace("-", ""), recovery[3].replace("-", " ")):
        assert login(api, person.account, spelling) == (401, "otp_invalid")


def test_codes_are_of_one_account_only(api: Service, clock: Clock) -> None:
    person, other = enter(api), enter(api)
    switch_on(person)
    secret, recovery = switch_on(other)
    assert login(api, person.account, one_time(secret)) == (401, "otp_invalid")
    assert login(api, person.account, recovery[0]) == (401, "otp_invalid")
    assert login(api, other.account, recovery[0])[0] == 200


def test_codes_cannot_be_guessed_by_who_has_the_password(make: Make, clock: Clock) -> None:
    with make(auth={"logins_per_account": "5/15minutes"}) as api:
        person = enter(api)
        secret, _ = switch_on(person)
        wrong = "000000" if one_time(secret) != "000000" else "000001"
        answers = []
        for _ in range(7):
            answers.append(login(api, person.account, wrong))
            login(api, person.account)  # the right password alone gives no attempt back
        assert answers == [(401, "otp_invalid")] * 5 + [(429, "login_throttled")] * 2
        assert login(api, person.account, one_time(secret)) == (429, "login_throttled")


def test_codes_cannot_be_guessed_from_an_open_session(make: Make, clock: Clock) -> None:
    with make(auth={"logins_per_account": "5/15minutes"}) as api:
        person = enter(api)
        switch_on(person)
        off = {"password": PASSWORD, "code": "000000"}
        statuses = [person.ask("POST", f"{FACTOR}/disable", json=off).status_code for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2


def test_password_does_not_give_back_the_guesses_at_a_code(make: Make, clock: Clock) -> None:
    """Whoever has session and password could else go on for ever: four guesses, a new password, four more."""
    with make(auth={"logins_per_account": "5/15minutes"}) as api:
        person = enter(api)
        switch_on(person)
        now, then, taken, access = PASSWORD, OTHER_PASSWORD, 0, person.access
        for _ in range(4):
            off = {"password": now, "code": "000000"}
            for _ in range(4):
                taken += bearing(api, access, "POST", f"{FACTOR}/disable", json=off).status_code == 401
            changed = bearing(api, access, "POST", CHANGE, json={"old_password": now, "new_password": then})
            if changed.status_code == 200:
                access, now, then = changed.json()["access_token"], then, now
        assert taken <= 5


@pytest.mark.parametrize(
    "code",
    ["0", "00000", "0" * 65, "１２３４５６", "12345a", "null", "' OR 1=1 --", "%%%%%%", "-12345", "1e5000", "٠١٢٣٤٥"],
)
def test_code_that_is_none_is_refused(api: Service, code: str) -> None:
    person = enter(api)
    switch_on(person)
    assert login(api, person.account, code) in ((401, "otp_invalid"), (422, "invalid_input"))


def test_second_factor_that_is_on_is_not_replaced(api: Service, clock: Clock) -> None:
    person = enter(api)
    secret, _ = switch_on(person)
    problem(person.ask("POST", f"{FACTOR}/setup", json={"password": PASSWORD}), 409, "second_factor_on")
    problem(person.ask("POST", f"{FACTOR}/confirm", json={"code": one_time(secret)}), 409, "second_factor_on")
    assert login(api, person.account, one_time(secret))[0] == 200


def test_second_factor_goes_off_with_password_and_code_only(api: Service, clock: Clock) -> None:
    person = enter(api)
    secret, recovery = switch_on(person)
    wrong = {"password": "not-the-password", "code": one_time(secret)}
    problem(person.ask("POST", f"{FACTOR}/disable", json=wrong), 401, "credentials_invalid")
    problem(person.ask("POST", f"{FACTOR}/disable", json={"password": PASSWORD, "code": "000000"}), 401, "otp_invalid")
    assert login(api, person.account) == (401, "otp_required")
    off = {"password": PASSWORD, "code": recovery[0]}
    assert person.ask("POST", f"{FACTOR}/disable", json=off).status_code == 204
    assert login(api, person.account)[0] == 200
    assert login(api, person.account, recovery[1])[0] == 200  # an otp that nobody asked for is no obstacle


def test_way_around_the_second_factor_is_closed(api: Service, clock: Clock) -> None:
    """A new password by invitation or by change, another role, an API key: a code is asked for all the same."""
    person = enter(api, Role.MANAGER)
    switch_on(person)
    made = api.ask("POST", f"{USERS}/{person.id}/invitations", Role.ADMIN).json()
    body = {"token": made["token"], "password": OTHER_PASSWORD}
    assert api.ask("POST", "/api/v1/auth/invitations/accept", json=body).status_code == 200
    demote(api, person, Role.MARKETER)
    assert login(api, person.account, password=OTHER_PASSWORD) == (401, "otp_required")
    other = enter(api)
    key, _ = key_of(other, Permission.CONTACTS_READ)
    for path in ("setup", "confirm", "disable"):
        assert bearing(api, key, "POST", f"{FACTOR}/{path}", json={}).status_code == 403


def test_secret_is_shown_once_and_kept_sealed(api: Service, owner: Owner) -> None:
    person = enter(api)
    secret, recovery = switch_on(person)
    kept = str(owner.rows("SELECT t::text FROM second_factors t")) + str(
        owner.rows("SELECT t::text FROM recovery_codes t")
    )
    kept += str(owner.rows("SELECT t::text FROM audit_events t"))
    for shown in (secret, *recovery):
        assert shown not in kept
        assert shown.encode().hex() not in kept
    for path in ("/api/v1/auth/me", "/api/v1/auth/sessions"):
        assert secret not in person.ask("GET", path).text
    assert secret not in api.ask("GET", f"{USERS}/{person.id}", Role.ADMIN).text
