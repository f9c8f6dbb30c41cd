"""nginx of this machine with the shipped docker/nginx.conf, of which only places and ports are put in anew."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.processes import choose_port
from tests.house_support import ROOT

CONF = ROOT / "docker/nginx.conf"
WITH_HTTP2_DIRECTIVE = (1, 25, 1)
STARTS_WITHIN_S = 30.0
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: every header with all its values."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def one(self, name: str) -> str:
        """The only value of a header."""
        (value,) = self.headers[name]
        return value


@dataclass(frozen=True, slots=True)
class Gate:
    """A running nginx: its ports, its logs, the certificate it shows."""

    https: int
    http: int
    alive: int
    certificate: Path
    logs: Path

    def tls(self) -> ssl.SSLContext:
        """A context that trusts the certificate and nothing else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def ask(
        self, path: str, *, method: str = "GET", body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request over TLS, its path byte for byte as given, its headers as many times as given."""
        connection = http.client.HTTPSConnection("localhost", self.https, context=self.tls(), timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
                refused_early = error  # it answered before it had read all: the answer is there
                del refused_early
            return _answer(connection.getresponse())
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """The answer to bytes that are no proper request."""
        with (
            socket.create_connection(("127.0.0.1", self.https), timeout=30) as plain,
            self.tls().wrap_socket(plain, server_hostname="localhost") as channel,
        ):
            channel.sendall(request)
            return channel.recv(65_536)

    def log(self, name: str, until: str) -> str:
        """A log, once it has `until` in it."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while until not in (text := (self.logs / name).read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, text[-2000:]
            time.sleep(0.02)
        return text


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    return Answer(response.status, headers, response.read())


def plain(port: int, path: str) -> Answer:
    """One request without TLS."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        connection.request("GET", path)
        return _answer(connection.getresponse())
    finally:
        connection.close()


def version() -> tuple[int, ...]:
    """The version of this machine's nginx."""
    said = subprocess.run([str(NGINX), "-v"], check=True, capture_output=True, text=True).stderr
    return tuple(int(part) for part in re.findall(r"nginx/([0-9.]+)", said)[0].split("."))


def _put(text: str, old: str, new: str) -> str:
    assert old in text, f"nginx.conf has no {old!r}: mend the test's substitutions"
    return text.replace(old, new)


def configuration(directory: Path, secrets: Path, upstream: int, ports: tuple[int, int, int, int]) -> str:
    """The shipped file for this machine. An nginx before 1.25.1 takes HTTP/2 as a word of `listen`."""
    https, http_port, alive, grafana = ports
    text = CONF.read_text(encoding="utf-8")
    word = ""
    if version() < WITH_HTTP2_DIRECTIVE:
        text, word = _put(text, "http2 on;", ""), " http2"
    text = _put(text, "listen 127.0.0.1:8081;", f"listen 127.0.0.1:{alive};")
    text = _put(text, "listen 8080 default_server;", f"listen 127.0.0.1:{http_port} default_server;")
    text = _put(text, "listen 8443 ssl default_server;", f"listen 127.0.0.1:{https} ssl{word} default_server;")
    text = _put(text, "listen 9443 ssl;", f"listen 127.0.0.1:{grafana} ssl{word};")
    text = _put(text, "server api:8000 resolve;", f"server 127.0.0.1:{upstream};")
    text = _put(text, "/run/secrets/", f"{secrets}/")
    text = _put(text, "/tmp/nginx", f"{directory}/nginx")  # noqa: S108 - the container's
    text = _put(text, "/dev/stdout", f"{directory}/access.log")
    return _put(text, "/dev/stderr", f"{directory}/error.log")


@contextmanager
def process(
    arguments: Sequence[str], port: int, log: Path, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """A program that listens on `port` for the length of the block."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            arguments, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _listens(port):
            assert started.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def make_secrets(directory: Path) -> Path:
    """What docker/make-secrets.sh makes, in a directory of its own."""
    directory.mkdir()
    subprocess.run(
        [ROOT / "docker/make-secrets.sh"],
        check=True,
        capture_output=True,
        env={**os.environ, "SECRETS": str(directory)},
    )
    return directory


@contextmanager
def nginx(directory: Path, secrets: Path, upstream: int) -> Iterator[Gate]:
    """nginx in front of 127.0.0.1:`upstream`."""
    ports = (choose_port(None), choose_port(None), choose_port(None), choose_port(None))
    written = directory / "nginx.conf"
    written.write_text(configuration(directory, secrets, upstream, ports), encoding="utf-8")
    # as root its workers would become another account, which does not get into a test's directory
    account = ["-g", "user root;"] if os.geteuid() == 0 else []
    subprocess.run([str(NGINX), "-t", "-q", "-c", str(written), *account], check=True, capture_output=True, text=True)
    with process([str(NGINX), "-c", str(written), *account], ports[0], directory / "nginx.log"):
        yield Gate(ports[0], ports[1], ports[2], secrets / "tls_certificate", directory)


@contextmanager
def echo(directory: Path) -> Iterator[int]:
    """The echo application through uvicorn; its port."""
    port = choose_port(None)
    arguments = [
        sys.executable,
        "-m",
        "uvicorn",
        "tests.test_containers.echo_app:app",
        "--port",
        str(port),
        "--no-proxy-headers",
    ]
    with process(arguments, port, directory / "echo.log"):
        yield port
