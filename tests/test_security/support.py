"""What attacks have in common: somebody who is signed in, requests as no client would send them, and the database's owner."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio.to_thread
import httpx2
from sqlalchemy import event

from app.core import clock
from app.core.database import connect
from app.models.permission import Permission
from app.models.user import Role
from app.services.second_factor_service import STEP_S, code_at
from tests.test_api.support import PASSWORD, Account, Service, address

LOGIN, REFRESH, ME = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/me"
LOGOUT, LOGOUT_ALL = "/api/v1/auth/logout", "/api/v1/auth/logout-everywhere"
CHANGE, SESSIONS = "/api/v1/auth/password", "/api/v1/auth/sessions"
FACTOR = "/api/v1/auth/second-factor"
USERS, KEYS, INVITATIONS = "/api/v1/users", "/api/v1/api-keys", "/api/v1/invitations"
ACCEPT, CONTACTS, AUDIT = "/api/v1/auth/invitations/accept", "/api/v1/contacts", "/api/v1/audit"
OTHER_PASSWORD = "eleven-blue-herons-wade-home"
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
PROBLEM = "application/problem+json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of the database."""

    url: str

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def run(self, statement: str, *values: object) -> None:
        """Change something."""
        with connect(self.url) as connection:
            connection.execute(statement.encode(), values)

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    api: Service
    account: Account
    access: str
    refresh: str

    @property
    def id(self) -> str:
        """The id of the account."""
        return str(self.account.public_id)

    @property
    def version(self) -> int:
        """The version of the account now."""
        found: int = self.api.ask("GET", f"{USERS}/{self.id}", Role.ADMIN).json()["version"]
        return found

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """The answer to this person."""
        return bearing(self.api, self.access, method, path, **more)

    def is_in(self) -> bool:
        """Whether the access token still opens something; it does, or it is refused."""
        answer = self.ask("GET", ME)
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200


def bearing(api: Service, token: str, method: str, path: str, **more: Any) -> httpx2.Response:
    """The answer to whoever has this token or key."""
    headers = {"Authorization": f"Bearer {token}", **(more.pop("headers", None) or {})}
    return api.ask(method, path, headers=headers, **more)


def enter(api: Service, role: Role = Role.MARKETER, account: Account | None = None, **more: str) -> Person:
    """A new account of a role, signed in; or one more sign-in of an account."""
    account = account or api.add_account(role)
    tokens = api.login(account, **more)
    return Person(api, account, tokens["access_token"], tokens["refresh_token"])


def key_of(person: Person, *scopes: Permission, days: int = 1) -> tuple[str, str]:
    """A new API key of a person, and its id."""
    made = person.ask("POST", KEYS, json={"name": "of a test", "scopes": list(scopes), "days": days})
    assert made.status_code == 201, made.text
    return made.json()["key"], made.json()["api_key"]["id"]


def one_time(secret: str, ahead: int = 0) -> str:
    """The code of an authenticator, some steps of 30 seconds ahead."""
    return code_at(base64.b32decode(secret), int(clock.utc_now().timestamp()) // STEP_S + ahead)


def switch_on(person: Person) -> tuple[str, list[str]]:
    """Give a person a second factor: its secret and its recovery codes. The code of the step before is used up."""
    made = person.ask("POST", f"{FACTOR}/setup", json={"password": PASSWORD})
    assert made.status_code == 200, made.text
    secret: str = made.json()["secret"]
    confirmed = person.ask("POST", f"{FACTOR}/confirm", json={"code": one_time(secret, -1)})
    assert confirmed.status_code == 200, confirmed.text
    return secret, confirmed.json()["recovery_codes"]


def invite(api: Service, email: str, role: Role = Role.MARKETER) -> tuple[str, str]:
    """A new account by invitation: the token, and the account's id."""
    made = api.ask("POST", INVITATIONS, Role.ADMIN, json={"email": email, "role": role})
    assert made.status_code == 201, made.text
    return made.json()["token"], made.json()["user"]["id"]


def disable(api: Service, person: Person) -> None:
    """Shut an account."""
    answer = api.ask("POST", f"{USERS}/{person.id}/disable", Role.ADMIN, json={"version": person.version})
    assert answer.status_code == 200, answer.text


def demote(api: Service, person: Person, role: Role) -> None:
    """Give an account another role."""
    answer = api.ask("PATCH", f"{USERS}/{person.id}/role", Role.ADMIN, json={"role": role, "version": person.version})
    assert answer.status_code == 200, answer.text


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The document of an answer that must be this problem."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    return document


def at_once(*acts: Callable[[], T]) -> list[T]:
    """What all of them give when they are done at the same time."""
    with ThreadPoolExecutor(len(acts)) as threads:
        return [it.result() for it in [threads.submit(act) for act in acts]]


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it leaves the application."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name."""
        return next((value for it, value in self.headers if it == name), None)

    @property
    def code(self) -> str:
        """The code of a problem document."""
        return str(json.loads(self.body)["code"])


def send_raw(
    api: Service, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]] = (),
    body: Sequence[bytes] = (b"",), meanwhile: Callable[[], object] | None = None,
) -> Raw:  # fmt: skip
    """The answer to a request as it stands, with no client to put it right.

    `meanwhile` is done before the last piece of the body arrives, when the request is under way.
    """
    path, _, query = target.partition(b"?")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "path": unquote(path.decode("ascii")), "raw_path": path, "root_path": "", "scheme": "http",
        "query_string": query, "server": ("testserver", 80), "client": (address(), 1), "headers": list(headers),
    }  # fmt: skip
    left, sent = list(body), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        if meanwhile is not None and not left:
            await anyio.to_thread.run_sync(meanwhile)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    portal = api.client.portal
    assert portal is not None
    application: Any = api.client.app
    portal.call(application, scope, receive, send)
    return Raw(sent[0]["status"], tuple(sent[0]["headers"]), b"".join(it.get("body", b"") for it in sent[1:]))


def under_way(person: Person, method: str, path: str, body: dict[str, Any], meanwhile: Callable[[], object]) -> Raw:
    """The answer to a request of a person in the middle of which something happens."""
    raw = json.dumps(body).encode()
    headers = [
        (b"authorization", f"Bearer {person.access}".encode()), (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(raw)),
    ]  # fmt: skip
    return send_raw(person.api, method, path.encode(), headers, (raw[:5], raw[5:]), meanwhile)


@contextmanager
def statements(api: Service) -> Iterator[list[str]]:
    """The texts of the statements that the application sends to its database meanwhile."""
    found: list[str] = []
    engine = api.client.app.state.db.engine.sync_engine  # type: ignore[attr-defined]

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        found.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


@contextmanager
def hashes(api: Service) -> Iterator[list[str]]:
    """The parameters of each password hash that is computed meanwhile."""
    found: list[str] = []
    argon2 = state_of(api).auth._hasher._argon2
    verify, make = argon2.verify, argon2.hash

    def noted_verify(password: bytes, hashed: str) -> bool:
        found.append(hashed.rpartition("$")[0].rpartition("$")[0])
        return bool(verify(password, hashed))

    def noted_hash(password: bytes) -> str:
        made = str(make(password))
        found.append(made.rpartition("$")[0].rpartition("$")[0])
        return made

    argon2.verify, argon2.hash = noted_verify, noted_hash
    yield found
    argon2.verify, argon2.hash = verify, make


def state_of(api: Service) -> Any:
    """What requests of the application share."""
    return api.client.app.state  # type: ignore[attr-defined]
