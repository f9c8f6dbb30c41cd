"""Over a real socket: heads without end, bodies without end, bytes that are no HTTP, and the last answer before a stop."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from app.api import http_protocol
from app.core.config import Settings
from app.main import create_app
from tests.test_api.support import settings_for

HEAD = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PATIENCE_S = 20.0


@contextmanager
def listening(settings: Settings, **more: int) -> Iterator[tuple[uvicorn.Server, int]]:
    """The application behind uvicorn with our protocol, in a thread."""
    config = uvicorn.Config(
        create_app(settings), port=0, http=http_protocol.BoundedHttp, proxy_headers=False, server_header=False,
        access_log=False, log_config=None, lifespan="on", timeout_graceful_shutdown=more.get("graceful", 10),
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(settings: Settings, module_database_url: str, valkey_url: str) -> Iterator[int]:
    """A server whose patience with bodies is short."""
    made = settings_for(settings, module_database_url, valkey_url, api={"body_timeout_s": 0.3, "max_body_bytes": 2048})
    with listening(made) as (_, number):
        yield number


def connect(port: int) -> socket.socket:
    """A connection."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def read_all(peer: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    while piece := peer.recv(65_536):
        found += piece
    return found


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer that must be a problem document."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    assert b"server:" not in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    "lines",
    [
        b"X-A: " + b"a" * 40_000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(200)),
    ],
)
def test_head_that_is_too_large_is_refused(port: int, lines: bytes) -> None:
    with connect(port) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        assert problem(read_all(peer)) == (431, "head_too_large")


def test_address_that_is_too_long_is_refused(port: int) -> None:
    with connect(port) as peer:
        peer.sendall(b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert problem(read_all(peer)) == (431, "head_too_large")


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\x00 HTTP/1.1\r\n\r\n"]
)
def test_bytes_that_are_no_http_are_refused(port: int, raw: bytes) -> None:
    with connect(port) as peer:
        peer.sendall(raw)
        assert problem(read_all(peer)) == (400, "bad_request")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
    ],
)
def test_request_whose_end_is_in_doubt_is_refused(port: int, lines: bytes) -> None:
    with connect(port) as peer:
        peer.sendall(HEAD + lines)
        assert problem(read_all(peer)) == (400, "bad_request")


def test_body_that_trickles_is_given_up(port: int) -> None:
    with connect(port) as peer:
        peer.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert problem(read_all(peer)) == (408, "body_timeout")


def test_body_without_end_is_cut_off(port: int) -> None:
    with connect(port) as peer:
        peer.sendall(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n" + b"800\r\n" + b"x" * 2000
        )
        assert problem(read_all(peer)) == (413, "body_too_large")


def test_head_that_never_ends_is_given_up(
    settings: Settings, module_database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_PATIENCE_S", 0.2)
    with listening(settings_for(settings, module_database_url, valkey_url)) as (_, number):
        with connect(number) as silent, connect(number) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A:")
            assert read_all(slow) == b""
            assert read_all(silent) == b""
        with connect(number) as peer:
            for _ in range(2):
                peer.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200" in peer.recv(65_536).splitlines()[0]


def test_requests_one_behind_the_other_are_all_answered(port: int) -> None:
    with connect(port) as peer:
        peer.sendall(
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3
            + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert read_all(peer).count(b"200 OK") == 4


def test_request_under_way_is_answered_before_the_end(
    settings: Settings, module_database_url: str, valkey_url: str
) -> None:
    body = b'{"email": "nobody@example.com", "password": "x"}'
    with (
        listening(settings_for(settings, module_database_url, valkey_url)) as (server, number),
        connect(number) as peer,
    ):
        peer.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        while not server.server_state.tasks:
            time.sleep(0.01)
        server.should_exit = True
        peer.sendall(body[10:])
        assert b"401" in read_all(peer).splitlines()[0]
