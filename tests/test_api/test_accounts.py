"""Sign-in, accounts and keys through the API: whole journeys, and what belongs to somebody else."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest

from app.core import clock
from app.models.permission import ROLE_PERMISSIONS
from app.models.user import Role
from app.services.second_factor_service import STEP_S, code_at
from tests.test_api.support import PASSWORD, Account, Service

LOGIN, REFRESH, ME = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/me"
USERS, KEYS = "/api/v1/users", "/api/v1/api-keys"
OTHER_PASSWORD = "eleven-blue-herons-wade-home"


def as_(api: Service, token: str, method: str, path: str, **more: Any) -> httpx2.Response:
    """The answer to whoever has this token."""
    return api.ask(method, path, headers={"Authorization": f"Bearer {token}"}, **more)


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code of a problem."""
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("path", [LOGIN, "/auth/login"])
def test_signing_in_takes_json_and_the_form_of_oauth2(api: Service, path: str) -> None:
    account = api.accounts[Role.MANAGER]
    form = {
        "grant_type": "password",
        "username": account.email.upper(),
        "password": PASSWORD,
        "scope": "",
        "client_id": "",
    }
    for answer in (
        api.ask("POST", path, json={"email": account.email, "password": PASSWORD}),
        api.ask("POST", path, data=form),
    ):
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 600)
        me = as_(api, tokens["access_token"], "GET", ME).json()
        assert (me["email"], me["role"], me["id"]) == (account.email, "manager", str(account.public_id))
        assert set(me["permissions"]) == set(ROLE_PERMISSIONS[Role.MANAGER])


def test_wrong_password_and_unknown_account_are_told_alike(api: Service) -> None:
    known = api.ask("POST", LOGIN, json={"email": api.accounts[Role.ADMIN].email, "password": "wrong"})
    unknown = api.ask("POST", LOGIN, json={"email": "nobody@example.com", "password": "wrong"})
    assert code(known) == code(unknown) == (401, "credentials_invalid")
    assert {k: v for k, v in known.json().items() if k != "request_id"} == {
        k: v for k, v in unknown.json().items() if k != "request_id"
    }


def test_session_goes_on_by_refresh_and_ends_by_logout(api: Service) -> None:
    first = api.login(api.add_account(Role.ANALYST))
    second = api.ask("POST", REFRESH, json={"refresh_token": first["refresh_token"]}).json()
    assert second["refresh_token"] != first["refresh_token"]
    sessions = as_(api, second["access_token"], "GET", "/api/v1/auth/sessions").json()
    assert [it["is_current"] for it in sessions] == [True]
    assert as_(api, second["access_token"], "POST", "/api/v1/auth/logout").status_code == 204
    for token in (first["access_token"], second["access_token"]):
        assert code(as_(api, token, "GET", ME)) == (401, "session_ended")
    assert api.ask("POST", REFRESH, json={"refresh_token": second["refresh_token"]}).status_code == 401


def test_logout_everywhere_ends_every_session_of_the_account_and_no_other(api: Service) -> None:
    account, other = api.add_account(Role.ANALYST), api.add_account(Role.ANALYST)
    tokens = [api.login(account)["access_token"] for _ in range(3)]
    spared = api.login(other)["access_token"]
    assert as_(api, tokens[0], "POST", "/api/v1/auth/logout-everywhere").status_code == 204
    assert [as_(api, token, "GET", ME).status_code for token in tokens] == [401, 401, 401]
    assert as_(api, spared, "GET", ME).status_code == 200


def test_change_of_password_ends_other_sessions_and_the_old_password(api: Service) -> None:
    account = api.add_account(Role.MARKETER)
    here, there = (api.login(account)["access_token"] for _ in range(2))
    weak = {"old_password": PASSWORD, "new_password": "password1234"}
    assert code(as_(api, here, "POST", "/api/v1/auth/password", json=weak)) == (422, "password_weak")
    wrong = {"old_password": "wrong", "new_password": OTHER_PASSWORD}
    assert code(as_(api, here, "POST", "/api/v1/auth/password", json=wrong)) == (401, "credentials_invalid")
    change = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    changed = as_(api, here, "POST", "/api/v1/auth/password", json=change)
    assert changed.status_code == 200
    assert as_(api, changed.json()["access_token"], "GET", ME).status_code == 200
    assert as_(api, there, "GET", ME).status_code == 401
    assert api.ask("POST", LOGIN, json={"email": account.email, "password": PASSWORD}).status_code == 401
    api.login(Account(account.email, OTHER_PASSWORD, account.public_id))


def test_second_factor_is_asked_for_once_it_is_confirmed(api: Service) -> None:
    account = api.add_account(Role.COMPLIANCE)
    token = api.login(account)["access_token"]
    made = as_(api, token, "POST", "/api/v1/auth/second-factor/setup").json()
    assert made["uri"].startswith("otpauth://totp/")
    api.login(account)
    first = as_(api, token, "POST", "/api/v1/auth/second-factor/confirm", json={"code": one_time(made["secret"], 0)})
    codes = first.json()["recovery_codes"]
    assert len(set(codes)) == len(codes) >= 8
    body = {"email": account.email, "password": PASSWORD}
    assert code(api.ask("POST", LOGIN, json=body)) == (401, "otp_required")
    assert code(api.ask("POST", LOGIN, json=body | {"otp": "000000"})) == (401, "otp_invalid")
    form = {"username": account.email, "password": PASSWORD, "otp": codes[0]}
    assert api.ask("POST", LOGIN, data=form).status_code == 200
    assert code(api.ask("POST", LOGIN, json=body | {"otp": codes[0]})) == (401, "otp_invalid")
    off = {"password": PASSWORD, "code": codes[1]}
    assert as_(api, token, "POST", "/api/v1/auth/second-factor/disable", json=off).status_code == 204
    api.login(account)


def one_time(secret: str, ahead: int) -> str:
    """The code of an authenticator."""
    return code_at(base64.b32decode(secret), int(clock.utc_now().timestamp()) // STEP_S + ahead)


def test_invited_person_sets_a_password_once_and_signs_in(api: Service) -> None:
    email = f"invited-{uuid4().hex[:8]}@example.com"
    made = api.ask("POST", "/api/v1/invitations", Role.ADMIN, json={"email": email, "role": "marketer"})
    assert made.status_code == 201, made.text
    assert made.json()["url"].endswith(f"#{made.json()['token']}")
    assert made.json()["user"]["has_password"] is False
    accept = {"token": made.json()["token"], "password": OTHER_PASSWORD}
    weak = api.ask("POST", "/api/v1/auth/invitations/accept", json=accept | {"password": "123456789012"})
    assert code(weak) == (422, "password_weak")
    assert api.ask("POST", "/api/v1/auth/invitations/accept", json=accept).json()["email"] == email
    assert code(api.ask("POST", "/api/v1/auth/invitations/accept", json=accept)) == (401, "invitation_invalid")
    assert api.ask("POST", LOGIN, json={"email": email, "password": OTHER_PASSWORD}).status_code == 200


def test_role_and_end_of_an_account_count_with_the_next_request(api: Service) -> None:
    body = {"email": f"made-{uuid4().hex[:8]}@example.com", "role": "analyst", "password": OTHER_PASSWORD}
    made = api.ask("POST", USERS, Role.ADMIN, json=body).json()
    token = api.login(Account(body["email"], OTHER_PASSWORD, made["id"]))["access_token"]
    assert as_(api, token, "GET", "/api/v1/contacts/1").json()["is_masked"] is True
    path = f"{USERS}/{made['id']}"
    changed = api.ask("PATCH", f"{path}/role", Role.ADMIN, json={"role": "marketer", "version": made["version"]})
    assert changed.json()["role"] == "marketer"
    assert as_(api, token, "GET", "/api/v1/contacts/1").json()["is_masked"] is False
    stale = api.ask("POST", f"{path}/disable", Role.ADMIN, json={"version": made["version"]})
    assert code(stale) == (409, "version_conflict")
    disabled = api.ask("POST", f"{path}/disable", Role.ADMIN, json={"version": changed.json()["version"]})
    assert disabled.json()["disabled_at"] is not None
    assert as_(api, token, "GET", ME).status_code == 401
    assert api.ask("POST", LOGIN, json={"email": body["email"], "password": OTHER_PASSWORD}).status_code == 401
    assert api.ask("POST", USERS, Role.ADMIN, json=body).json()["code"] == "user_exists"


def test_nobody_takes_himself_away(api: Service) -> None:
    path = f"{USERS}/{api.accounts[Role.ADMIN].public_id}"
    version = api.ask("GET", path, Role.ADMIN).json()["version"]
    assert code(api.ask("POST", f"{path}/disable", Role.ADMIN, json={"version": version})) == (409, "own_account")
    role = {"role": "analyst", "version": version}
    assert code(api.ask("PATCH", f"{path}/role", Role.ADMIN, json=role)) == (409, "own_account")


@pytest.mark.parametrize(
    "extra", [{"role": "admin"}, {"is_admin": True}, {"id": 1}, {"user_id": 1}, {"disabled_at": None}]
)
def test_fields_that_nobody_asked_for_are_refused(api: Service, extra: dict[str, Any]) -> None:
    change = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD, **extra}
    assert api.ask("POST", "/api/v1/auth/password", Role.ANALYST, json=change).status_code == 422


def test_accounts_are_listed_page_by_page(api: Service) -> None:
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = api.ask("GET", USERS, Role.MANAGER, params=query).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(found) == len(set(found))
    assert {str(account.public_id) for account in api.accounts.values()} <= set(found)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_keys_of_others_do_not_exist_for_whoever_may_not_manage_them(api: Service, role: Role) -> None:
    body = {"name": "theirs", "scopes": ["contacts:read"], "days": 7}
    theirs = api.ask("POST", KEYS, Role.ADMIN, json=body).json()["api_key"]["id"]
    assert code(api.ask("DELETE", f"{KEYS}/{theirs}", role)) == (404, "api_key_not_found")
    assert code(api.ask("DELETE", f"{KEYS}/{uuid4()}", role)) == (404, "api_key_not_found")
    assert theirs not in api.ask("GET", KEYS, role).text
    assert api.ask("GET", f"{KEYS}?of_all=true", role).status_code == 403
    for_other = body | {"owner_id": str(api.accounts[Role.ADMIN].public_id)}
    assert api.ask("POST", KEYS, role, json=for_other).status_code == 404
    assert api.ask("POST", KEYS, role, json=body | {"scopes": ["users:manage"]}).status_code == 403
    mine = api.ask("POST", KEYS, role, json=body).json()
    assert api.ask("GET", "/api/v1/contacts/1", headers={"Authorization": f"Bearer {mine['key']}"}).status_code == 200
    assert mine["key"] not in api.ask("GET", KEYS, role).text
    assert api.ask("DELETE", f"{KEYS}/{mine['api_key']['id']}", role).json()["revoked_at"] is not None
    gone = api.ask("GET", "/api/v1/contacts/1", headers={"Authorization": f"Bearer {mine['key']}"})
    assert code(gone) == (401, "api_key_invalid")


def test_administrator_sees_and_ends_keys_of_others(api: Service) -> None:
    body = {"name": "of the analyst", "scopes": ["contacts:read"], "days": 7}
    made = api.ask("POST", KEYS, Role.ANALYST, json=body).json()["api_key"]
    listed = api.ask("GET", f"{KEYS}?of_all=true&limit=200", Role.ADMIN).json()["items"]
    assert made["id"] in {item["id"] for item in listed}
    assert api.ask("DELETE", f"{KEYS}/{made['id']}", Role.ADMIN).json()["revoked_at"] is not None


def test_public_keys_check_a_token_of_ours(api: Service) -> None:
    token = api.token(Role.ADMIN)
    keys = api.ask("GET", "/.well-known/jwks.json").json()["keys"]
    assert keys == api.ask("GET", "/api/v1/auth/keys").json()["keys"]
    kid = jwt.get_unverified_header(token)["kid"]
    key = next(jwt.PyJWK(it) for it in keys if it["kid"] == kid)
    assert jwt.decode(token, key, ["EdDSA"], audience="sms-api")["sub"] == str(api.accounts[Role.ADMIN].public_id)
