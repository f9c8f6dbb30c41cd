"""Text that is meant for something behind us: SQL, patterns, cursors, headers, logs, terminals, documents."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from app.core.logs import configure_logs
from app.core.request_facts import request_id
from app.models.permission import Permission
from app.models.user import Role
from tests.test_api.support import PASSWORD, Service
from tests.test_security.support import (
    ACCEPT,
    AUDIT,
    CONTACTS,
    KEYS,
    LOGIN,
    ME,
    NOBODY,
    OTHER_PASSWORD,
    REFRESH,
    USERS,
    Owner,
    bearing,
    enter,
    key_of,
    problem,
    send_raw,
    statements,
)

MARK = "zq9xmark"
SQL = (
    f"' OR '1'='1' -- {MARK}", f"{MARK}'; DROP TABLE users; --", f'{MARK}" OR ""="', f"{MARK}') OR pg_sleep(30) IS NULL --",
    f"{MARK}' UNION SELECT password_hash FROM users --", f"$${MARK}$$", f"{MARK}\\'; SELECT 1; --", f"%{MARK}%", f"{MARK}_",
    f"%(id)s {MARK}", f"{{{MARK}}}", f":id{MARK}", f"{MARK}::int", f"E'\\x27{MARK}'", f"\u02bc{MARK}\u02bc OR 1=1",
    f"%s {MARK}", f"1 {MARK}) OR (1=1", f"/*{MARK}*/",
)  # fmt: skip
CONTROL = (
    "\r\nSet-Cookie: a=b",
    '\n{"event": "forged"}',
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\u2028",
    "\u202e",
    "\x7f\x08\x08",
)
TEXT = {"type": "string"}


def parameters(api: Service) -> Iterator[tuple[str, str, str, str]]:
    """(method, path, where, name) of every parameter of every operation."""
    for path, operations in api.ask("GET", "/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            for it in operation.get("parameters", ()):
                yield method.upper(), path, it["in"], it["name"]


def filled(path: str, **values: str) -> str:
    """A path with something for each of its parameters."""
    usual = {"contact_id": "1", "run_id": "1"}
    return re.sub(r"\{(\w+)\}", lambda it: values.get(it[1], usual.get(it[1], NOBODY)), path)


# SQL


@pytest.mark.parametrize("text", SQL)
def test_text_of_a_parameter_never_becomes_a_statement(api: Service, owner: Owner, text: str) -> None:
    """Every parameter that the document names; looked for in the statements themselves."""
    users = owner.count("users")
    asked = 0
    with statements(api) as sent:
        for method, path, where, name in parameters(api):
            if where == "query":
                answer = api.ask(method, filled(path), Role.ADMIN, params={name: text})
            else:
                answer = api.ask(method, filled(path, **{name: text.replace("/", "%2F")}), Role.ADMIN)
            asked += 1
            assert answer.status_code in (200, 403, 404, 405, 422), (path, name, answer.text)
            if answer.status_code == 200:
                assert answer.json()["items"] == [], (path, name)
            elif where == "query":
                assert MARK not in answer.text
    assert asked >= 20
    assert sent
    assert [it for it in sent if MARK in it] == []
    assert owner.count("users") == users


def texts_in_bodies(text: str) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """Bodies with `text` wherever a body takes one."""
    scopes = ["contacts:read"]
    return (
        ("POST", LOGIN, {"email": text, "password": text, "otp": text}),
        ("POST", LOGIN, {"email": "a@example.com", "password": text}),
        ("POST", REFRESH, {"refresh_token": text}),
        ("POST", ACCEPT, {"token": text, "password": OTHER_PASSWORD}),
        ("POST", USERS, {"email": f"a{uuid4().hex[:8]}@example.com", "role": "analyst", "full_name": text}),
        ("POST", USERS, {"email": text, "role": "analyst"}),
        ("POST", USERS, {"email": "b@example.com", "role": text}),
        ("POST", "/api/v1/invitations", {"email": f"c{uuid4().hex[:8]}@example.com", "role": "analyst", "full_name": text}),
        ("POST", KEYS, {"name": text, "scopes": scopes, "days": 1}),
        ("POST", KEYS, {"name": "x", "scopes": [text], "days": 1}),
        ("POST", KEYS, {"name": "x", "scopes": scopes, "days": 1, "owner_id": text}),
        ("PATCH", f"{USERS}/{NOBODY}/role", {"role": text, "version": 1}),
        ("POST", "/api/v1/auth/password", {"old_password": text, "new_password": text}),
        ("POST", "/api/v1/auth/second-factor/confirm", {"code": text}),
        ("POST", "/api/v1/auth/second-factor/disable", {"password": text, "code": text}),
    )  # fmt: skip


@pytest.mark.parametrize("text", [*SQL, *(MARK + it for it in CONTROL)])
def test_text_of_a_body_never_becomes_a_statement(api: Service, owner: Owner, text: str) -> None:
    person = enter(api, Role.ADMIN)
    with statements(api) as sent:
        for method, path, body in texts_in_bodies(text):
            answer = person.ask(method, path, json=body)
            assert answer.status_code < 500, (path, answer.text)
            assert answer.status_code == 201 or MARK not in answer.text, (path, answer.text)
    assert [it for it in sent if MARK in it] == []
    assert owner.rows("SELECT count(*) > 0 FROM users") == [(True,)]


def test_name_that_is_sql_is_kept_as_it_is(api: Service) -> None:
    name = "Robert'); DROP TABLE users; -- %s {0} :x"
    body = {"email": f"bobby-{uuid4().hex[:8]}@example.com", "role": "analyst", "full_name": name}
    made = api.ask("POST", USERS, Role.ADMIN, json=body).json()
    assert api.ask("GET", f"{USERS}/{made['id']}", Role.ADMIN).json()["full_name"] == name


@pytest.mark.parametrize(
    "text",
    ["%", "_", "session.%", "session_login", "session.logi_", ".*", "session.login' OR true --", "SESSION.LOGIN", "*"],
)
def test_filter_is_a_value_and_no_pattern(api: Service, text: str) -> None:
    enter(api)
    assert api.ask("GET", f"{AUDIT}?action=session.login", Role.ADMIN).json()["items"]
    for name in ("action", "object_type", "object_id"):
        assert api.ask("GET", AUDIT, Role.ADMIN, params={name: text}).json()["items"] == []


@pytest.mark.parametrize("text", ["%", "_MX", "CM_", "C%X", "cmx", "CMX\n", "CMX' --", "ＣＭＸ"])
def test_filter_of_contacts_is_a_value_and_no_pattern(api: Service, text: str) -> None:
    for name in ("state_code", "lada", "line_type", "is_valid"):
        problem(api.ask("GET", CONTACTS, Role.ADMIN, params={name: text}), 422, "invalid_input")


def test_cursor_cannot_be_made_up(api: Service) -> None:
    good = api.ask("GET", f"{CONTACTS}?limit=2", Role.ADMIN).json()["next"]
    raw = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))
    for body in (b"0 OR 1=1", b"-1", b"1; DROP TABLE users", b"99999999999999999999", b"", b"\xff", raw[16:] + b"0"):
        forged = base64.urlsafe_b64encode(raw[:16] + body).decode().rstrip("=")
        problem(api.ask("GET", CONTACTS, Role.ADMIN, params={"cursor": forged}), 422, "cursor_invalid")
    for text in ("1", "MQ", "0" * 399, "..", "%", good + "A", good.swapcase(), good[::-1], good + "\n"):
        problem(api.ask("GET", CONTACTS, Role.ADMIN, params={"cursor": text}), 422, "cursor_invalid")


# Headers and logs


@pytest.mark.parametrize(
    "text", [*CONTROL, "a" * 65, "ñ", "a b", "${jndi:ldap://evil}", "<script>", "../../x", "%0d%0a"]
)
def test_request_id_of_a_client_is_harmless_or_replaced(
    api: Service, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    answer = send_raw(api, "GET", b"/health", [(b"x-request-id", text.encode("utf-8"))])
    shown = answer.header(b"x-request-id")
    assert shown is not None
    assert re.fullmatch(rb"[0-9a-f]{32}", shown)
    assert text not in capsys.readouterr().err
    assert request_id(text) != text


def raw_headers(text: str, token: str) -> list[tuple[bytes, bytes]]:
    """A request with `text` in every header that is looked at."""
    raw = text.encode("utf-8")
    names = (b"user-agent", b"x-request-id", b"host", b"referer", b"origin", b"x-forwarded-for", b"x-forwarded-proto",
             b"accept-language", b"cookie", b"x-" + b"a" * 20)  # fmt: skip
    return [(b"authorization", b"Bearer " + token.encode()), *((name, raw) for name in names)]


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("text", CONTROL)
def test_nothing_that_a_client_writes_gets_into_the_log(
    api: Service, capsys: pytest.CaptureFixture[str], text: str, style: str
) -> None:
    """Not by headers, not by method or path, not by a body: so no line can be forged and no terminal be moved."""
    text = MARK + text
    person = enter(api)
    capsys.readouterr()
    configure_logs("DEBUG", style)
    for target in (
        ME.encode(),
        b"/nowhere",
        b"/" + MARK.encode() + b"%0d%0a%1b%5b31m",
        f"{CONTACTS}?lada={MARK}".encode(),
    ):
        send_raw(api, "GET", target, raw_headers(text, person.access))
    send_raw(api, MARK, b"/health")
    for method, path, body in texts_in_bodies(text):
        person.ask(method, path, json=body)
    logged = capsys.readouterr().err
    assert MARK not in logged
    assert "\x1b[31mred" not in logged
    if style == "json":
        assert all(isinstance(json.loads(line), dict) for line in logged.splitlines())
    assert len(logged.splitlines()) >= 15


@pytest.mark.parametrize("text", CONTROL)
def test_no_header_of_an_answer_has_what_a_client_wrote(api: Service, text: str) -> None:
    person = enter(api)
    for path in (ME.encode(), b"/nowhere%0d%0aX-Evil:%201", b"/health"):
        answer = send_raw(api, "GET", path, raw_headers(MARK + text, person.access))
        for name, value in answer.headers:
            assert not re.search(rb"[\r\n\x00-\x1f\x7f]", name + value), name
            assert MARK.encode() not in value
            assert name not in (b"set-cookie", b"x-evil")


@pytest.mark.parametrize("text", CONTROL)
def test_user_agent_is_kept_and_shown_as_text_only(api: Service, text: str) -> None:
    account = api.add_account(Role.ADMIN)
    raw = json.dumps({"email": account.email, "password": PASSWORD}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw)),
               (b"user-agent", b"x" * 400 + text.encode()), (b"user-agent", (MARK + text).encode())]  # fmt: skip
    answer = send_raw(api, "POST", LOGIN.encode(), headers, (raw,))
    token = json.loads(answer.body)["access_token"]
    for path in ("/api/v1/auth/sessions", AUDIT):
        shown = bearing(api, token, "GET", path)
        assert not re.search(r"[\x00-\x1f\x7f]", shown.text)
        assert shown.headers["content-type"] == "application/json"
        agents = [it["user_agent"] or "" for it in (shown.json() if path != AUDIT else shown.json()["items"])]
        assert max(map(len, agents)) <= 300


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "a\rb", "\u202eevil", "a\u2028b", "\x7f", "\ufeff", "a\tb"])
def test_names_have_nothing_that_cannot_be_seen(api: Service, text: str) -> None:
    email = f"name-{uuid4().hex[:8]}@example.com"
    for path, body in (
        (USERS, {"email": email, "role": "analyst", "full_name": f"Ana{text}Ruiz"}),
        (KEYS, {"name": f"key{text}key", "scopes": ["contacts:read"], "days": 1}),
    ):
        assert api.ask("POST", path, Role.ADMIN, json=body).status_code == 422


@pytest.mark.parametrize(
    "email",
    ["a@b", "a b@example.com", "a@example.com\r\nBcc: x@example.com", '"a"@example.com', "a@[127.0.0.1]", "<a@example.com>",
     "a@example..com", "a@-example.com", "ä@example.com", "a@exämple.com", "a@example.com,b@example.com", "a\x00@example.com",
     "a@example.com ", "a" * 65 + "@example.com", "a@" + "b" * 250 + ".com", "\u212aate@example.com", "a@example.com\u200b",
     "аdmin@example.com"],
)  # fmt: skip
def test_address_of_an_account_is_plain(api: Service, email: str) -> None:
    answer = api.ask("POST", USERS, Role.ADMIN, json={"email": email, "role": "analyst"})
    if answer.status_code == 201:
        assert answer.json()["email"] == email.strip()
    else:
        assert answer.status_code in (409, 422), answer.text


def test_two_spellings_are_one_account(api: Service) -> None:
    local = uuid4().hex[:10]
    body = {"email": f"{local}@example.com", "role": "analyst"}
    assert api.ask("POST", USERS, Role.ADMIN, json=body).status_code == 201
    for email in (f"{local.upper()}@EXAMPLE.com", f" {local}@example.com "):
        problem(api.ask("POST", USERS, Role.ADMIN, json=body | {"email": email}), 409, "user_exists")


def test_answers_are_no_page(api: Service) -> None:
    """What somebody wrote into a name is never served as something that a browser would run."""
    name = "<script>alert(1)</script>"
    person = enter(api, Role.ADMIN)
    key_of(person, Permission.CONTACTS_READ)
    made = person.ask("POST", KEYS, json={"name": name, "scopes": ["contacts:read"], "days": 1})
    for answer in (made, person.ask("GET", KEYS), person.ask("GET", f"{USERS}?limit={name}")):
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "text",
    ["%ff", "%ed%a0%80", "%c0%80", "%00", "%", "%zz", "%2500", "%f5%80%80%80", "%ef%bf%be", "%F0%9F%A6%A6", "a%0ab"],
)
def test_bytes_in_an_address_that_are_no_text_are_no_fault(api: Service, text: str) -> None:
    person = enter(api, Role.ADMIN)
    headers = [(b"authorization", f"Bearer {person.access}".encode())]
    for method, path, where, name in parameters(api):
        target = f"{filled(path)}?{name}={text}" if where == "query" else filled(path, **{name: text})
        answer = send_raw(api, method, target.encode(), headers)
        assert answer.status in (200, 404, 405, 422), (target, answer.body)
        assert answer.status != 200 or json.loads(answer.body)["items"] == [], target
