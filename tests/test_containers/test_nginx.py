"""The shipped docker/nginx.conf in nginx itself, in front of an application that answers what reached it."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from app.api.middleware.security_headers import HSTS
from app.api.problems import CODES, TITLES
from app.core.config import ApiSettings
from app.embedded.processes import choose_port
from tests.house_support import ROOT
from tests.test_containers.echo_app import SECURITY_HEADERS
from tests.test_containers.nginx_support import NGINX, Answer, Gate, echo, make_secrets, nginx, plain

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed: `make setup-system` brings it (Debian, as root)"
)

SPOOFED = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-For", "203.0.113.8, 10.0.0.1"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Original-URL", "/metrics"),
    ("X-Rewrite-URL", "/metrics"),
    ("Forwarded", "for=203.0.113.7;proto=http"),
    ("Proxy", "http://evil.example"),
]
PROBLEM = "application/problem+json"
ECHOED = {name.decode(): [value.decode()] for name, value in SECURITY_HEADERS}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """nginx in front of the echo application."""
    directory = tmp_path_factory.mktemp("nginx")
    with echo(directory) as upstream, nginx(directory, make_secrets(directory / "secrets"), upstream) as running:
        yield running


@pytest.fixture
def fresh_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """The same with counters of its own, for a test that uses them up; nobody listens behind it."""
    directory = tmp_path_factory.mktemp("nginx")
    with nginx(directory, make_secrets(directory / "secrets"), choose_port(None)) as running:
        yield running


def seen(answer: Answer) -> Any:
    """What the application saw."""
    assert answer.status == 200, answer
    return json.loads(answer.body)


def problem(answer: Answer) -> Any:
    """A problem document, as nginx writes it: its headers are right, and its id is the answer's."""
    assert answer.one("content-type") == PROBLEM
    assert answer.one("cache-control") == "no-store"
    assert answer.one("x-content-type-options") == "nosniff"
    assert answer.one("strict-transport-security") == HSTS[1].decode()
    document = json.loads(answer.body)
    assert document["status"] == answer.status
    assert document["request_id"] == answer.one("x-request-id")
    assert {"type", "title", "code"} <= set(document)
    return document


def handshake(gate: Gate, context: ssl.SSLContext) -> ssl.SSLSocket:
    with (
        socket.create_connection(("127.0.0.1", gate.https), timeout=30) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as channel,
    ):
        channel.do_handshake()
        return channel


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today_is_spoken(gate: Gate, version: ssl.TLSVersion) -> None:
    context = gate.tls()
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", gate.https), timeout=30) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as channel,
    ):
        assert channel.version() == version.name.replace("_", ".")
        cipher = channel.cipher()
        assert cipher is not None
        assert re.match(r"ECDHE-|TLS_", cipher[0]), "forward secrecy"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_of_yesterday_is_refused(gate: Gate) -> None:
    context = gate.tls()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this side would not even ask
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", gate.https), timeout=30) as connection,
        pytest.raises(ssl.SSLError, match="protocol version"),
    ):
        context.wrap_socket(connection, server_hostname="localhost")


def test_http_2_is_offered(gate: Gate) -> None:
    context = gate.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", gate.https), timeout=30) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as channel,
    ):
        assert channel.selected_alpn_protocol() == "h2"


def test_plain_http_leads_to_https_and_keeps_method_and_address(gate: Gate) -> None:
    answer = plain(gate.http, "/api/v1/contacts?limit=5")
    assert answer.status == 308
    assert answer.one("location") == "https://localhost/api/v1/contacts?limit=5"
    assert "strict-transport-security" not in answer.headers


def test_what_a_caller_says_about_itself_is_not_believed(gate: Gate) -> None:
    headers = seen(gate.ask("/", headers=SPOOFED))["headers"]
    assert headers["x-forwarded-for"] == ["127.0.0.1"]
    assert headers["x-real-ip"] == ["127.0.0.1"]
    assert headers["x-forwarded-proto"] == ["https"]
    assert headers["x-forwarded-host"] == headers["host"] == ["localhost"]
    assert headers["x-forwarded-port"] == ["443"]
    gone = {"forwarded", "proxy", "x-original-url", "x-rewrite-url", "x-forwarded-prefix"}
    assert gone & set(headers) == set()


def test_method_path_and_body_reach_the_application_as_they_are(gate: Gate) -> None:
    got = seen(gate.ask("/api/v1/contacts/%C3%B1?a=1", method="PATCH", body=b"x" * 1000))
    assert (got["method"], got["path"], got["length"]) == ("PATCH", "/api/v1/contacts/ñ", 1000)


def test_security_headers_are_there_once(gate: Gate) -> None:
    headers = gate.ask("/").headers
    assert {name: len(values) for name, values in headers.items() if len(values) > 1} == {}
    assert {name: headers[name] for name in ECHOED} == ECHOED, "as the application sent them"
    assert headers["server"] == ["nginx"], "no version, and not uvicorn"


def test_a_proper_request_id_goes_through_and_another_is_replaced(gate: Gate) -> None:
    assert seen(gate.ask("/", headers=[("X-Request-ID", "call-2026.11_24")]))["headers"]["x-request-id"] == [
        "call-2026.11_24"
    ]
    for wrong in ("short", "a" * 65, 'with"quote-and-more', "with blank inside", "{jndi:ldap://evil}"):
        (given,) = seen(gate.ask("/", headers=[("X-Request-ID", wrong)]))["headers"]["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", given)
    (own,) = seen(gate.ask("/"))["headers"]["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", own)


def test_the_largest_body_is_the_applications(gate: Gate) -> None:
    most = ApiSettings().max_body_bytes
    assert seen(gate.ask("/", method="POST", body=b"x" * most))["length"] == most
    answer = gate.ask("/", method="POST", body=b"x" * (most + 1))
    assert answer.status == 413
    assert problem(answer)["code"] == "body_too_large"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/metrics/",
        "/metrics?x=1",
        "//metrics",
        "/./metrics",
        "/docs/../metrics",
        "/%6detrics",
        "/metrics%2f",
        "/metrics/x",
    ],
)
def test_metrics_are_not_public(gate: Gate, path: str) -> None:
    answer = gate.ask(path)
    assert answer.status == 404
    assert problem(answer)["code"] == "not_found"


def test_a_flood_of_sign_ins_is_stopped_before_the_application(gate: Gate) -> None:
    answers = [gate.ask("/api/v1/auth/login", method="POST", body=b"{}") for _ in range(40)]
    refused = [it for it in answers if it.status == 429]
    assert answers[0].status == 200
    assert refused
    assert problem(refused[0])["code"] == "too_many_requests"
    assert int(refused[0].one("retry-after")) > 0
    assert gate.ask("/auth/login", method="POST", body=b"{}").status == 429, "the plan's name for the same"
    assert gate.ask("/api/v1/contacts").status == 200, "others go on"


def test_a_flood_of_requests_is_stopped(fresh_gate: Gate) -> None:
    """One connection, as fast as it goes: more than the wall lets through in the time that takes."""
    request = b"GET /api/v1/contacts HTTP/1.1\r\nHost: localhost\r\n\r\n"
    statuses: list[bytes] = []
    with (
        socket.create_connection(("127.0.0.1", fresh_gate.https), timeout=30) as connection,
        fresh_gate.tls().wrap_socket(connection, server_hostname="localhost") as channel,
    ):
        channel.sendall(request * 900)
        received = b""
        while len(statuses) < 900 and (part := channel.recv(65_536)):
            received += part
            statuses = re.findall(rb"HTTP/1\.1 (\d{3})", received)
    assert set(statuses) == {b"502", b"429"}


def test_an_application_that_is_away_is_a_problem_too(fresh_gate: Gate) -> None:
    answer = fresh_gate.ask("/api/v1/contacts")
    assert answer.status == 502
    assert problem(answer)["code"] == "unavailable"
    assert int(answer.one("retry-after")) > 0


def test_connections_to_the_application_are_kept(gate: Gate) -> None:
    peers = {tuple(seen(gate.ask("/"))["peer"]) for _ in range(6)}
    assert len(peers) <= 2, "one for each of the two workers"


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
    ],
    ids=["two lengths of two kinds", "two lengths", "two hosts", "no host", "a header without end"],
)
def test_requests_that_could_be_read_in_two_ways_are_refused(gate: Gate, request_head: bytes) -> None:
    assert gate.raw(request_head).startswith(b"HTTP/1.1 400")


def test_access_log_is_json_and_has_no_query_string(gate: Gate) -> None:
    gate.ask(
        "/api/v1/contacts?phone=5512345678",
        headers=[("X-Request-ID", "log-line-0001"), ("Referer", "https://a/?5512345678")],
    )
    gate.ask("/metrics?phone=5512345678", headers=[("X-Request-ID", "log-line-0002"), ("User-Agent", 'a"b\\c')])
    text = gate.log("access.log", until="log-line-0002")
    lines = {line["request_id"]: line for line in map(json.loads, text.splitlines())}
    assert lines["log-line-0001"]["path"] == "/api/v1/contacts"
    assert lines["log-line-0001"]["address"] == "127.0.0.1"
    assert (lines["log-line-0001"]["status"], lines["log-line-0001"]["upstream_status"]) == (200, "200")
    assert lines["log-line-0002"]["status"] == 404
    assert "5512345678" not in text


def test_error_log_quotes_no_request(fresh_gate: Gate) -> None:
    """A failed upstream and a limit are errors, and an error's line has the whole address in it."""
    for number in range(30):
        fresh_gate.ask(f"/auth/login?phone=5512345678&n={number}", headers=[("X-Request-ID", f"error-line-{number}")])
    assert '"status":429' in fresh_gate.log("access.log", until="error-line-29")
    assert "5512345678" not in (fresh_gate.logs / "error.log").read_text(encoding="utf-8")


def test_problems_are_worded_as_the_applications_own() -> None:
    text = (ROOT / "docker/nginx.conf").read_text(encoding="utf-8")
    worded = re.findall(r"""^\s+(\d{3}) '"title":"([^"]+)","code":"([^"]+)"';""", text, re.MULTILINE)
    assert {"400", "404", "413", "429", "502"} <= {status for status, _, _ in worded}
    gone = {502: 503, 504: 503, 414: 400}  # the application does not give these
    for status, title, code in worded:
        same = gone.get(int(status), int(status))
        assert (title, code) == (TITLES[same], CODES[same]), status


def test_containers_own_check_is_answered_inside_only(gate: Gate) -> None:
    assert plain(gate.alive, "/alive").status == 204
    assert plain(gate.alive, "/").status == 404
    assert seen(gate.ask("/alive"))["path"] == "/alive", "outside it is an address of the application"


def test_slow_clients_are_not_waited_for() -> None:
    text = (ROOT / "docker/nginx.conf").read_text(encoding="utf-8")
    for directive in ("client_header_timeout", "client_body_timeout", "send_timeout"):
        found = re.search(rf"^\s*{directive} (\d+)s;", text, re.MULTILINE)
        assert found, directive
        assert int(found[1]) <= ApiSettings().body_timeout_s
    assert re.search(r"^\s*client_max_body_size 1m;", text, re.MULTILINE)
    assert ApiSettings().max_body_bytes == 1 << 20
