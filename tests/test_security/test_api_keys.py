"""API keys: what they open, when they end, and that they are no way to more than they were made for."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute

from app.api.routes import key_of as name_of
from app.api.v1.api import ROUTES
from app.core.deps import permission_of
from app.models.permission import ROLE_PERMISSIONS, Permission
from app.models.user import Role
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Service
from tests.test_security.conftest import Make
from tests.test_security.support import (
    CONTACTS,
    KEYS,
    LOGIN,
    ME,
    NOBODY,
    OTHER_PASSWORD,
    REFRESH,
    USERS,
    Owner,
    at_once,
    bearing,
    demote,
    disable,
    enter,
    key_of,
    problem,
)

GUARDED = [route for route in ROUTES if permission_of(route) is not None]
WHOLE = ROLE_PERMISSIONS[Role.ADMIN] - {Permission.SELF}


@pytest.fixture(scope="module")
def whole_key(api: Service) -> str:
    """A key of an administrator with all that it can have."""
    return key_of(enter(api, Role.ADMIN), *WHOLE)[0]


@pytest.fixture(scope="module")
def narrow_keys(api: Service) -> dict[Permission, str]:
    """Keys with one scope each."""
    person = enter(api, Role.ADMIN)
    return {scope: key_of(person, scope)[0] for scope in WHOLE}


def path_of(route: APIRoute) -> str:
    """The path of a route about something that does not exist."""
    return re.sub(r"\{(contact_id|run_id)\}", "999999", re.sub(r"\{(user_id|key_id)\}", NOBODY, route.path))


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_key_opens_what_its_scope_names_and_nothing_else(
    api: Service, narrow_keys: dict[Permission, str], route: APIRoute
) -> None:
    needed = permission_of(route)
    for scope, key in narrow_keys.items():
        answer = bearing(api, key, next(iter(route.methods or ())), path_of(route))
        assert (answer.status_code == 403) is (scope is not needed), (scope, answer.text)
        assert answer.status_code < 500


@pytest.mark.parametrize("route", [it for it in GUARDED if permission_of(it) is Permission.SELF], ids=name_of)
def test_key_does_not_reach_the_account_of_its_owner(api: Service, whole_key: str, route: APIRoute) -> None:
    """No password, second factor, session or further key by means of a key."""
    problem(bearing(api, whole_key, next(iter(route.methods or ())), path_of(route), json={}), 403, "forbidden")


@pytest.mark.parametrize(
    "scopes",
    [["self"], ["self", "contacts:read"], [], ["*"], ["contacts:*"], ["admin"], ["CONTACTS:READ"], [None], "self"],
)
def test_key_with_scopes_that_there_are_not_is_not_made(api: Service, scopes: object) -> None:
    answer = enter(api, Role.ADMIN).ask("POST", KEYS, json={"name": "odd", "scopes": scopes, "days": 1})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("role", list(Role))
def test_nobody_gives_a_key_what_he_has_not(api: Service, role: Role) -> None:
    person = enter(api, role)
    for scope in WHOLE | {Permission.METRICS_READ}:
        answer = person.ask("POST", KEYS, json={"name": "more", "scopes": [scope, "contacts:read"], "days": 1})
        assert answer.status_code == (201 if scope in ROLE_PERMISSIONS[role] else 403), (scope, answer.text)


def test_key_with_more_scopes_than_its_owner_has_now_opens_what_both_have(api: Service) -> None:
    person = enter(api, Role.ADMIN)
    key, _ = key_of(person, *WHOLE)
    assert bearing(api, key, "GET", USERS).status_code == 200
    demote(api, person, Role.ANALYST)
    for path in (USERS, "/api/v1/audit"):
        problem(bearing(api, key, "GET", path), 403, "forbidden")
    assert bearing(api, key, "GET", f"{CONTACTS}/1").json()["is_masked"] is True
    demote(api, person, Role.SERVICE)
    problem(bearing(api, key, "GET", "/metrics"), 403, "forbidden")  # the role may, the key was not made for it


def test_key_ends_on_its_day(api: Service, clock: Clock) -> None:
    key, _ = key_of(enter(api), Permission.CONTACTS_READ, days=2)
    clock.forward(days=1, hours=23)
    assert bearing(api, key, "GET", CONTACTS).status_code == 200
    clock.forward(hours=2)
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")


@pytest.mark.parametrize("days", [0, -1, 366, 10**6, 10**30, 1.5, "9e9", None, True])
def test_key_does_not_live_for_ever(api: Service, days: object) -> None:
    body = {"name": "for ever", "scopes": ["contacts:read"], "days": days}
    answer = api.ask("POST", KEYS, Role.MARKETER, json=body)
    if days is True:  # pydantic reads it as one day
        assert answer.status_code in (201, 422)
    else:
        assert answer.status_code == 422, answer.text


def test_key_that_was_revoked_opens_nothing_with_the_next_request(api: Service) -> None:
    person = enter(api)
    key, key_id = key_of(person, Permission.CONTACTS_READ)
    assert bearing(api, key, "GET", CONTACTS).status_code == 200
    assert person.ask("DELETE", f"{KEYS}/{key_id}").status_code == 200
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")


def test_key_ends_with_its_owner(api: Service) -> None:
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    disable(api, person)
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")


def test_known_beginning_of_a_key_is_of_no_use(api: Service, owner: Owner) -> None:
    person = enter(api)
    key, key_id = key_of(person, Permission.CONTACTS_READ)
    other, _ = key_of(person, Permission.CONTACTS_READ)
    shown = next(it for it in person.ask("GET", KEYS).json()["items"] if it["id"] == key_id)
    assert key.startswith(shown["prefix"])
    assert len(shown["prefix"]) <= 16
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    for guess in (
        shown["prefix"], shown["prefix"] + "A" * (len(key) - len(shown["prefix"])), flipped, key[:-1], key + "A",
        key[:16] + other[16:], shown["prefix"] + "%", shown["prefix"] + "' OR 1=1 --", key.lower(), f"{key} {key}",
    ):  # fmt: skip
        problem(bearing(api, guess, "GET", CONTACTS), 401, "api_key_invalid")
    ((digest,),) = owner.rows("SELECT encode(key_hash, 'hex') FROM api_keys WHERE public_id = %s", key_id)
    problem(bearing(api, f"sms_{digest}", "GET", CONTACTS), 401, "api_key_invalid")


def test_key_is_no_way_to_sign_in(api: Service) -> None:
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    problem(api.ask("POST", LOGIN, json={"email": person.account.email, "password": key}), 401, "credentials_invalid")
    problem(api.ask("POST", REFRESH, json={"refresh_token": key}), 401, "refresh_invalid")
    assert bearing(api, key, "GET", ME).status_code == 403


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MANAGER, Role.SERVICE])
def test_key_that_manages_accounts_gives_no_role_that_may_more_than_it(
    api: Service, narrow_keys: dict[Permission, str], role: Role
) -> None:
    """Else a key for one thing is a key for everything: it makes an administrator and signs in as him."""
    key = narrow_keys[Permission.USERS_MANAGE]
    new = {"email": f"by-key-{uuid4().hex[:8]}@example.com", "role": role, "password": OTHER_PASSWORD}
    assert bearing(api, key, "POST", USERS, json=new).status_code == 403
    assert api.ask("POST", LOGIN, json={"email": new["email"], "password": OTHER_PASSWORD}).status_code == 401


def test_key_that_manages_accounts_takes_no_administrators_over(
    api: Service, narrow_keys: dict[Permission, str]
) -> None:
    """Not by a link for a new password, not by taking the second factor off, not by raising somebody."""
    key, admin, person = narrow_keys[Permission.USERS_MANAGE], enter(api, Role.ADMIN), enter(api)
    link = bearing(api, key, "POST", f"{USERS}/{admin.id}/invitations")
    raised = bearing(api, key, "PATCH", f"{USERS}/{person.id}/role", json={"role": "admin", "version": person.version})
    assert (link.status_code, raised.status_code) == (403, 403)
    assert api.ask("POST", LOGIN, json={"email": admin.account.email, "password": PASSWORD}).status_code == 200


def test_keys_that_are_made_at_once_stay_within_their_number(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.api_key_service.MOST_KEYS", 3)
    with make() as api:
        person = enter(api)
        body = {"name": "one of many", "scopes": ["contacts:read"], "days": 1}
        answers = at_once(*[lambda: person.ask("POST", KEYS, json=body)] * 8)
        assert sorted(it.status_code for it in answers) == [201] * 3 + [409] * 5


def test_guesses_of_keys_are_counted_by_address(make: Make) -> None:
    with make(limits={"per_address": "3/hour"}) as api:
        here = {"X-Forwarded-For": "10.77.1.9", "Authorization": "Bearer sms_" + "a" * 43}
        assert [api.ask("GET", CONTACTS, headers=here).status_code for _ in range(5)] == [401] * 3 + [429] * 2
