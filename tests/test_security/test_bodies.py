"""Bodies that are too large, too slow, too deep, of another kind, or that mean two things."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from app.core.config import Settings
from app.models.user import Role
from tests.test_api.support import PASSWORD, Service, settings_for
from tests.test_api.test_http_protocol import listening
from tests.test_security.conftest import Make
from tests.test_security.support import ACCEPT, CHANGE, KEYS, LOGIN, REFRESH, USERS, enter, problem, send_raw

JSON = {"Content-Type": "application/json"}
TAKERS = (LOGIN, REFRESH, ACCEPT, USERS, KEYS, CHANGE)
DEEP = 10_000


def post(api: Service, path: str, raw: bytes, kind: str = "application/json", **headers: str) -> httpx2.Response:
    """The answer to bytes."""
    return api.ask("POST", path, Role.ADMIN, content=raw, headers={"Content-Type": kind, **headers})


@pytest.fixture(scope="module")
def body(api: Service) -> bytes:
    """A sign-in that succeeds."""
    account = api.accounts[Role.ADMIN]
    return json.dumps({"email": account.email, "password": account.password}).encode()


def test_body_with_nothing_wrong_is_taken(api: Service, body: bytes) -> None:
    assert post(api, LOGIN, body).status_code == 200
    assert post(api, LOGIN, body, "Application/JSON; charset=utf-8").status_code == 200


# What JSON may be

AMBIGUOUS: dict[str, tuple[bytes, set[str]]] = {
    "10,000 levels of lists": (b"[" * DEEP + b"]" * DEEP, {"json_depth"}),
    "10,000 levels of objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, {"json_depth"}),
    "10,000 levels without end": (b"[" * DEEP, {"json_depth"}),
    "10,000 levels in a field": (b'{"email":' + b"[" * DEEP + b"]" * DEEP + b"}", {"json_depth"}),
    "a number of 5,000 digits": (b'{"version":' + b"9" * 5000 + b"}", {"json_invalid"}),
    "a number of 500,000 digits": (b'{"version":' + b"9" * 500_000 + b"}", {"json_invalid"}),
    "a key twice": (b'{"email":"a@example.com","email":"b@example.com","password":"x"}', {"json_duplicate_key"}),
    "a key twice, once escaped": (b'{"email":"a@b.mx","\\u0065mail":"c@b.mx"}', {"json_duplicate_key"}),
    "a key twice inside": (b'{"email":{"a":1,"a":2}}', {"json_duplicate_key"}),
    "NaN": (b'{"version":NaN}', {"json_constant"}),
    "Infinity": (b'{"version":-Infinity}', {"json_constant"}),
    "bad UTF-8": (b'{"email":"\xff\xfe"}', {"json_encoding"}),
    "overlong UTF-8": (b'{"email":"\xc0\xae"}', {"json_encoding"}),
    "half a surrogate pair in UTF-8": (b'{"email":"\xed\xa0\x80"}', {"json_encoding"}),
    "UTF-16": ('{"email":"a"}'.encode("utf-16"), {"json_encoding"}),
    "UTF-16 without a mark": ('{"email":"a"}'.encode("utf-16-le"), {"json_invalid"}),
    "UTF-32": ('{"email":"a"}'.encode("utf-32"), {"json_encoding", "json_invalid"}),
    "a byte order mark": (b'\xef\xbb\xbf{"email":"a"}', {"json_invalid"}),
    "NUL escaped": (b'{"email":"a\\u0000b"}', {"text_not_storable"}),
    "NUL escaped in a key": (b'{"a\\u0000b":1}', {"text_not_storable"}),
    "NUL raw": (b'{"email":"a\x00b"}', {"json_invalid"}),
    "half a surrogate pair": (b'{"email":"\\ud800"}', {"text_not_storable"}),
    "other half of a surrogate pair": (b'{"email":["\\udc00"]}', {"text_not_storable"}),
    "surrogates in the wrong order": (b'{"email":"\\udc00\\ud800"}', {"text_not_storable"}),
    "comments": (b'{"email":"a" /* b */}', {"json_invalid"}),
    "single quotes": (b"{'email':'a'}", {"json_invalid"}),
    "a comma too many": (b'{"email":"a",}', {"json_invalid"}),
    "two documents": (b'{"email":"a"}{"email":"b"}', {"json_invalid"}),
    "a prefix": (b")]}',\n{}", {"json_invalid"}),
    "hexadecimal": (b'{"version":0x1}', {"json_invalid"}),
    "a control character in a text": (b'{"email":"a\nb"}', {"json_invalid"}),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("path", [LOGIN, USERS])
def test_body_that_means_no_one_thing_is_refused(api: Service, path: str, name: str) -> None:
    raw, codes = AMBIGUOUS[name]
    answer = post(api, path, raw)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["code"] in codes, answer.text


@pytest.mark.parametrize(
    "value", [0, -1, 2**31, 2**63, 10**400, -(10**400), 1.5, 1e300, "1", "0x1", True, None, [1], {"a": 1}, "１"]
)
def test_number_beyond_its_bounds_is_refused(api: Service, value: object) -> None:
    person = enter(api)
    for path in (f"{USERS}/{person.id}/disable", f"{USERS}/{person.id}/role"):
        method = "PATCH" if path.endswith("role") else "POST"
        body = {"version": value} | ({"role": "analyst"} if method == "PATCH" else {})
        answer = api.ask(method, path, Role.ADMIN, json=body)
        if value in ("1", True):  # read as 1, which is the version there is: no other account, no other act
            assert answer.status_code in (200, 409, 422)
        else:
            assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("raw", [b"", b"null", b"true", b"1", b'"x"', b"[]", b"[{}]", b"{}", b"  ", b"\n"])
def test_body_that_is_no_object_is_refused(api: Service, raw: bytes) -> None:
    for path in TAKERS:
        assert post(api, path, raw).status_code in (400, 422), path


# What kind of body


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/json", "application/xml", "multipart/form-data; boundary=x", "application/x-yaml", "", "*/*",
     "application/octet-stream", "text/plain; application/json", "application/jsonp", "application/x-json",
     "application/json-patch+json", "application/ld+json", "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_body_of_another_kind_is_refused(api: Service, body: bytes, kind: str) -> None:
    """A form or a text is what a page of another origin can send without being asked for leave."""
    for path in TAKERS:
        answer = post(api, path, body, kind)
        if path == LOGIN and kind == "application/x-www-form-urlencoded":
            assert answer.status_code in (400, 422)
        else:
            problem(answer, 415, "media_type")


def test_two_kinds_of_body_are_none(api: Service, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    assert send_raw(api, "POST", LOGIN.encode(), headers, (body,)).status == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
def test_compressed_body_is_never_unpacked(api: Service, body: bytes, coding: str) -> None:
    packed = {"deflate": zlib.compress}.get(coding, gzip.compress)(body)
    for path in TAKERS:
        answer = api.ask("POST", path, content=packed, headers=JSON | {"Content-Encoding": coding})
        assert answer.status_code in (400, 401), answer.text
        assert "access_token" not in answer.text


def test_bomb_of_a_compressed_body_stays_small(api: Service) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    assert len(bomb) < 300_000
    assert api.ask("POST", LOGIN, content=bomb, headers=JSON | {"Content-Encoding": "gzip"}).status_code == 400


# How large, how slow


def test_body_that_is_too_large_is_refused_on_every_route(make: Make) -> None:
    with make(api={"max_body_bytes": 2048}) as api:
        for path in (*TAKERS, "/nowhere", "/health", "/api/v1/auth/logout"):
            for method in ("POST", "PUT", "PATCH", "GET", "DELETE"):
                answer = api.ask(method, path, content=b"x" * 2049, headers=JSON)
                problem(answer, 413, "body_too_large")
                assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("length", [b"99999999999999999999", b"1048577", b"0001048577", b"9" * 400])
def test_length_that_is_declared_too_large_is_refused_before_the_body(api: Service, length: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]

    def must_not_be_read() -> None:
        raise AssertionError("the body was asked for")

    answer = send_raw(api, "POST", LOGIN.encode(), headers, (b"{}",), must_not_be_read)
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_body_larger_than_it_was_declared_is_cut_off(make: Make) -> None:
    with make(api={"max_body_bytes": 2048}) as api:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"10")]
        answer = send_raw(api, "POST", LOGIN.encode(), headers, (b"x" * 1000,) * 50)
        assert (answer.status, answer.code) == (413, "body_too_large")


@pytest.fixture(scope="module")
def port(settings: Settings, application_url: str, valkey_url: str) -> Iterator[int]:
    """A real server whose patience with bodies is short."""
    chosen = settings_for(settings, application_url, valkey_url, api={"body_timeout_s": 0.4, "max_body_bytes": 4096})
    with listening(chosen) as (_, number):
        yield number


def exchange(port: int, path: str, *pieces: bytes, head: bytes, pause: bool = False) -> tuple[int, dict[str, Any]]:
    """Status and problem of a request that is sent piece by piece over a socket; the answer must come before the end."""
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode() + head + b"\r\n")
        found = b""
        for piece in pieces:
            peer.settimeout(0.05 if pause else 0.001)
            try:
                found += peer.recv(65_536)
            except TimeoutError:
                peer.sendall(piece)
                continue
            break
        assert found or len(pieces) == 1, "all of it was taken"
        peer.settimeout(20)
        while more := peer.recv(65_536):
            found += more
    top, _, rest = found.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


@pytest.mark.parametrize("path", [LOGIN, USERS, REFRESH])
def test_body_in_chunks_without_end_is_cut_off(port: int, path: str) -> None:
    chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
    status, document = exchange(port, path, *[chunk] * 40, head=b"Transfer-Encoding: chunked\r\n")
    assert (status, document["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", [LOGIN, USERS, REFRESH])
def test_body_that_comes_byte_by_byte_is_given_up(port: int, path: str) -> None:
    """The patience is for the whole body: a byte now and then does not make it longer."""
    status, document = exchange(port, path, *[b"x"] * 100, head=b"Content-Length: 1000\r\n", pause=True)
    assert (status, document["code"]) == (408, "body_timeout")


def test_chunk_of_a_false_size_is_refused(port: int) -> None:
    for chunk in (b"zz\r\nabc\r\n", b"-1\r\nabc\r\n", b"ffffffffffffffffff\r\nabc\r\n", b"1 1\r\na\r\n"):
        status, document = exchange(port, LOGIN, chunk, head=b"Transfer-Encoding: chunked\r\n")
        assert status in (400, 413)
        assert document["code"] in ("bad_request", "body_too_large")


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n",
     b"Content-Length: 5, 6\r\n", b"Content-Length: +5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length : 5\r\n",
     b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", b"Content-Length: 5\r\n Folded: x\r\n"],
)  # fmt: skip
def test_request_of_two_lengths_smuggles_nothing(port: int, head: bytes) -> None:
    hidden = b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(
            f"POST {LOGIN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode() + head + b"\r\n" + hidden
        )
        found = b""
        while more := peer.recv(65_536):
            found += more
    assert found.count(b"HTTP/1.1 ") == 1, found
    assert b"HTTP/1.1 4" in found
    assert b'"ok"' not in found


def test_password_is_hashed_once_however_long_the_body_is(api: Service) -> None:
    """1,024 characters are looked at, more are refused before anything is computed."""
    email = api.accounts[Role.ADMIN].email
    assert api.ask("POST", LOGIN, json={"email": email, "password": PASSWORD * 40}).status_code == 422
    assert api.ask("POST", LOGIN, json={"email": email, "password": "x" * 1024}).status_code == 401
