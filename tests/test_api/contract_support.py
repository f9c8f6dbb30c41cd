"""Who asks in the contract tests, and real things for them to ask about: made-up requests alone meet only what is missing."""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from schemathesis import AuthContext, Case, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import clock
from app.core.database import connect
from app.models.permission import ROLE_PERMISSIONS, Permission
from app.models.user import Role
from app.services.second_factor_service import STEP_S, code_at
from tests.test_api.support import PASSWORD, Account, Service

Request = Case[Any]
OTHER_PASSWORD = "eleven-blue-herons-wade-home"
CLIENT = ("10.77.0.1", 50_000)
RUN = """
INSERT INTO migration_runs (source_path, source_sha256, source_bytes, source_rows, contact_id_offset, status, stage,
                            batch_size, finished_at)
VALUES ('/data/numeros.db', repeat('0', 64), 4096, 0, 0, 'completed', 'done', 1000, now()) RETURNING id
"""
OF_ITS_OWN = {"metrics_get": Permission.METRICS_READ}
"""What operations ask for that look at their tokens by themselves."""
MUST_SIGN_IN_AGAIN = frozenset({"session_ended", "token_expired"})


class From:
    """The application as a client of one address reaches it: schemathesis names its own client in no way that is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        await self._app({**scope, "client": CLIENT} if scope["type"] == "http" else scope, receive, send)


def add_run(database_url: str) -> int:
    """A completed run of the migration, of a source without rows."""
    with closing(connect(database_url)) as session:
        row = session.execute(RUN).fetchone()
        session.commit()
    assert row is not None
    return int(row[0])


@dataclass(slots=True)
class Asker:
    """Somebody who sends made-up requests. `role` None: nobody; a service comes with an API key, all others signed in."""

    api: Service
    role: Role | None
    run_id: int
    token: str | None = None
    given: set[str] = field(default_factory=set)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the asker may: a key may nothing of a person's own."""
        if self.role is None:
            return frozenset()
        return ROLE_PERMISSIONS[self.role] - ({Permission.SELF} if self.role is Role.SERVICE else set())

    def may(self, definition: Mapping[str, Any]) -> bool:
        """Whether an operation is open to the asker."""
        wanted = OF_ITS_OWN.get(definition["operationId"]) or definition.get("x-permission")
        return wanted is None or Permission(wanted) in self.permissions

    def get(self, _: Request, __: AuthContext) -> str | None:
        """The token to send (an AuthProvider of schemathesis)."""
        return self.token

    def set(self, case: Request, data: str, _: AuthContext) -> None:
        """Put the token into a request."""
        case.headers["Authorization"] = f"Bearer {data}"

    def sign_in(self) -> None:
        """Get a token, or another one."""
        if self.role is not None:
            account = self.api.accounts[self.role]
            self.token = self._key() if self.role is Role.SERVICE else sign_in(self.api, account)
            self.given.add(f"Bearer {self.token}")

    def come_as_of_now(self, case: Request) -> None:
        """Requests are made long before they are sent: where the token of then is in one, put that of now."""
        if case.headers.get("Authorization") in self.given:
            case.headers["Authorization"] = f"Bearer {self.token}"

    def _key(self) -> str:
        """Made by the account itself: nobody may give what he does not have."""
        body = {"name": "made up", "scopes": sorted(self.permissions), "days": 1}
        answer = self.api.ask("POST", "/api/v1/api-keys", Role.SERVICE, json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def speak_of_what_exists(self, case: Request) -> None:
        """Half of the valid requests, and each one out of the document's examples, are about something that is there."""
        name = case.operation.definition.raw["operationId"]
        if case.meta is None or not case.meta.generation.mode.is_positive or name not in REAL:
            return
        drawn = repr((case.path_parameters, case.query, case.body))
        is_example = case.meta.phase.name.value == "examples"
        if is_example or zlib.crc32(drawn.encode("utf-8", "surrogatepass")) % 2 == 0:
            REAL[name](self, case)

    def note(self, case: Request, response: Response) -> None:
        """Count the answer; sign in again where a session has ended, and leave no keys, of which an account has so many."""
        name = case.operation.definition.raw["operationId"]
        self.answers[name, response.status_code] += 1
        if (name, response.status_code) == ("api_key_create", 201):
            gone = self.api.ask("DELETE", f"/api/v1/api-keys/{response.json()['api_key']['id']}", Role.ADMIN)
            assert gone.status_code == 200, gone.text
        if self.role is not Role.SERVICE and (
            code_of(response) in MUST_SIGN_IN_AGAIN or (response.status_code == 204 and "logout" in case.path)
        ):
            self.sign_in()


def code_of(response: Response) -> str | None:
    """The code of a problem; None for any other answer."""
    kind = (response.headers.get("content-type") or [""])[0]
    return str(response.json()["code"]) if kind == "application/problem+json" else None


def made(api: Service, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What an administrator is answered who makes something."""
    answer = api.ask("POST", path, Role.ADMIN, json=body)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def sign_in(api: Service, account: Account) -> str:
    """The access token of a new session."""
    return str(api.login(account)["access_token"])


def some_user(api: Service, **more: Any) -> dict[str, Any]:
    """A new account that nobody signs in with."""
    return made(api, "/api/v1/users", {"email": f"made-{uuid4().hex[:12]}@example.com", "role": "analyst", **more})


def _user(asker: Asker, case: Request) -> None:
    user = some_user(asker.api)
    case.path_parameters["user_id"] = user["id"]
    if isinstance(case.body, dict):
        case.body["version"] = user["version"]


def _disabled_user(asker: Asker, case: Request) -> None:
    user = some_user(asker.api)
    disabled = made(asker.api, f"/api/v1/users/{user['id']}/disable", {"version": user["version"]})
    case.path_parameters["user_id"], case.body = user["id"], {"version": disabled["version"]}


def _user_with_second_factor(asker: Asker, case: Request) -> None:
    account = asker.api.add_account(Role.ANALYST)
    _confirm_second_factor(asker.api, sign_in(asker.api, account))
    case.path_parameters["user_id"] = str(account.public_id)


def _login(asker: Asker, case: Request) -> None:
    email = asker.api.accounts[Role.MARKETER].email
    case.media_type, case.body = "application/json", {"email": email, "password": PASSWORD}


def _refresh(asker: Asker, case: Request) -> None:
    case.body = {"refresh_token": asker.api.login(asker.api.accounts[Role.MARKETER])["refresh_token"]}


def _accept(asker: Asker, case: Request) -> None:
    invited = made(asker.api, f"/api/v1/users/{some_user(asker.api)['id']}/invitations")
    case.body = {"token": invited["token"], "password": OTHER_PASSWORD}


def _as_somebody_new(asker: Asker, case: Request) -> str | None:
    """Ask with an account that nothing else is asked with: what the request changes cannot hinder the next one."""
    if asker.role in (None, Role.SERVICE):
        return None
    token = sign_in(asker.api, asker.api.add_account(asker.role))
    case.headers["Authorization"] = f"Bearer {token}"
    return token


def _password(asker: Asker, case: Request) -> None:
    if _as_somebody_new(asker, case):
        case.body = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}


def _confirm(asker: Asker, case: Request) -> None:
    if token := _as_somebody_new(asker, case):
        case.body = {"code": _set_up(asker.api, token)}


def _disable(asker: Asker, case: Request) -> None:
    if token := _as_somebody_new(asker, case):
        case.body = {"password": PASSWORD, "code": _confirm_second_factor(asker.api, token)}


def _set_up(api: Service, token: str) -> str:
    """Begin a second factor; the code that confirms it."""
    path = "/api/v1/auth/second-factor/setup"
    secret = api.ask("POST", path, headers={"Authorization": f"Bearer {token}"}).json()["secret"]
    return code_at(base64.b32decode(secret), int(clock.utc_now().timestamp()) // STEP_S)


def _confirm_second_factor(api: Service, token: str) -> str:
    """Switch a second factor on; a recovery code."""
    path, body = "/api/v1/auth/second-factor/confirm", {"code": _set_up(api, token)}
    return str(
        api.ask("POST", path, headers={"Authorization": f"Bearer {token}"}, json=body).json()["recovery_codes"][0]
    )


def _new_email(asker: Asker, case: Request) -> None:
    if isinstance(case.body, dict):
        case.body = {**case.body, "email": f"new-{uuid4().hex[:12]}@example.com"}
        if case.body.get("password") is not None:
            case.body["password"] = OTHER_PASSWORD


def _new_key(asker: Asker, case: Request) -> None:
    case.body = {"name": "made up", "scopes": ["contacts:read"], "days": 1}


def _key(asker: Asker, case: Request) -> None:
    body = {"name": "to be revoked", "scopes": ["contacts:read"], "days": 1}
    headers = {"Authorization": f"Bearer {asker.token}"}
    if asker.role not in (None, Role.SERVICE) and asker.token is not None:
        answer = asker.api.ask("POST", "/api/v1/api-keys", headers=headers, json=body)
        assert answer.status_code == 201, answer.text
        case.path_parameters["key_id"] = answer.json()["api_key"]["id"]


def _without_cursor(asker: Asker, case: Request) -> None:
    case.query.pop("cursor", None)


def _key_list(asker: Asker, case: Request) -> None:
    _without_cursor(asker, case)
    case.query.pop("of_all", None)


def _audit(asker: Asker, case: Request) -> None:
    case.query = {name: value for name, value in case.query.items() if name == "limit"} | {"action": "user.create"}


def _contact(asker: Asker, case: Request) -> None:
    case.path_parameters["contact_id"] = 7


def _run(asker: Asker, case: Request) -> None:
    case.path_parameters["run_id"] = asker.run_id


REAL: Mapping[str, Callable[[Asker, Request], None]] = {
    "auth_login": _login,
    "auth_refresh": _refresh,
    "auth_invitation_accept": _accept,
    "auth_password_change": _password,
    "second_factor_confirm": _confirm,
    "second_factor_disable": _disable,
    "users_list": _without_cursor,
    "user_create": _new_email,
    "user_invite": _new_email,
    "user_get": _user,
    "user_invite_again": _user,
    "user_role_change": _user,
    "user_disable": _user,
    "user_enable": _disabled_user,
    "user_second_factor_reset": _user_with_second_factor,
    "api_keys_list": _key_list,
    "api_key_create": _new_key,
    "api_key_revoke": _key,
    "contacts_list": _without_cursor,
    "contact_get": _contact,
    "migrations_list": _without_cursor,
    "migration_get": _run,
    "migration_report": _run,
    "audit_events_list": _audit,
}
"""By operation: what turns a made-up request into one about something that exists."""
