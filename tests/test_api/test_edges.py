"""What every answer carries and every request must respect: ids, headers, limits, sizes, times, origins, proxies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.docs_page import DOCS_HTML
from app.core.config import Settings
from app.core.request_facts import request_id
from app.models.user import Role
from tests.test_api.support import PROXY, Service, address, application, settings_for

LOGIN = "/api/v1/auth/login"
ME = "/api/v1/auth/me"
CONTACTS = "/api/v1/contacts"
Make = Callable[..., Any]


@pytest.fixture
def make(settings: Settings, module_database_url: str, valkey_url: str) -> Make:
    """An application with settings of one's own, over the module's database."""

    @contextmanager
    def made(**groups: dict[str, Any]) -> Iterator[TestClient]:
        with application(settings_for(settings, module_database_url, valkey_url, **groups)) as client:
            yield client

    return made


# Request ids, headers


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "0" * 64])
def test_request_id_of_the_caller_is_kept(api: Service, given: str) -> None:
    assert api.ask("GET", "/health", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", [None, "", "0" * 65, "a b", "a;b", "a\n", "a\r\nSet-Cookie: x=1", "ñ", "../x", "<script>"]
)
def test_request_id_that_might_do_harm_is_replaced(given: str | None) -> None:
    made = request_id(given)
    assert made != given
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_request_id_is_in_the_log_and_in_the_audit_log(api: Service, capsys: pytest.CaptureFixture[str]) -> None:
    api.ask("GET", CONTACTS, Role.ADMIN, headers={"X-Request-ID": "find-me-again"})
    assert "find-me-again" in capsys.readouterr().err
    events = api.ask("GET", "/api/v1/audit?action=contacts.list&limit=200", Role.ADMIN).json()["items"]
    assert "find-me-again" in {event["request_id"] for event in events}


@pytest.mark.parametrize("path", ["/health", "/nowhere", CONTACTS, "/docs", "/openapi.json"])
def test_every_answer_tells_browsers_what_not_to_do(api: Service, path: str) -> None:
    headers = api.ask("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "strict-transport-security" not in headers


def test_transport_stays_secure_where_it_was(api: Service) -> None:
    assert "strict-transport-security" in api.ask("GET", "/health", headers={"X-Forwarded-Proto": "https"}).headers


def test_scripts_are_allowed_on_the_docs_page_only(api: Service) -> None:
    assert "script-src" not in api.ask("GET", "/health").headers["content-security-policy"]
    policy = api.ask("GET", "/docs").headers["content-security-policy"]
    allowed = re.search(r"script-src ([^;]+)", policy)
    assert allowed
    assert "'unsafe-inline'" not in allowed[1]
    assert DOCS_HTML.count("<script>") == allowed[1].count("'sha256-")
    assert "/openapi.json" in DOCS_HTML


def test_the_docs_page_loads_nothing_from_elsewhere(api: Service) -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', DOCS_HTML)
    assert {path for path in loaded if path != "data:,"} == {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"}
    kinds = [api.ask("GET", path).headers["content-type"] for path in sorted(loaded) if path != "data:,"]
    assert kinds == ["text/javascript; charset=utf-8", "text/css; charset=utf-8"]


def test_keys_may_be_kept_by_whoever_checks_tokens(api: Service) -> None:
    assert api.ask("GET", "/.well-known/jwks.json").headers["cache-control"] == "public, max-age=300"


# Logs


def test_log_of_a_request_has_the_template_and_nothing_personal(
    api: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    who = address()
    api.ask(
        "GET",
        f"{CONTACTS}/5512345678?lada=55",
        Role.ANALYST,
        headers={"X-Forwarded-For": who, "User-Agent": "secret-agent"},
    )
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["route"] == f"{CONTACTS}/{{contact_id}}"
    assert (line["method"], line["status"], line["client"]) == ("GET", 404, who)
    assert line["user"] == str(api.accounts[Role.ANALYST].public_id)
    assert line["bytes"] > 0
    assert line["ms"] > 0
    assert "5512345678" not in json.dumps(line)
    assert "secret-agent" not in json.dumps(line)


def test_log_of_a_sign_in_has_no_email_and_no_password(api: Service, capsys: pytest.CaptureFixture[str]) -> None:
    api.ask("POST", LOGIN, json={"email": "nobody@example.com", "password": "not-the-password"})
    logged = capsys.readouterr().err
    assert "nobody@example.com" not in logged
    assert "not-the-password" not in logged


# Limits


def test_limit_of_a_person_is_told_and_kept(make: Make, api: Service) -> None:
    headers = {"Authorization": f"Bearer {api.login(api.add_account(Role.ANALYST))['access_token']}"}
    with make(limits={"per_user": "3/hour"}) as client:
        answers = [client.get(ME, headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    assert answers[-1].headers["ratelimit-reset"] == answers[-1].headers["retry-after"]
    assert answers[-1].json()["code"] == "rate_limited"


def test_limit_of_a_person_is_not_that_of_another_nor_of_the_address(make: Make, api: Service) -> None:
    tokens = [api.login(api.add_account(Role.ANALYST))["access_token"] for _ in range(2)]
    with make(limits={"per_user": "1/hour"}) as client:
        for token in tokens:
            assert client.get(ME, headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Bearer sms_x"}])
def test_limit_of_an_address_holds_for_whoever_is_not_known(make: Make, headers: dict[str, str]) -> None:
    headers = headers | {"X-Forwarded-For": address()}
    with make(limits={"per_address": "2/hour"}) as client:
        statuses = [client.get(CONTACTS, headers=headers).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert client.get("/api/v1/auth/keys", headers=headers).status_code == 429
        assert client.get("/health", headers=headers).status_code == 200
        assert client.get("/api/v1/auth/keys", headers={"X-Forwarded-For": address()}).status_code == 200


def test_limits_hold_without_valkey(settings: Settings, module_database_url: str) -> None:
    here = {"X-Forwarded-For": address()}
    with application(settings_for(settings, module_database_url, None, limits={"per_address": "2/hour"})) as client:
        statuses = [client.get("/api/v1/auth/keys", headers=here).status_code for _ in range(3)]
        metrics = client.app.state.limiter  # type: ignore[attr-defined]
    assert statuses == [200, 200, 429]
    assert metrics is not None


# Bodies


def test_body_that_declares_too_much_is_refused_unread(make: Make) -> None:
    with make(api={"max_body_bytes": 1024}) as client:
        answer = client.post(LOGIN, content=b"x" * 1025, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert (
            client.post(LOGIN, content=b"{" + b" " * 1023, headers={"Content-Type": "application/json"}).status_code
            == 400
        )


def test_body_that_comes_in_pieces_is_cut_off_where_it_is_too_large(make: Make) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 100

    with make(api={"max_body_bytes": 1024}) as client:
        answer = client.post(LOGIN, content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


# Other origins


def test_pages_of_others_may_not_call_unless_they_are_listed(make: Make) -> None:
    asked = {"Origin": "https://console.example.com", "Access-Control-Request-Method": "GET",
             "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    with make() as client:
        assert "access-control-allow-origin" not in client.options(CONTACTS, headers=asked).headers
    with make(api={"cors_origins": ["https://console.example.com"]}) as client:
        allowed = client.options(CONTACTS, headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://console.example.com"
        assert "access-control-allow-credentials" not in allowed.headers
        assert allowed.headers["x-content-type-options"] == "nosniff"
        refused = client.options(CONTACTS, headers=asked | {"Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in refused.headers
        answer = client.get("/nowhere", headers={"Origin": "https://console.example.com"})
        assert answer.headers["access-control-allow-origin"] == "https://console.example.com"
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


# Proxies


@pytest.mark.parametrize(
    ("trusted", "forwarded", "seen"),
    [
        ([PROXY], "203.0.113.7", "203.0.113.7"),
        ([f"{PROXY}/32"], "203.0.113.7", "203.0.113.7"),
        (["10.0.0.0/8"], "198.51.100.1, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ([PROXY], "2001:db8::7", "2001:db8::7"),
        ([PROXY], "203.0.113.7:4711", "203.0.113.7"),
        (["192.0.2.1"], "203.0.113.7", PROXY),
        ([], "203.0.113.7", PROXY),
        ([PROXY], "<script>", PROXY),
        ([PROXY], "unknown", PROXY),
        ([PROXY], "", PROXY),
        ([PROXY], "5512345678", PROXY),
    ],
)
def test_address_is_what_a_trusted_proxy_says_and_else_the_peer(
    make: Make, trusted: list[str], forwarded: str, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with make(api={"trusted_proxies": trusted}) as client:
        client.get("/nowhere", headers={"X-Forwarded-For": forwarded})
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["client"] for line in lines if line["event"] == "request"] == [seen]
