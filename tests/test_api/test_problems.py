"""Every refusal and every fault is a problem document with a stable code, and says nothing that it should not."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from starlette.testclient import TestClient

from app.api import errors, middleware
from app.api.problems import MEDIA_TYPE, TITLES, Refusal
from app.api.routes import Routes
from app.api.strict_json import parse
from app.core import errors as app_errors
from app.core.config import Settings
from app.core.errors import AppError, TooMany
from app.models.user import Role
from tests.test_api.support import Service

MEMBERS = {"type", "title", "status", "detail", "code", "instance", "request_id"}
SECRET = "hunter2-5512345678"
LOGIN = "/api/v1/auth/login"


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The document of an answer that must be this problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    document: dict[str, Any] = answer.json()
    assert MEMBERS <= document.keys() <= MEMBERS | {"errors"}
    assert (document["status"], document["code"], document["type"]) == (status, code, "about:blank")
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


class Body(BaseModel):
    """A body of the routes below."""

    number: int
    secret: SecretStr = SecretStr("")


ERRORS: dict[str, AppError] = {
    name: kind(f"About {name}.", code=f"code_{name.lower()}")
    for name, kind in vars(app_errors).items()
    if isinstance(kind, type) and issubclass(kind, AppError) and kind not in (AppError, TooMany)
} | {
    "TooMany": TooMany("Wait.", code="code_toomany", retry_after_s=17),
    "AppError": AppError("Odd.", code="code_apperror"),
}
STATUSES = {
    "InvalidInput": 422, "NotFound": 404, "Conflict": 409, "Unauthenticated": 401, "Forbidden": 403, "TooMany": 429,
    "Unavailable": 503, "Broken": 500, "AppError": 500,
}  # fmt: skip


@pytest.fixture(scope="module")
def failing() -> TestClient:
    """An application that fails as it is told, with our handlers and middleware."""
    routes = Routes("", "test")

    @routes.add("GET", "/health", None, "Fail", None)
    async def fail(name: str) -> None:
        raise ERRORS[name]

    @routes.add("GET", "/health/ready", None, "Break", None)
    async def break_down() -> None:
        raise RuntimeError(f"cannot reach postgresql://u:p@host with {SECRET}")

    @routes.add("POST", "/metrics", None, "Take", None)
    async def take(given: Body) -> dict[str, int]:
        return {"number": given.number}

    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.router.routes.extend(routes.all)
    errors.install(app)
    middleware.install(app, Settings(_env_file=None))
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("name", sorted(STATUSES))
def test_each_class_of_errors_has_its_status_and_keeps_its_code(failing: TestClient, name: str) -> None:
    document = problem(failing.get("/health", params={"name": name}), STATUSES[name], f"code_{name.lower()}")
    assert document["title"] == TITLES[STATUSES[name]]
    assert (str(ERRORS[name]) == document["detail"]) is (STATUSES[name] < 500)


def test_no_class_of_errors_is_forgotten() -> None:
    assert set(STATUSES) == set(ERRORS)
    assert {kind.__name__ for kind in errors.STATUS} == set(STATUSES) - {"AppError"}


def test_waiting_is_told_in_seconds(failing: TestClient) -> None:
    assert failing.get("/health", params={"name": "TooMany"}).headers["retry-after"] == "17"
    assert failing.get("/health", params={"name": "Unavailable"}).headers["retry-after"] == "5"


def test_unauthenticated_says_how_to_come(failing: TestClient) -> None:
    answer = failing.get("/health", params={"name": "Unauthenticated"})
    assert answer.headers["www-authenticate"].startswith('Bearer realm="sms-platform", error="invalid_token"')


def test_unexpected_error_is_a_problem_without_its_text_and_is_logged_without_values(
    failing: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = failing.get("/health/ready")
    document = problem(answer, 500, "internal_error")
    assert SECRET not in answer.text
    assert "RuntimeError" not in answer.text
    logged = capsys.readouterr().err
    assert document["request_id"] in logged
    assert "RuntimeError" in logged
    assert "5512345678" not in logged


def test_refused_value_is_named_and_never_echoed(failing: TestClient) -> None:
    answer = failing.post("/metrics", json={"number": SECRET, "secret": 5512345678})
    document = problem(answer, 422, "invalid_input")
    assert {it["field"] for it in document["errors"]} == {"body.number", "body.secret"}
    assert all(set(it) == {"field", "message", "type"} for it in document["errors"])
    assert "hunter2" not in answer.text
    assert "5512345678" not in answer.text


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "json_invalid"),
        (b"", 422, "invalid_input"),
        (b'{"number": 1} x', 400, "json_invalid"),
        (b'{"number": 1, "number": 2}', 400, "json_duplicate_key"),
        (b'{"a": {"b": 1, "b": 1}, "number": 1}', 400, "json_duplicate_key"),
        (b'{"number": NaN}', 400, "json_constant"),
        (b'{"number": Infinity}', 400, "json_constant"),
        (b'{"number": -Infinity}', 400, "json_constant"),
        (b'{"number": "\xff"}', 400, "json_encoding"),
        ('{"number": 1}'.encode("utf-16"), 400, "json_encoding"),
        (b'\xef\xbb\xbf{"number": 1}', 400, "json_invalid"),
        (b'{"number": "\\u0000"}', 422, "text_not_storable"),
        (b'{"number": 1, "\\u0000": 1}', 422, "text_not_storable"),
        (b'{"number": ["\\ud800"]}', 422, "text_not_storable"),
        (b'{"number": "\x00"}', 400, "json_invalid"),
        (b'{"number": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "json_depth"),
        (b'{"number": ' + b"1" * 5000 + b"}", 400, "json_invalid"),
        (b'{"number": 1e999}', 422, "invalid_input"),
        (b"[]", 422, "invalid_input"),
        (b'{"number": 1.5}', 422, "invalid_input"),
    ],
)
def test_body_that_means_no_one_thing_is_refused(failing: TestClient, raw: bytes, status: int, code: str) -> None:
    problem(failing.post("/metrics", content=raw, headers={"Content-Type": "application/json"}), status, code)


def test_escapes_that_can_be_stored_are_let_through(failing: TestClient) -> None:
    body = b'{"number": 1, "secret": "\\ud83d\\ude00 \\u00f1"}'
    answer = failing.post("/metrics", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.json() == {"number": 1}


@pytest.mark.parametrize("kind", ["text/plain", "", "application/xml", "multipart/form-data; boundary=x"])
def test_other_kinds_of_bodies_are_refused(failing: TestClient, kind: str) -> None:
    problem(failing.post("/metrics", content=b'{"number": 1}', headers={"Content-Type": kind}), 415, "media_type")


@given(st.recursive(SCALARS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_what_is_plain_json_is_read_as_it_is(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(Refusal):
        parse(raw)


@pytest.mark.parametrize(
    "path", ["/", "/api/v1", "/api/v1/contacts/", "/api/v2/contacts", "/docs/", "/../etc/passwd", "/%2e%2e/x"]
)
def test_paths_that_are_none_are_not_found(api: Service, path: str) -> None:
    problem(api.ask("GET", path, Role.ADMIN), 404, "not_found")


def test_wrong_method_names_the_right_ones(api: Service) -> None:
    answer = api.ask("PUT", "/api/v1/users", Role.ADMIN)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "number", ["9223372036854775808", "99999999999999999999999", "0", "-1", "1.5", "x", "1" * 5000, "１"]
)
def test_ids_that_cannot_be_are_refused_or_not_found(api: Service, number: str) -> None:
    for path in (f"/api/v1/contacts/{number}", f"/api/v1/migrations/{number}"):
        assert api.ask("GET", path, Role.ADMIN).status_code in (404, 422)


def test_nul_characters_are_refused_wherever_they_stand(api: Service) -> None:
    problem(api.ask("GET", "/api/v1/contacts/1%00", Role.ADMIN), 422, "nul_character")
    problem(api.ask("GET", "/api/v1/contacts?lada=%00", Role.ADMIN), 422, "nul_character")
    body = '{"email": "a@b.mx", "password": "\\u0000"}'
    problem(
        api.ask("POST", LOGIN, content=body, headers={"Content-Type": "application/json"}), 422, "text_not_storable"
    )


def test_instance_does_not_repeat_a_number(api: Service) -> None:
    document = problem(api.ask("GET", "/contacts/5512345678"), 404, "not_found")
    assert document["instance"] == "/contacts/********78"


@pytest.mark.parametrize(
    ("kind", "raw", "status", "code"),
    [
        ("application/x-www-form-urlencoded", b"username=a@b.mx&username=c@d.mx&password=x", 400, "form_duplicate_field"),
        ("application/x-www-form-urlencoded", b"username=%ff&password=x", 400, "form_invalid"),
        ("application/x-www-form-urlencoded", "usernamé".encode(), 400, "form_invalid"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(50)), 400, "form_invalid"),
        ("application/x-www-form-urlencoded", b"username=a@b.mx&password=%00", 422, "text_not_storable"),
        ("application/x-www-form-urlencoded", b"grant_type=implicit&username=a@b.mx&password=x", 422, "invalid_input"),
        ("application/x-www-form-urlencoded", b"", 422, "invalid_input"),
        ("application/json", b'{"email": "a@b.mx", "password": "x", "role": "admin"}', 422, "invalid_input"),
        ("application/json", b'{"email": "a@b.mx", "email": "a@b.mx", "password": "x"}', 400, "json_duplicate_key"),
        ("text/plain", b"x", 415, "media_type"),
    ],
)  # fmt: skip
def test_sign_in_that_cannot_be_read_is_refused(api: Service, kind: str, raw: bytes, status: int, code: str) -> None:
    problem(api.ask("POST", LOGIN, content=raw, headers={"Content-Type": kind}), status, code)


def test_cursor_that_was_changed_or_is_another_listings_is_refused(api: Service) -> None:
    cursor = api.ask("GET", "/api/v1/contacts?limit=1", Role.ADMIN).json()["next"]
    flipped = cursor[:-1] + ("A" if cursor[-1] != "A" else "Q")
    for text in (cursor[1:], flipped, "x", "é", "=" * 8, "A" * 300):
        problem(api.ask("GET", "/api/v1/contacts", Role.ADMIN, params={"cursor": text}), 422, "cursor_invalid")
    problem(api.ask("GET", "/api/v1/migrations", Role.ADMIN, params={"cursor": cursor}), 422, "cursor_invalid")


def test_client_that_goes_away_in_mid_body_leaves_nothing_behind(api: Service) -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": LOGIN,
        "raw_path": LOGIN.encode(), "root_path": "", "scheme": "http", "query_string": b"", "server": ("t", 80),
        "client": ("192.0.2.1", 1),
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }  # fmt: skip
    portal, app = api.client.portal, api.client.app
    assert portal is not None
    portal.call(app, scope, receive, send)
    assert sent[0]["status"] == 400
