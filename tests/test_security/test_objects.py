"""What belongs to somebody else, fields that nobody asked for, and ways to more rights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.api.v1.api import ROUTES
from app.core.database import connect
from app.models.permission import Permission
from app.models.user import Role
from tests.test_api.support import PASSWORD, Service
from tests.test_security.support import (
    AUDIT,
    CONTACTS,
    FACTOR,
    KEYS,
    LOGIN,
    ME,
    NOBODY,
    SESSIONS,
    USERS,
    Owner,
    Person,
    at_once,
    demote,
    enter,
    invite,
    key_of,
    problem,
    switch_on,
)

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
NOT_MANAGERS = [role for role in Role if role is not Role.ADMIN]


# Objects of somebody else


def test_sessions_are_ones_own(api: Service) -> None:
    one, other = enter(api), enter(api)
    mine = one.ask("GET", SESSIONS).json()
    assert len(mine) == 1
    for query in (f"?user_id={other.id}", f"?owner_id={other.id}", "?of_all=true", f"?id={other.id}"):
        assert one.ask("GET", SESSIONS + query).json() == mine


@pytest.mark.parametrize("role", NOT_MANAGERS)
def test_keys_of_another_are_not_seen_and_not_ended(api: Service, role: Role) -> None:
    one, other = enter(api, role), enter(api)
    _, key_id = key_of(other, Permission.CONTACTS_READ)
    theirs = one.ask("DELETE", f"{KEYS}/{key_id}")
    nobodys = one.ask("DELETE", f"{KEYS}/{NOBODY}")
    assert problem(theirs, 404, "api_key_not_found")["detail"] == problem(nobodys, 404, "api_key_not_found")["detail"]
    for query in ("", f"?owner_id={other.id}", f"?user_id={other.id}"):
        assert one.ask("GET", KEYS + query).json()["items"] == []
    problem(one.ask("GET", f"{KEYS}?of_all=true"), 403, "forbidden")
    assert [it["revoked_at"] for it in other.ask("GET", KEYS).json()["items"]] == [None]


@pytest.mark.parametrize("role", NOT_MANAGERS)
def test_key_in_the_name_of_another_is_not_made_and_does_not_tell_who_exists(api: Service, role: Role) -> None:
    one, other = enter(api, role), enter(api, Role.ADMIN)
    body = {"name": "theirs", "scopes": ["contacts:read"], "days": 1}
    answers = [one.ask("POST", KEYS, json=body | {"owner_id": it}) for it in (other.id, NOBODY)]
    assert [problem(it, 404, "user_not_found")["detail"] for it in answers] == [answers[0].json()["detail"]] * 2
    assert other.ask("GET", KEYS).json()["items"] == []


def test_cursor_of_one_does_not_list_what_is_anothers(api: Service) -> None:
    one, other = enter(api), enter(api)
    for _ in range(3):
        key_of(one, Permission.CONTACTS_READ)
    cursor = one.ask("GET", f"{KEYS}?limit=1").json()["next"]
    assert other.ask("GET", f"{KEYS}?cursor={cursor}").json()["items"] == []
    problem(other.ask("GET", f"{CONTACTS}?cursor={cursor}"), 422, "cursor_invalid")


def test_second_factor_is_ones_own(api: Service) -> None:
    one, other = enter(api), enter(api)
    _, recovery = switch_on(other)
    for extra in ({"user_id": other.id}, {"email": other.account.email}):
        off = {"password": PASSWORD, "code": recovery[0], **extra}
        problem(one.ask("POST", f"{FACTOR}/disable", json=off), 422, "invalid_input")
    off = {"password": PASSWORD, "code": recovery[0]}
    problem(one.ask("POST", f"{FACTOR}/disable?user_id={other.id}", json=off), 404, "second_factor_missing")
    answer = api.ask("POST", LOGIN, json={"email": other.account.email, "password": PASSWORD})
    problem(answer, 401, "otp_required")


@pytest.mark.parametrize("role", NOT_MANAGERS)
def test_account_of_another_is_not_changed(api: Service, role: Role) -> None:
    one, other = enter(api, role), enter(api)
    before = api.ask("GET", f"{USERS}/{other.id}", Role.ADMIN).json()
    for method, path, body in (
        ("PATCH", "role", {"role": "admin", "version": before["version"]}),
        ("POST", "disable", {"version": before["version"]}), ("POST", "enable", {"version": before["version"]}),
        ("POST", "invitations", None), ("DELETE", "second-factor", None),
    ):  # fmt: skip
        problem(one.ask(method, f"{USERS}/{other.id}/{path}", json=body), 403, "forbidden")
    assert api.ask("GET", f"{USERS}/{other.id}", Role.ADMIN).json() == before


@pytest.mark.parametrize("role", [Role.MARKETER, Role.ANALYST, Role.SERVICE])
def test_accounts_are_not_told_to_who_may_not_see_them(api: Service, role: Role) -> None:
    person = enter(api, role)
    for path in (USERS, f"{USERS}/{api.accounts[Role.ADMIN].public_id}", f"{USERS}/{NOBODY}", f"{USERS}/{person.id}"):
        problem(person.ask("GET", path), 403, "forbidden")


def test_no_answer_has_a_field_of_the_inside(api: Service) -> None:
    inside = (
        "password",
        "password_hash",
        "token_version",
        "key_hash",
        "token_hash",
        "private_key",
        "user_id",
        "secret",
    )
    person = enter(api, Role.ADMIN)
    key_of(person, Permission.CONTACTS_READ)
    for path in (USERS, f"{USERS}/{person.id}", KEYS, f"{KEYS}?of_all=true", SESSIONS, ME, f"{CONTACTS}/1", AUDIT):
        text = person.ask("GET", path).text
        assert [name for name in inside if f'"{name}"' in text] == [], path
        assert "$argon2" not in text


def test_refused_sight_of_the_keys_of_others_is_on_record(api: Service, owner: Owner) -> None:
    person = enter(api, Role.MARKETER)
    problem(person.ask("GET", f"{KEYS}?of_all=true"), 403, "forbidden")
    found = owner.rows(
        "SELECT result FROM audit_events WHERE actor = %s AND action LIKE 'access%%'", person.account.email
    )
    assert found == [("refused",)]


# Fields that nobody asked for

EXTRAS: dict[str, Any] = {
    "id": NOBODY, "public_id": NOBODY, "user_id": 1, "owner": NOBODY, "email_verified": True, "is_admin": True,
    "permissions": ["users:manage"], "disabled_at": None, "token_version": 1, "password_hash": "$argon2id$x",
    "created_at": "2020-01-01T00:00:00Z", "created_by": NOBODY, "has_second_factor": False, "session_id": NOBODY,
    "expires_at": "2099-01-01T00:00:00Z", "revoked_at": None, "prefix": "sms_", "key_hash": "x", "__proto__": {},
    "constructor": {}, "role ": "admin", "Role": "admin", "roles": ["admin"], "$set": {"role": "admin"},
}  # fmt: skip


def bodies(api: Service) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, a body of the examples in it) of every operation that takes JSON."""
    document = api.ask("GET", "/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                yield (
                    method.upper(), path.replace("{user_id}", NOBODY).replace("{key_id}", NOBODY),
                    {name: shape["examples"][0] for name, shape in schema["properties"].items() if "examples" in shape}
                    | {name: "admin" for name, shape in schema["properties"].items() if "$ref" in shape},
                )  # fmt: skip


def test_every_body_refuses_fields_that_nobody_asked_for(api: Service) -> None:
    """Taken from the document, so that a new route is asked too."""
    person = enter(api, Role.ADMIN)
    asked = list(bodies(api))
    assert len(asked) == sum(route.body_field is not None for route in ROUTES if route.include_in_schema) + 1  # login
    found = []
    for method, path, body in asked:
        for name, value in EXTRAS.items():
            if name in body:
                continue
            answer = person.ask(method, path, json=body | {name: value})
            kinds = [it["type"] for it in answer.json().get("errors", ())]
            if answer.status_code != 422 or kinds != ["extra_forbidden"]:
                found.append((method, path, name, answer.status_code, answer.text))
    assert found == []


def test_role_of_a_new_account_is_what_was_said_and_no_query_changes_it(api: Service) -> None:
    new = {"email": f"new-{uuid4().hex[:8]}@example.com", "role": "analyst"}
    answer = api.ask("POST", f"{USERS}?role=admin&disabled_at=x&id=1", Role.ADMIN, json=new)
    assert (answer.json()["role"], answer.json()["disabled_at"]) == ("analyst", None)


@pytest.mark.parametrize(
    "role", ["Admin", "ADMIN", "admin ", "root", "", None, 1, ["admin"], {"admin": 1}, "admin\u0000"]
)
def test_role_that_there_is_not_is_refused(api: Service, role: object) -> None:
    new = {"email": f"new-{uuid4().hex[:8]}@example.com", "role": role}
    assert api.ask("POST", USERS, Role.ADMIN, json=new).status_code == 422


# Ways to more rights


@pytest.mark.parametrize("role", NOT_MANAGERS)
def test_nobody_makes_himself_an_administrator(api: Service, role: Role) -> None:
    person = enter(api, role)
    body = {"role": "admin", "version": person.version}
    problem(person.ask("PATCH", f"{USERS}/{person.id}/role", json=body), 403, "forbidden")
    new = {
        "email": f"ally-{uuid4().hex[:8]}@example.com",
        "role": "admin",
        "password": "quiet-harbour-keeps-3-umbrellas",
    }
    problem(person.ask("POST", USERS, json=new), 403, "forbidden")
    problem(person.ask("POST", f"{USERS}/{person.id}/invitations"), 403, "forbidden")
    assert person.ask("GET", ME).json()["role"] == role
    assert api.ask("GET", f"{USERS}/{person.id}", Role.ADMIN).json()["role"] == role


def test_administrator_does_not_change_his_own_account(api: Service) -> None:
    person = enter(api, Role.ADMIN)
    body = {"role": "service", "version": person.version}
    problem(person.ask("PATCH", f"{USERS}/{person.id}/role", json=body), 409, "own_account")
    problem(person.ask("POST", f"{USERS}/{person.id}/disable", json={"version": person.version}), 409, "own_account")


def test_masked_role_sees_numbers_in_no_way(api: Service, owner: Owner) -> None:
    """Neither by a filter, nor by a cursor, nor by the audit log, nor by a key of its own."""
    person = enter(api, Role.ANALYST)
    numbers = [number for (number,) in owner.rows("SELECT phone_e164 FROM contacts")]
    seen = person.ask("GET", f"{CONTACTS}?limit=200").text + person.ask("GET", f"{CONTACTS}/1").text
    for query in (
        f"?phone_e164={numbers[0]}",
        f"?q={numbers[0][-8:]}",
        "?fields=phone_e164",
        "?reveal=true",
        "?masked=0",
    ):
        seen += person.ask("GET", CONTACTS + query).text
    problem(
        person.ask("POST", KEYS, json={"name": "x", "scopes": ["contacts:reveal"], "days": 1}), 403, "scope_not_yours"
    )
    seen += person.ask("GET", AUDIT).text
    assert [number for number in numbers if number in seen or number[3:] in seen] == []
    assert "María" not in seen


def test_invited_person_has_the_role_of_the_invitation(api: Service) -> None:
    email = f"invited-{uuid4().hex[:8]}@example.com"
    token, _ = invite(api, email, Role.ANALYST)
    body = {"token": token, "password": "quiet-harbour-keeps-3-umbrellas"}
    problem(api.ask("POST", "/api/v1/auth/invitations/accept", json=body | {"role": "admin"}), 422, "invalid_input")
    made = api.ask("POST", "/api/v1/auth/invitations/accept", json=body).json()
    assert made["role"] == "analyst"


# At once


def test_of_two_edits_of_one_version_one_counts(api: Service) -> None:
    person = enter(api)
    version = person.version
    path = f"{USERS}/{person.id}/role"
    answers = at_once(*[
        lambda role=role: api.ask("PATCH", path, Role.ADMIN, json={"role": role, "version": version})
        for role in ("analyst", "compliance", "manager", "service")
    ])  # fmt: skip
    assert sorted(it.status_code for it in answers) == [200, 409, 409, 409]
    assert {it.json()["code"] for it in answers if it.status_code == 409} == {"version_conflict"}
    won = next(it.json() for it in answers if it.status_code == 200)
    assert api.ask("GET", f"{USERS}/{person.id}", Role.ADMIN).json()["role"] == won["role"]
    assert person.version == version + 1


@pytest.mark.parametrize("way", ["role", "disable"])
def test_administrators_who_remove_each_other_at_once_leave_one(api: Service, owner: Owner, way: str) -> None:
    pair = enter(api, Role.ADMIN), enter(api, Role.ADMIN)
    versions = [it.version for it in pair]
    ids = [it.id for it in pair]
    owner.run(
        "UPDATE users SET disabled_at = now() WHERE role = 'admin' AND public_id::text <> ALL(%s) AND disabled_at IS NULL",
        ids,
    )

    def remove(mine: int) -> int:
        other = 1 - mine
        body = {"version": versions[other]} | ({"role": "analyst"} if way == "role" else {})
        method, path = ("PATCH", "role") if way == "role" else ("POST", "disable")
        return pair[mine].ask(method, f"{USERS}/{ids[other]}/{path}", json=body).status_code

    with connect(owner.url) as holding, ThreadPoolExecutor(2) as threads:
        # Nobody can commit before the end of the log is let go: so both have looked who else there is.
        holding.execute("SELECT FROM audit_head FOR UPDATE")
        under_way = [threads.submit(remove, mine) for mine in (0, 1)]
        while owner.rows(WAITING) != [(2,)]:
            assert not any(it.done() for it in under_way)
        holding.rollback()
        statuses = [it.result() for it in under_way]
    alive = owner.rows("SELECT public_id::text FROM users WHERE role = 'admin' AND disabled_at IS NULL")
    owner.run("UPDATE users SET disabled_at = NULL WHERE public_id = %s", api.accounts[Role.ADMIN].public_id)
    assert sorted(statuses) == [200, 409], statuses
    assert len(alive) == 1


def test_rights_that_are_taken_during_many_requests_are_gone_in_all_that_follow(api: Service) -> None:
    person = enter(api, Role.ADMIN)
    before = at_once(*[lambda: person.ask("GET", USERS).status_code] * 5)
    answers = at_once(lambda: demote(api, person, Role.MARKETER), *[lambda: person.ask("GET", USERS).status_code] * 10)
    after = at_once(*[lambda: person.ask("GET", USERS).status_code] * 5)
    assert set(before) == {200}
    assert set(answers[1:]) <= {200, 403}
    assert set(after) == {403}


def acts_on(person: Person) -> dict[str, Callable[[], httpx2.Response]]:
    """What can be done to an account, made ready."""
    api, path = person.api, f"{USERS}/{person.id}"
    link = api.ask("POST", f"{path}/invitations", Role.ADMIN).json()["token"]
    role = {"role": "manager", "version": person.version}
    key = {"name": "x", "scopes": ["contacts:read"], "days": 1, "owner_id": person.id}
    login = {"email": person.account.email, "password": PASSWORD}
    accept = {"token": link, "password": "quiet-harbour-keeps-3-umbrellas"}
    return {
        "signs in": lambda: api.ask("POST", LOGIN, json=login),
        "is given another role": lambda: api.ask("PATCH", f"{path}/role", Role.ADMIN, json=role),
        "is sent a link": lambda: api.ask("POST", f"{path}/invitations", Role.ADMIN),
        "accepts a link": lambda: api.ask("POST", "/api/v1/auth/invitations/accept", json=accept),
        "is given a key": lambda: api.ask("POST", KEYS, Role.ADMIN, json=key),
        "is disabled": lambda: api.ask("POST", f"{path}/disable", Role.ADMIN, json={"version": role["version"]}),
    }


@pytest.mark.parametrize(
    "what",
    ["signs in", "is given another role", "is sent a link", "accepts a link", "is given a key", "is disabled"],
)
def test_who_works_and_what_is_done_to_his_account_do_not_stop_each_other(
    api: Service, owner: Owner, what: str
) -> None:
    """The event of his work needs his row, what is done to him the end of the log: the one must not wait for the other."""
    person = enter(api)
    act = acts_on(person)[what]
    with connect(owner.url) as holding, ThreadPoolExecutor(2) as threads:
        holding.execute("SELECT FROM audit_head FOR UPDATE")
        under_way = []
        for work in (lambda: person.ask("GET", CONTACTS), act):
            under_way.append(threads.submit(work))
            while owner.rows(WAITING) != [(len(under_way),)]:
                assert not any(it.done() for it in under_way)
        holding.rollback()
        statuses = [it.result().status_code for it in under_way]
    assert set(statuses) <= {200, 201}, statuses
