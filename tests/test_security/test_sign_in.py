"""Guessing passwords: what an answer tells of accounts, how often one may try, and which passwords there can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.models.permission import Origin
from app.models.user import Role
from app.services.session_service import client_network
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Account, Service, address
from tests.test_security.conftest import Make
from tests.test_security.support import (
    ACCEPT,
    CHANGE,
    LOGIN,
    ME,
    OTHER_PASSWORD,
    USERS,
    Owner,
    Raw,
    at_once,
    disable,
    enter,
    hashes,
    invite,
    problem,
    send_raw,
    statements,
)

WRONG = "this-is-not-the-password"


@pytest.fixture(scope="module")
def suspects(api: Service) -> dict[str, str]:
    """Addresses whose accounts differ in all that a stranger must not hear."""
    shut = enter(api)
    disable(api, shut)
    invited = f"invited-{uuid4().hex[:8]}@example.com"
    invite(api, invited)
    return {
        "an account": api.accounts[Role.MARKETER].email, "an administrator": api.accounts[Role.ADMIN].email,
        "nobody": f"nobody-{uuid4().hex[:8]}@example.com", "disabled": shut.account.email, "invited": invited,
        "no address": "' OR 1=1 --", "too long for an address": "a" * 300,
    }  # fmt: skip


def attempt(api: Service, email: str, password: str = WRONG, **more: Any) -> httpx2.Response:
    """The answer to a sign-in."""
    return api.ask("POST", LOGIN, json={"email": email, "password": password}, **more)


# What an answer tells


def told(answer: httpx2.Response) -> tuple[int, dict[str, Any], list[str]]:
    """All of an answer but what differs with each request."""
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return answer.status_code, body, sorted(answer.headers)


@pytest.mark.parametrize("password", [WRONG, "x", "p" * 1000, "contraseña-que-no-es", PASSWORD + " "])
def test_wrong_password_and_no_account_get_one_answer(api: Service, suspects: dict[str, str], password: str) -> None:
    answers = {who: told(attempt(api, email, password)) for who, email in suspects.items()}
    status, body, _ = answers["nobody"]
    assert (status, body["code"]) == (401, "credentials_invalid")
    assert {who for who, it in answers.items() if it != answers["nobody"]} == set()


def test_right_password_of_a_disabled_account_tells_nothing_either(api: Service, suspects: dict[str, str]) -> None:
    answers = [told(attempt(api, suspects[who], PASSWORD)) for who in ("disabled", "invited", "nobody")]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("password", [WRONG, "p" * 1000])
def test_wrong_password_and_no_account_cost_the_same_work(
    api: Service, suspects: dict[str, str], password: str
) -> None:
    """Counted, not timed: one hash of equal parameters each, and the same statements."""
    work = {}
    for who, email in suspects.items():
        with hashes(api) as computed, statements(api) as sent:
            attempt(api, email, password)
        work[who] = (tuple(computed), tuple(sent))
    assert len(work["nobody"][0]) == 1
    assert "m=19456,t=2" in work["nobody"][0][0]
    assert {who for who, it in work.items() if it != work["nobody"]} == set()


def test_throttle_does_not_tell_whether_there_is_an_account(make: Make, suspects: dict[str, str]) -> None:
    with make(auth={"logins_per_account": "3/hour"}) as api:
        for who, email in suspects.items():
            if who == "too long for an address":
                continue  # what is no address has one counter, whatever it is
            answers = [attempt(api, email) for _ in range(4)]
            assert [it.status_code for it in answers] == [401, 401, 401, 429]
            assert answers[-1].json()["code"] == "login_throttled"


def test_second_factor_is_not_told_to_whoever_has_no_password(api: Service) -> None:
    person = enter(api)
    person.ask("POST", "/api/v1/auth/second-factor/setup", json={"password": PASSWORD})
    for otp in ("123456", "abcd-efgh-ijkl-mnop"):
        body = {"email": person.account.email, "password": WRONG, "otp": otp}
        problem(api.ask("POST", LOGIN, json=body), 401, "credentials_invalid")


def test_accounts_are_not_told_by_the_links_of_others(api: Service) -> None:
    """A token of nobody's and one of a disabled account that was invited are refused alike."""
    email = f"late-{uuid4().hex[:8]}@example.com"
    token, user_id = invite(api, email)
    api.ask("POST", f"{USERS}/{user_id}/disable", Role.ADMIN, json={"version": 1})
    answers = [api.ask("POST", ACCEPT, json={"token": it, "password": OTHER_PASSWORD}) for it in (token, "x" * 43)]
    assert told(answers[0]) == told(answers[1])


# How often one may try


def failures(api: Service, email: str, **more: Any) -> Iterator[int]:
    """The statuses of one wrong password after another."""
    return (attempt(api, email, **more).status_code for _ in itertools.count())


def test_account_is_closed_to_guesses_from_anywhere_and_opens_again(make: Make, clock: Clock) -> None:
    with make(auth={"logins_per_account": "5/15minutes"}) as api:
        account = api.add_account(Role.MARKETER)
        assert list(itertools.islice(failures(api, account.email), 7)) == [401] * 5 + [429] * 2
        answer = attempt(api, account.email, account.password)
        problem(answer, 429, "login_throttled")
        assert 0 < int(answer.headers["retry-after"]) <= 900
        assert attempt(api, api.accounts[Role.ADMIN].email, PASSWORD).status_code == 200
        clock.forward(minutes=15)
        assert attempt(api, account.email, account.password).status_code == 200


def test_account_is_counted_however_its_address_is_written(make: Make) -> None:
    with make(auth={"logins_per_account": "4/hour"}) as api:
        email = api.add_account(Role.MARKETER).email
        spellings = (email, email.upper(), f"  {email}\t", email.replace("m", "\uff4d", 1), email.title())
        assert [attempt(api, it).status_code for it in spellings] == [401] * 4 + [429]


def test_guesses_at_once_are_counted_before_any_is_looked_at(make: Make) -> None:
    with make(auth={"logins_per_account": "5/hour"}) as api:
        account = api.add_account(Role.MARKETER)
        with hashes(api) as computed:
            answers = at_once(*[lambda: attempt(api, account.email)] * 15)
        assert sorted(it.status_code for it in answers) == [401] * 5 + [429] * 10
        assert len(computed) == 5


def test_every_way_to_try_a_password_counts_for_the_account(make: Make) -> None:
    with make(auth={"logins_per_account": "4/hour"}) as api:
        person = enter(api)
        ways: tuple[Callable[[], httpx2.Response], ...] = (
            lambda: attempt(api, person.account.email),
            lambda: api.ask("POST", "/auth/login", data={"username": person.account.email, "password": WRONG}),
            lambda: person.ask("POST", CHANGE, json={"old_password": WRONG, "new_password": OTHER_PASSWORD}),
            lambda: person.ask(
                "POST", "/api/v1/auth/second-factor/disable", json={"password": WRONG, "code": "123456"}
            ),
        )
        assert [way().status_code for way in ways] == [401] * 4
        assert {way().status_code for way in ways} == {429}


def test_address_is_closed_to_guesses_at_many_accounts(make: Make) -> None:
    with make(auth={"logins_per_address": "5/hour"}) as api:
        here = {"X-Forwarded-For": address()}
        statuses = [attempt(api, f"a{n}-{uuid4().hex[:8]}@example.com", headers=here).status_code for n in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        account = api.accounts[Role.MARKETER]
        assert attempt(api, account.email, account.password, headers=here).status_code == 429
        assert attempt(api, account.email, account.password).status_code == 200


def raw_attempt(api: Service, forwarded: str, *, peer_is_proxy: bool) -> int:
    """The status of a wrong password of a new account, with a chain of addresses that the client made up."""
    body = b'{"email": "%s@example.com", "password": "wrong"}' % uuid4().hex.encode()
    if peer_is_proxy:
        headers = {"X-Forwarded-For": forwarded, "Content-Type": "application/json"}
        return api.ask("POST", LOGIN, content=body, headers=headers).status_code
    answer: Raw = send_raw(
        api, "POST", LOGIN.encode(), [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            (b"x-forwarded-for", forwarded.encode()), (b"x-real-ip", forwarded.encode()),
            (b"forwarded", b"for=" + forwarded.encode()), (b"x-client-ip", forwarded.encode()),
            (b"cf-connecting-ip", forwarded.encode()), (b"true-client-ip", forwarded.encode()),
        ], (body,),
    )  # fmt: skip
    return answer.status


def test_address_that_a_client_makes_up_is_not_believed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what no proxy of ours has added, nor what stands in front of what it has."""
    here = address()
    monkeypatch.setattr("tests.test_security.support.address", lambda: here)
    with make(auth={"logins_per_address": "3/hour"}) as api:
        made_up = [raw_attempt(api, address(), peer_is_proxy=False) for _ in range(5)]
        assert made_up == [401] * 3 + [429] * 2
        there = address()
        chains = [raw_attempt(api, f"{address()}, 8.8.8.8, {there}", peer_is_proxy=True) for _ in range(5)]
        assert chains == [401] * 3 + [429] * 2
        spoofed = {"X-Real-IP": address(), "Forwarded": f"for={address()}", "X-Forwarded-For": there}
        assert attempt(api, "somebody@example.com", headers=spoofed).status_code == 429


def test_network_of_ipv6_is_one_address(make: Make) -> None:
    with make(auth={"logins_per_address": "3/hour"}) as api:
        network = f"2001:db8:{uuid4().hex[:4]}:1"
        statuses = [
            attempt(api, f"{uuid4().hex}@example.com", headers={"X-Forwarded-For": f"{network}::{n:x}"}).status_code
            for n in range(5)
        ]
    assert statuses == [401] * 3 + [429] * 2


def test_addresses_of_ipv4_in_the_form_of_ipv6_are_told_apart() -> None:
    """A socket for both kinds shows IPv4 clients so: they must not all share one counter."""
    names = {client_network(Origin(f"::ffff:{it}")) for it in ("203.0.113.7", "198.51.100.9")}
    assert names == {"203.0.113.7", "198.51.100.9"}


# Which passwords there can be

WEAK = (
    "short", "elevenchars", "password", "passwordpassword", "Password1234!", "P@ssw0rd2026", "123456789012",
    "qwertyuiop12", "aaaaaaaaaaaaaaaa", "abcabcabcabcabc", "iloveyou1234", "sms-platform-2026", "smsctl-smsctl-smsctl",
    "contraseña1234", "\u0000" * 20 + "x", "x" * 129,
)  # fmt: skip


def set_by(api: Service, password: str) -> dict[str, httpx2.Response]:
    """The answers of every route that takes a new password."""
    person = enter(api)
    token, _ = invite(api, f"weak-{uuid4().hex[:8]}@example.com")
    new = {"email": f"weak-{uuid4().hex[:8]}@example.com", "role": "analyst", "password": password}
    return {
        "create": api.ask("POST", USERS, Role.ADMIN, json=new),
        "change": person.ask("POST", CHANGE, json={"old_password": PASSWORD, "new_password": password}),
        "accept": api.ask("POST", ACCEPT, json={"token": token, "password": password}),
    }


@pytest.mark.parametrize("password", WEAK)
def test_password_that_is_tried_first_is_refused_wherever_one_is_set(api: Service, password: str) -> None:
    with hashes(api) as computed:
        answers = set_by(api, password)
    for answer in answers.values():
        assert (answer.status_code, answer.json()["code"]) in (
            (422, "password_weak"), (422, "text_not_storable"), (401, "credentials_invalid")), answer.text  # fmt: skip
        assert password == "password" or password not in answer.text  # a sentence may have the word
    assert len(computed) <= 3  # to sign in, and to look at the old one: none of a password that is refused


def test_password_of_little_more_than_the_own_name_is_refused(api: Service) -> None:
    body = {"email": "guadalupe@example.com", "role": "analyst", "password": "Guadalupe-7391"}
    problem(api.ask("POST", USERS, Role.ADMIN, json=body), 422, "password_weak")


@pytest.mark.parametrize(
    "password", ["correct horse battery staple", "ñandú-volador-azul-47", "🦦🦦🦦 otters at the lake 7"]
)
def test_password_may_be_any_text_that_is_long(api: Service, password: str) -> None:
    assert {it.status_code for it in set_by(api, password).values()} <= {200, 201}


def test_password_is_kept_as_argon2id_with_a_salt_of_its_own(api: Service, owner: Owner) -> None:
    for _ in range(2):
        api.add_account(Role.MARKETER)
    kept = [it for (it,) in owner.rows("SELECT password_hash FROM users WHERE password_hash IS NOT NULL")]
    assert all(it.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for it in kept)
    person = enter(api)
    person.ask("POST", CHANGE, json={"old_password": PASSWORD, "new_password": OTHER_PASSWORD})
    other = enter(api)
    other.ask("POST", CHANGE, json={"old_password": PASSWORD, "new_password": OTHER_PASSWORD})
    mine = owner.rows("SELECT password_hash FROM users WHERE public_id IN (%s, %s)", person.id, other.id)
    assert len({it for (it,) in mine}) == 2


def test_change_of_password_needs_the_old_one(api: Service) -> None:
    person = enter(api)
    for old in (WRONG, PASSWORD.upper(), PASSWORD[:-1], "p" * 1000):
        body = {"old_password": old, "new_password": OTHER_PASSWORD}
        problem(person.ask("POST", CHANGE, json=body), 401, "credentials_invalid")
    assert person.ask("GET", ME).status_code == 200
    api.login(Account(person.account.email, PASSWORD, person.account.public_id))
