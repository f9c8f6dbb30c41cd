"""What a log and an answer may not have in them: secrets, numbers, addresses, statements, paths of the program."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import insert, text

from app.models.permission import Permission
from app.models.user import Role
from app.services import contact_service, user_service
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Account, Service
from tests.test_security.support import (
    ACCEPT,
    AUDIT,
    CHANGE,
    CONTACTS,
    FACTOR,
    KEYS,
    LOGIN,
    LOGOUT,
    ME,
    NOBODY,
    OTHER_PASSWORD,
    REFRESH,
    USERS,
    Owner,
    bearing,
    disable,
    enter,
    invite,
    key_of,
    one_time,
    problem,
    switch_on,
)

WRONG = "this-is-not-the-password"
GUESSED = "482917"
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|psycopg|sqlalchemy|SELECT |INSERT |UPDATE |FROM users|relation |column |"
    r"postgresql://|redis://|127\.0\.0\.1|localhost|pydantic|starlette|fastapi|RuntimeError|0x[0-9a-f]{6,}",
    re.IGNORECASE,
)
"""What an answer would show if it showed how it is made."""


def failures(api: Service, email: str, token: str) -> None:
    """All that can go wrong before somebody is in."""
    api.ask("POST", ACCEPT, json={"token": token, "password": "password1234"})
    api.ask("POST", ACCEPT, json={"token": token, "password": PASSWORD})
    api.ask("POST", ACCEPT, json={"token": token, "password": PASSWORD})
    for body in ({"email": email, "password": WRONG}, {"email": WRONG, "password": email}, {"email": email},
                 {"email": email, "password": PASSWORD, "otp": GUESSED, "x": WRONG}):  # fmt: skip
        api.ask("POST", LOGIN, json=body)
    api.ask("POST", LOGIN, content=f'{{"email": "{email}", "password": "{WRONG}"'.encode(),
            headers={"Content-Type": "application/json"})  # fmt: skip
    api.ask("POST", LOGIN, data={"username": email, "password": WRONG, "client_secret": WRONG})


def journey(api: Service) -> set[str]:
    """A person's whole life here with all that can go wrong; every secret and personal thing that was in it."""
    email = f"journey-{uuid4().hex[:10]}@example.com"
    token, user_id = invite(api, email, Role.MANAGER)
    failures(api, email, token)
    person = enter(api, account=Account(email, PASSWORD, uuid4()))
    secret, recovery = switch_on(person)
    api.ask("POST", LOGIN, json={"email": email, "password": PASSWORD, "otp": GUESSED})
    api.ask("POST", LOGIN, json={"email": email, "password": PASSWORD, "otp": recovery[0]})
    code = one_time(secret)
    again = enter(api, account=person.account, otp=code)
    key, key_id = key_of(again, Permission.CONTACTS_READ)
    bearing(api, key, "GET", CONTACTS)
    bearing(api, key[:-1] + "~", "GET", CONTACTS)
    again.ask("GET", f"{CONTACTS}?limit=200")
    again.ask("GET", f"{CONTACTS}/5512345678")
    again.ask("GET", f"/contacts/+525512345678?phone=5512345678&email={email}&token={again.access}")
    api.ask("GET", f"{ME}?access_token={again.access}")
    again.ask("PATCH", f"{USERS}/{user_id}/role", json={"role": "admin", "version": 1})
    refreshed = api.ask("POST", REFRESH, json={"refresh_token": again.refresh}).json()
    api.ask("POST", REFRESH, json={"refresh_token": refreshed["refresh_token"] + "x"})
    changed = bearing(api, refreshed["access_token"], "POST", CHANGE,
                      json={"old_password": PASSWORD, "new_password": OTHER_PASSWORD}).json()  # fmt: skip
    bearing(api, changed["access_token"], "POST", CHANGE, json={"old_password": WRONG, "new_password": PASSWORD})
    off = {"password": OTHER_PASSWORD, "code": GUESSED}
    bearing(api, changed["access_token"], "POST", f"{FACTOR}/disable", json=off)
    bearing(api, changed["access_token"], "DELETE", f"{KEYS}/{key_id}")
    bearing(api, changed["access_token"], "POST", LOGOUT)
    return {
        email, token, PASSWORD, OTHER_PASSWORD, WRONG, "password1234", secret, *recovery, code, GUESSED, key, key[4:],
        "5512345678", person.access, person.refresh,
        again.access, again.refresh, *refreshed.values(), *changed.values(), "journey-",
    } - {"bearer", 600}  # fmt: skip


def test_log_of_a_whole_journey_has_no_secret_and_nobody_in_it(
    api: Service, owner: Owner, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    capsys.readouterr()
    found = journey(api)
    root.removeHandler(handler)
    root.setLevel(level)
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert len(lines) > 30
    assert {line["event"] for line in lines} >= {"request"}
    # the standard library's loggers are at DEBUG here, lower than the service ever sets them; clients of the test left out
    library = "".join(it for it in stream.getvalue().splitlines(keepends=True) if "HTTP Request" not in it)
    logged = captured.err + captured.out + library
    assert [it for it in found if it in logged] == []
    people = [str(it) for row in owner.rows("SELECT phone_e164, phone_national, full_name FROM contacts") for it in row]
    assert [it for it in people if it in logged] == []


def test_audit_log_of_a_whole_journey_has_no_secret_in_it(api: Service, owner: Owner, clock: Clock) -> None:
    """The address of who acted stands there, as it must; nothing by which one could sign in, and no number."""
    found = {it for it in journey(api) if "@" not in it and it != "journey-"}
    kept = str(owner.rows("SELECT t::text FROM audit_events t"))
    assert [it for it in found if it in kept] == []
    numbers = [number for (number,) in owner.rows("SELECT phone_national FROM contacts")]
    assert [it for it in numbers if it in kept] == []


def test_everything_that_was_done_and_refused_in_a_journey_is_on_record(
    api: Service, owner: Owner, clock: Clock
) -> None:
    journey(api)
    events = set(owner.rows("SELECT action, result FROM audit_events"))
    assert events >= {
        ("user.create", "ok"), ("user.invite", "ok"), ("user.accept_invitation", "ok"), ("session.login", "ok"),
        ("session.login", "refused"), ("second_factor.set_up", "ok"), ("second_factor.on", "ok"),
        ("second_factor.off", "refused"), ("api_key.create", "ok"), ("api_key.revoke", "ok"), ("contacts.list", "ok"),
        ("access.refuse", "refused"), ("password.change", "ok"), ("password.change", "refused"),
        ("session.logout", "ok"),
    }  # fmt: skip
    api.ask("GET", AUDIT, Role.COMPLIANCE)
    assert owner.rows("SELECT count(*) > 0 FROM audit_events WHERE action = 'audit.list'") == [(True,)]


def test_reading_accounts_in_bulk_is_on_record(api: Service, owner: Owner) -> None:
    """Lists of personal data are (docs/adr/0011): addresses and names of people are such data."""
    person = enter(api, Role.COMPLIANCE)
    assert person.ask("GET", USERS).status_code == 200
    assert ("users.list",) in owner.rows("SELECT action FROM audit_events WHERE actor = %s", person.account.email)


# Errors


def refusals(api: Service) -> list[httpx2.Response]:
    """Answers of every status that a client can bring about."""
    person, shut = enter(api, Role.MARKETER), enter(api)
    disable(api, shut)
    kind = {"Content-Type": "application/json"}
    return [
        api.ask("GET", ME), api.ask("GET", "/nowhere"), api.ask("PUT", USERS, Role.ADMIN), person.ask("GET", USERS),
        shut.ask("GET", ME), api.ask("GET", f"{CONTACTS}/999999", Role.ADMIN), api.ask("GET", f"{CONTACTS}/x", Role.ADMIN),
        api.ask("POST", LOGIN, content=b"{", headers=kind), api.ask("POST", LOGIN, content=b"\xff", headers=kind),
        api.ask("POST", LOGIN, content=b"x"), api.ask("POST", LOGIN, content=b"[" * 10_000, headers=kind),
        api.ask("POST", LOGIN, json={"email": WRONG, "password": 1, "otp": [], WRONG: 1}),
        api.ask("POST", KEYS, Role.ADMIN, json={"name": WRONG, "scopes": [WRONG], "days": WRONG, "owner_id": WRONG}),
        api.ask("GET", f"{AUDIT}?since={WRONG}&actor_id={WRONG}&result={WRONG}&cursor={WRONG}&limit={WRONG}", Role.ADMIN),
        api.ask("GET", f"{CONTACTS}?state_code={WRONG}&lada={WRONG}&line_type={WRONG}&is_valid={WRONG}", Role.ADMIN),
        api.ask("POST", f"{USERS}/{NOBODY}/disable", Role.ADMIN, json={"version": 10**30}),
        api.ask("POST", f"{USERS}/{NOBODY}/disable", Role.ADMIN, json={"version": 1}),
        api.ask("POST", LOGIN, content=b"x" * 1_100_000, headers=kind),
    ]  # fmt: skip


def test_refusals_say_nothing_of_the_inside_and_repeat_no_value(api: Service) -> None:
    answers = refusals(api)
    assert {it.status_code for it in answers} >= {400, 401, 403, 404, 405, 413, 415, 422}
    for answer in answers:
        document: dict[str, Any] = answer.json()
        assert not INSIDE.search(answer.text), answer.text
        assert WRONG not in answer.text.replace(f"body.{WRONG}", ""), answer.text  # the name of a field is told
        assert set(document) <= {"type", "title", "status", "detail", "code", "instance", "request_id", "errors"}


FAULTS = {
    "an error of ours": RuntimeError(
        f"/srv/app/secret.py: cannot open postgresql://u:{WRONG}@10.0.0.1 for +525512345678"
    ),
    "a wrong key": KeyError(WRONG),
    "no memory": MemoryError(WRONG),
    "too deep": RecursionError(WRONG),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_told_without_its_cause(
    api: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise FAULTS[name]

    monkeypatch.setattr(contact_service, "get", fail)
    answer = api.ask("GET", f"{CONTACTS}/1", Role.ADMIN, headers={"X-Request-ID": "fault-1"})
    document = problem(answer, 500, "internal_error")
    assert not INSIDE.search(answer.text)
    assert WRONG not in answer.text
    assert document["request_id"] == "fault-1"
    logged = capsys.readouterr().err
    line = next(it for it in map(json.loads, logged.splitlines()) if it["event"] == "fault")
    assert (line["request_id"], line["kind"]) == ("fault-1", type(FAULTS[name]).__name__)
    assert "5512345678" not in logged
    assert f"u:{WRONG}" not in logged
    assert answer.headers["x-frame-options"] == "DENY"


def test_fault_of_a_statement_shows_neither_the_statement_nor_its_values(
    api: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = text("SELECT secret_column FROM users WHERE email = :contact_id::text AND full_name = 'María Pérez'")
    monkeypatch.setattr(contact_service, "_ONE", broken)
    answer = api.ask("GET", f"{CONTACTS}/1", Role.ADMIN)
    problem(answer, 500, "internal_error")
    assert not INSIDE.search(answer.text)
    logged = capsys.readouterr().err
    assert "María" not in logged
    assert "FROM users" not in logged


def test_conflict_in_the_database_shows_no_value(
    api: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unique key that nobody looked at first: PostgreSQL's own words have the value in them."""
    taken = api.accounts[Role.ADMIN].email
    monkeypatch.setattr(user_service, "insert_or", _Plain)
    answer = api.ask("POST", USERS, Role.ADMIN, json={"email": taken, "role": "analyst"})
    assert answer.status_code == 500
    assert taken not in answer.text
    assert not INSIDE.search(answer.text)
    assert taken not in capsys.readouterr().err


class _Plain:
    """An INSERT that does not look whether the row is there."""

    def __init__(self, table: Any) -> None:
        self._statement = insert(table)

    def values(self, values: Any) -> _Plain:
        """With these values."""
        self._statement = self._statement.values(values)
        return self

    def on_conflict_do_nothing(self, **_: Any) -> Any:
        """As it is."""
        return self._statement


def test_answer_names_no_program_and_no_version_but_our_own(api: Service) -> None:
    for path in ("/health", "/health/ready", "/nowhere", "/docs", "/openapi.json", "/.well-known/jwks.json"):
        answer = api.ask("GET", path)
        assert {"server", "x-powered-by", "via", "x-aspnet-version"} & set(answer.headers) == set()
        if path != "/docs":
            assert not re.search(r"uvicorn|starlette|fastapi|python/|postgres|psycopg", answer.text, re.IGNORECASE)
