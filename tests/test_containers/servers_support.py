"""PostgreSQL and Valkey as docker-compose.yml starts them: its commands and settings files, with this machine's places."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.core.config import Settings
from app.embedded.binaries import valkey_server
from app.embedded.layout import make_owned, write_as
from app.embedded.postgres import postgres_bin, postgres_run_as
from app.embedded.processes import RunAs, choose_port, clean_environment
from tests.house_support import ROOT
from tests.test_containers.compose_support import load
from tests.test_containers.nginx_support import process

SMALL_MEMORY = {"shared_buffers": "64MB", "max_wal_size": "256MB", "min_wal_size": "64MB"}
"""What a machine for tests cannot spare; everything else is as shipped."""
STARTS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """The running PostgreSQL: its port, its socket's directory, its secrets, its programs."""

    port: int
    sockets: Path
    secrets: Path
    bin: Path

    def secret(self, name: str) -> str:
        """A secret's value."""
        return (self.secrets / name).read_text(encoding="utf-8")

    def url(self, name: str) -> str:
        """The URL that a container is given, on this machine."""
        return self.secret(name).replace("@postgres:5432/", f"@127.0.0.1:{self.port}/")

    def superuser(self, database: str = "sms") -> psycopg.Connection:
        """The superuser, through the socket as within the container."""
        return psycopg.connect(
            host=str(self.sockets),
            port=self.port,
            user="postgres",
            password=self.secret("postgres_password"),
            dbname=database,
        )


def compose_service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load()["services"][name]
    return found


def _initialise(home: Path, programs: Path, secrets: Path, run_as: RunAs) -> None:
    """What the image does before the first start: initdb with the arguments of the Compose file."""
    given = compose_service("postgres")["environment"]["POSTGRES_INITDB_ARGS"].split()
    if "C.UTF-8" not in subprocess.run(["locale", "-a"], check=False, capture_output=True, text=True).stdout.replace(
        "utf8", "UTF-8"
    ):
        given = [it if it != "--locale=C.UTF-8" else "--locale=C" for it in given]
    write_as(home / "password", (secrets / "postgres_password").read_text(encoding="utf-8"), run_as)
    made = subprocess.run(
        [programs / "initdb", "--pgdata", home / "data", "--username", "postgres", "--pwfile", home / "password", *given],
        check=False, cwd="/", env=clean_environment(), capture_output=True, text=True, **run_as,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def _start(home: Path, programs: Path, port: int, run_as: RunAs) -> subprocess.Popen[bytes]:
    """The command of the Compose file, with this machine's places, port and memory."""
    places = {"/etc/postgresql/": f"{home}/", "postgres": str(programs / "postgres")}
    command = compose_service("postgres")["command"]
    arguments = [places.get(it, it.replace("/etc/postgresql/", places["/etc/postgresql/"])) for it in command]
    extra = {"port": str(port), "unix_socket_directories": str(home), "listen_addresses": "127.0.0.1", **SMALL_MEMORY}
    arguments += [part for name, value in extra.items() for part in ("-c", f"{name}={value}")]
    with (home / "postgres.log").open("wb") as log:
        return subprocess.Popen(
            arguments,
            cwd="/",
            env={**clean_environment(), "PGDATA": str(home / "data")},
            stdout=log,
            stderr=log,
            **run_as,
        )


def _await(server: Server, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        assert running.poll() is None, (server.sockets / "postgres.log").read_text(encoding="utf-8")
        try:
            with server.superuser("postgres") as connection:
                connection.autocommit = True
                connection.execute("CREATE DATABASE sms")
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL does not answer") from error
            time.sleep(0.05)
        else:
            return


def _make_roles(server: Server, run_as: RunAs) -> None:
    """psql as the image calls it, with the shipped file."""
    text = (ROOT / "docker/postgres-init.sql").read_text(encoding="utf-8")
    subprocess.run(
        [server.bin / "psql", "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-h", server.sockets, "-p", str(server.port),
         "-U", "postgres", "-d", "sms", "-f", "-"],
        check=True, cwd="/", capture_output=True, text=True, input=text.replace("/run/secrets/", f"{server.secrets}/"),
        env={**clean_environment(), "PGPASSWORD": server.secret("postgres_password")},
    )  # fmt: skip


@contextmanager
def postgres(settings: Settings, secrets: Path) -> Iterator[Server]:
    """PostgreSQL set up and started as in the container, with its roles made."""
    programs, run_as = postgres_bin(settings, "postgres").parent, postgres_run_as(settings)
    home, port = settings.data_dir / f"shipped-{os.getpid()}", choose_port(None)
    make_owned(home, run_as)
    for source, target in (("postgres.conf", "postgresql.conf"), ("pg_hba.conf", "pg_hba.conf")):
        (home / target).write_bytes((ROOT / "docker" / source).read_bytes())
        (home / target).chmod(0o644)
    _initialise(home, programs, secrets, run_as)
    running = _start(home, programs, port, run_as)
    made = Server(port, home, secrets, programs)
    try:
        _await(made, running)
        _make_roles(made, run_as)
        yield made
    finally:
        running.send_signal(signal.Signals[compose_service("postgres")["stop_signal"]])
        ended = running.wait(60)
    assert ended == 0, "the stop signal of the Compose file ends it in order"


@dataclass(frozen=True, slots=True)
class Cache:
    """The running Valkey."""

    port: int
    secrets: Path

    def client(self, password: str | None = None) -> redis.Redis:
        """A client that gives up at once."""
        return redis.Redis(
            port=self.port, password=password, socket_timeout=10, retry=Retry(NoBackoff(), 0), decode_responses=True
        )

    def url(self) -> str:
        """The URL that a container is given, on this machine."""
        text = (self.secrets / "redis_url").read_text(encoding="utf-8")
        return text.replace("@valkey:6379/", f"@127.0.0.1:{self.port}/")

    def url_client(self) -> redis.Redis:
        """A client by that URL."""
        return redis.Redis.from_url(self.url(), decode_responses=True)


def valkey_command(directory: Path, secrets: Path, port: int) -> list[str]:
    """The command of the Compose file, with this machine's places and port."""
    text = (ROOT / "docker/redis.conf").read_text(encoding="utf-8")
    assert "include /run/secrets/valkey_auth" in text
    conf = directory / "valkey.conf"
    text = text.replace("/run/secrets/", f"{secrets}/").replace("dir /data", f"dir {directory}")
    conf.write_text(text, encoding="utf-8")
    program, *arguments = compose_service("valkey")["command"]
    assert (program, arguments) == ("valkey-server", ["/etc/valkey/valkey.conf"])
    return [str(valkey_server()), str(conf), "--port", str(port), "--bind", "127.0.0.1"]


@contextmanager
def valkey(directory: Path, secrets: Path) -> Iterator[Cache]:
    """Valkey with the shipped file, its data in `directory`."""
    port = choose_port(None)
    with process(valkey_command(directory, secrets, port), port, directory / "valkey.log"):
        yield Cache(port, secrets)
