"""The edge: other origins, frames, caches, redirects, hosts, paths and methods that are meant to mislead."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest
from fastapi.routing import APIRoute

from app.api.routes import key_of as name_of
from app.api.v1.api import ROUTES
from app.core.deps import permission_of
from app.models.permission import ROLE_PERMISSIONS, Permission
from app.models.user import Role
from tests.test_api.support import Service
from tests.test_security.conftest import Make
from tests.test_security.support import (
    CONTACTS,
    KEYS,
    LOGIN,
    ME,
    NOBODY,
    USERS,
    Person,
    bearing,
    enter,
    key_of,
    send_raw,
)

OURS = "https://console.example.com"
OTHERS = (
    "https://evil.example", "null", "https://console.example.com.evil.example", "https://evil-console.example.com",
    "http://console.example.com", "https://console.example.com:8443", "https://CONSOLE.example.com.", "*", "",
    "https://console.example.com@evil.example", "https://consoleXexample.com", "https://console.example.com/", "file://",
    "chrome-extension://abc", "https://console.example.com, https://evil.example",
)  # fmt: skip
GETS = [route for route in ROUTES if "GET" in (route.methods or ())]


def path_of(route: APIRoute) -> str:
    """The path of a route, about something that is there if it can be."""
    return re.sub(r"\{(contact_id|run_id)\}", "1", re.sub(r"\{(user_id|key_id)\}", NOBODY, route.path))


# Other origins


@pytest.mark.parametrize("origin", OTHERS)
def test_origin_that_is_not_listed_gets_no_leave(api: Service, make: Make, origin: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    with make(api={"cors_origins": [OURS]}) as listed:
        for service in (api, listed):
            for method, path in (("OPTIONS", LOGIN), ("GET", "/health"), ("GET", "/nowhere"), ("GET", ME)):
                headers = service.ask(method, path, headers=asked).headers
                assert "access-control-allow-origin" not in headers
                assert "access-control-allow-credentials" not in headers


def test_origin_that_is_listed_gets_no_credentials_of_a_browser(make: Make) -> None:
    """Tokens are in a header that a page has to know: a cookie would be sent along without it."""
    with make(api={"cors_origins": [OURS]}) as api:
        asked = {
            "Origin": OURS,
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "authorization",
        }
        headers = api.ask("OPTIONS", KEYS, headers=asked).headers
        assert headers["access-control-allow-origin"] == OURS
        assert "access-control-allow-credentials" not in headers
        for more in ({"Access-Control-Request-Headers": "x-evil"}, {"Access-Control-Request-Method": "PUT"}):
            assert api.ask("OPTIONS", KEYS, headers=asked | more).status_code == 400
        assert "origin" in api.ask("GET", "/health", headers={"Origin": OURS}).headers["vary"].lower()


def test_no_cookie_is_ever_set_and_none_is_read(api: Service) -> None:
    person = enter(api)
    answers = [person.ask("GET", path_of(route)) for route in GETS]
    answers.append(api.ask("POST", LOGIN, json={"email": person.account.email, "password": person.account.password}))
    assert [it for it in answers if "set-cookie" in it.headers] == []
    cookies = "; ".join(f"{name}={person.access}" for name in ("token", "access_token", "session", "Authorization"))
    assert api.ask("GET", ME, headers={"Cookie": cookies}).status_code == 401


# Caches, frames


def answers_of_all_kinds(api: Service, person: Person) -> Iterator[httpx2.Response]:
    """Answers of every status, and of every route that is read."""
    yield from (person.ask("GET", path_of(route)) for route in GETS)
    yield api.ask("GET", ME)
    yield api.ask("GET", "/nowhere")
    yield api.ask("PUT", ME)
    yield api.ask("POST", LOGIN, content=b"x")
    yield api.ask("POST", LOGIN, json={})
    yield api.ask("POST", LOGIN, content=b"{", headers={"Content-Type": "application/json"})
    yield api.ask("POST", LOGIN, content=b"x" * 1_100_000)
    yield api.ask("POST", LOGIN, json={"email": person.account.email, "password": person.account.password})
    yield api.ask("GET", "/docs")
    yield api.ask("GET", "/openapi.json")


def test_no_answer_is_kept_by_a_cache_nor_shown_in_a_frame(api: Service) -> None:
    keys = {"/api/v1/auth/keys", "/.well-known/jwks.json"}
    for answer in answers_of_all_kinds(api, enter(api, Role.ADMIN)):
        headers, path = answer.headers, answer.request.url.path
        assert headers["cache-control"] == ("public, max-age=300" if path in keys else "no-store"), path
        assert headers["x-frame-options"] == "DENY", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "base-uri 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "'unsafe-eval'" not in headers["content-security-policy"]


# Redirects and hosts


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "//evil.example/%2e%2e", "/\\evil.example", "/%5cevil.example", "/docs/", "/docs//evil.example",
     "/api/v1/users/", "/api/v1/auth/login/", "/?next=https://evil.example", "/docs?url=https://evil.example/openapi.json",
     "/docs?configUrl=//evil.example", "/health?redirect_uri=//evil.example", "/.//evil.example", "/%2f%2fevil.example"],
)  # fmt: skip
def test_nothing_redirects(api: Service, path: str) -> None:
    for method in ("GET", "POST"):
        answer = send_raw(api, method, path.encode(), [(b"host", b"evil.example")])
        assert not 300 <= answer.status < 400
        assert answer.header(b"location") is None
        assert answer.header(b"refresh") is None
        assert b"https://evil.example" not in answer.body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80@x", "", "a b", "127.0.0.1\t", "x" * 5000, "[::1]"])
def test_host_of_a_request_is_nowhere_in_an_answer(api: Service, host: str) -> None:
    names = (b"host", b"x-forwarded-host", b"x-host", b"x-forwarded-server", b"forwarded", b"x-original-url", b"x-rewrite-url",
             b"x-forwarded-prefix", b"x-script-name")  # fmt: skip
    raw = host.encode()
    for path in (b"/health", b"/openapi.json", b"/docs", b"/nowhere", b"/.well-known/jwks.json", CONTACTS.encode()):
        answer = send_raw(api, "GET", path, [(name, raw) for name in names])
        usual = send_raw(api, "GET", path, [(b"host", b"testserver")])
        assert answer.status == usual.status
        shown = answer.body + b"".join(name + value for name, value in answer.headers)
        assert b"evil.example" not in shown


def test_address_in_another_header_opens_no_other_route(api: Service) -> None:
    for name in (b"x-original-url", b"x-rewrite-url", b"x-forwarded-uri", b"x-http-path-override"):
        answer = send_raw(api, "GET", b"/health", [(name, USERS.encode())])
        assert answer.body.startswith(b'{"status":"ok"')


# Paths and methods


@pytest.mark.parametrize(
    "path",
    ["/health/../api/v1/users", "/health/%2e%2e/api/v1/users", "/api/v1/auth/keys/../../users",
     "/api/v1/auth/keys%2f..%2f..%2fusers",
     "//api/v1/users", "/api//v1/users", "/api/v1/users/", "/api/v1/users%2f", "/api/v1/users;a=b", "/api/v1/users%3b",
     "/api/v1/users%20", "/api/v1/users%09", "/API/V1/USERS", "/api/v1/./users", "/api/v1/%75sers", "/api/v1/users.json",
     "/api/v1/users%23", "/api/v1/users%3f", "/api%5cv1%5cusers", "/.%2e/.%2e/etc/passwd", "/..%c0%af..%c0%afetc/passwd",
     "/docs/../../etc/passwd", "/docs/..%2f..%2fapp%2fmain.py", "/static/../app/main.py", "/.env", "/.git/config",
     "/app/main.py",
     "/api/v1/users/%2e%2e%2f%2e%2e%2fhealth", "/api/v1/contacts/1%2f..%2f..%2fusers", "/api/v1/contacts/1/../2"],
)  # fmt: skip
def test_path_in_disguise_opens_nothing(api: Service, path: str) -> None:
    """As nobody: what is guarded stays so, and no file is served."""
    answer = send_raw(api, "GET", path.encode())
    assert answer.status in (401, 404, 405, 422), path
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


@pytest.mark.parametrize("role", [Role.MARKETER, Role.ADMIN])
def test_path_in_disguise_gives_a_role_no_more(api: Service, role: Role) -> None:
    person = enter(api, role)
    headers = [(b"authorization", f"Bearer {person.access}".encode())]
    disguised = (
        b"/api/v1/users/%2e%2e%2fcontacts", b"/api/v1/users/..", b"/api/v1/users/" + NOBODY.encode() + b"%2frole",
        b"/api/v1/contacts/1%2f..%2f2", b"/api/v1/contacts/%31%00", b"/api/v1/migrations/1%2freport%2f..",
    )  # fmt: skip
    for path in disguised:
        assert send_raw(api, "GET", path, headers).status in (403, 404, 405, 422), path


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "POST"])
def test_method_is_that_of_the_request(api: Service, name: str, method: str) -> None:
    person = enter(api)
    _, key_id = key_of(person, Permission.CONTACTS_READ)
    path = f"{KEYS}/{key_id}"
    for asked in ("GET", "POST"):
        answer = person.ask(asked, f"{path}?{name}={method}", headers={name: method})
        assert answer.status_code == 405
        assert answer.headers["allow"] == "DELETE"
    assert [it["revoked_at"] for it in person.ask("GET", KEYS).json()["items"]] == [None]


@pytest.mark.parametrize(
    "method", ["TRACE", "TRACK", "CONNECT", "PROPFIND", "DEBUG", "get", "GETS", "HEAD", "OPTIONS", "PUT"]
)
def test_other_methods_do_nothing(api: Service, method: str) -> None:
    person = enter(api, Role.ADMIN)
    headers = [(b"authorization", f"Bearer {person.access}".encode()), (b"x-secret", b"zq-echo-zq")]
    for path in (USERS, ME, CONTACTS, LOGIN):
        answer = send_raw(api, method, path.encode(), headers)
        assert answer.status == 405
        assert b"zq-echo-zq" not in answer.body


@pytest.mark.parametrize("route", [it for it in ROUTES if permission_of(it) is not None], ids=name_of)
def test_two_tokens_in_one_request_do_not_add_up(api: Service, route: APIRoute) -> None:
    """The first counts, whatever the second may."""
    weak, strong = enter(api, Role.SERVICE), api.token(Role.ADMIN)
    needed = permission_of(route)
    assert needed is not None
    for first, second in ((weak.access, strong), ("nonsense", strong)):
        headers = [(b"authorization", f"Bearer {it}".encode()) for it in (first, second)]
        answer = send_raw(api, next(iter(route.methods or ())), path_of(route).encode(), headers)
        if first == "nonsense":
            assert answer.status == 401
        elif needed not in ROLE_PERMISSIONS[Role.SERVICE]:
            assert answer.status == 403


# What is open to everybody


@pytest.mark.parametrize("role", list(Role))
def test_metrics_are_for_the_monitor_only(api: Service, role: Role) -> None:
    assert api.ask("GET", "/metrics").status_code == 401
    answer = enter(api, role).ask("GET", "/metrics")
    assert answer.status_code == (200 if Permission.METRICS_READ in ROLE_PERMISSIONS[role] else 403)
    if answer.status_code == 200:
        assert not re.search(r"@example\.com|\+52\d|sms_[A-Za-z0-9_-]{43}|10\.\d+\.\d+\.\d+", answer.text)


def test_token_of_the_monitor_opens_metrics_and_nothing_else(make: Make) -> None:
    token = "4f9a1c7be02d58ab93ee01c7"
    with make(api={"metrics_token": token}) as api:
        assert bearing(api, token, "GET", "/metrics").status_code == 200
        for guess in (token[:-1], token + "0", token.upper(), "", "é"):
            headers = [(b"authorization", f"Bearer {guess}".encode())]
            assert send_raw(api, "GET", b"/metrics", headers).status == 401
        for path in (ME, USERS, CONTACTS, "/api/v1/audit"):
            assert bearing(api, token, "GET", path).status_code == 401


def test_health_names_no_machine_and_no_account(api: Service) -> None:
    for path in ("/health", "/health/ready"):
        assert not re.search(
            r"127\.0\.0\.1|localhost|postgres|redis|sms_api|sms_owner|:\d{4,5}", api.ask("GET", path).text
        )


def test_document_shows_no_secret_and_no_address_of_ours(api: Service) -> None:
    page, document = api.ask("GET", "/docs").text, api.ask("GET", "/openapi.json").text
    for shown in (page, document):
        assert not re.search(
            r"127\.0\.0\.1|localhost|postgresql://|redis://|@(?!example\.com)[a-z]+\.(com|org|mx)\b", shown
        )
    assert '"persistAuthorization": false' in page
    assert "/auth/login" in document
