"""PostgreSQL and Valkey started with the shipped settings files, as docker-compose.yml starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg.rows import tuple_row

from app.core.database import connect
from app.embedded.processes import choose_port, clean_environment
from app.services import role_service, schema_service, tuning_service
from tests.house_support import ROOT
from tests.test_containers.compose_support import interpolated
from tests.test_containers.servers_support import SMALL_MEMORY, Cache, Server, compose_service, valkey_command


def rows(connection: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.cursor(row_factory=tuple_row).execute(query).fetchall()


def test_every_line_of_the_settings_file_is_understood_and_in_force(server: Server) -> None:
    with server.superuser() as connection:
        found = rows(connection, "SELECT name, error FROM pg_file_settings ORDER BY 1")
    named = re.findall(r"^([a-z_.]+) = ", (ROOT / "docker/postgres.conf").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == [name for name, _ in found]
    assert {name for name, error in found if error} <= {*SMALL_MEMORY, "listen_addresses"}, "given on the command line"


def test_pages_have_checksums_and_text_is_utf_8(server: Server) -> None:
    with server.superuser() as connection:
        shown = {
            name: rows(connection, f"SHOW {name}")
            for name in ("data_checksums", "server_encoding", "password_encryption")
        }
        (provider,) = rows(connection, "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'sms'")
    assert shown == {
        "data_checksums": [("on",)],
        "server_encoding": [("UTF8",)],
        "password_encryption": [("scram-sha-256",)],
    }
    assert provider == ("b", "C.UTF-8")


def test_every_line_of_who_may_connect_is_understood(server: Server) -> None:
    with server.superuser() as connection:
        found = rows(connection, "SELECT auth_method, error FROM pg_hba_file_rules")
    assert found
    assert set(found) == {("scram-sha-256", None)}


@pytest.mark.parametrize(
    ("user", "secret", "database", "reason"),
    [
        ("postgres", "postgres_password", "sms", "no pg_hba.conf entry"),
        ("sms_api", "sms_api_password", "postgres", "no pg_hba.conf entry"),
        ("sms_api", "sms_owner_password", "sms", "password authentication failed"),
        ("sms_app", "sms_api_password", "sms", "no pg_hba.conf entry"),
    ],
)
def test_others_do_not_get_in(server: Server, user: str, secret: str, database: str, reason: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=reason):
        psycopg.connect(host="127.0.0.1", port=server.port, user=user, password=server.secret(secret), dbname=database)


def test_health_is_asked_with_the_command_of_the_compose_file(server: Server) -> None:
    kind, program, *arguments = compose_service("postgres")["healthcheck"]["test"]
    assert kind == "CMD"
    asked = subprocess.run(
        [server.bin / program, *arguments], check=False, env={**clean_environment(), "PGPORT": str(server.port)}
    )
    assert asked.returncode == 0


def test_owner_makes_the_schema_and_the_service_only_uses_it(server: Server) -> None:
    owner, service = server.url("database_admin_url"), server.url("database_url")
    assert schema_service.upgrade(owner).after == schema_service.head()
    with connect(owner) as connection:
        assert role_service.apply(connection).refused == (), "the owner may give the groups all they need"
    with psycopg.connect(service) as connection:
        assert rows(connection, "SELECT count(*) FROM contacts") == [(0,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE own (id int)")


def test_owner_may_set_the_server_for_a_load_and_back(server: Server) -> None:
    owner = server.url("database_admin_url")
    schema_service.upgrade(owner)
    done = tuning_service.apply_bulk(owner)
    assert not done.refused
    assert done.applied
    assert tuning_service.restore(owner).applied


def test_owner_may_copy_the_server_for_a_backup(server: Server) -> None:
    with psycopg.connect(server.url("database_admin_url"), replication="true", autocommit=True) as connection:
        assert connection.execute("IDENTIFY_SYSTEM").fetchone()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url("database_url"), replication="true")


def test_logs_hold_no_statement_of_a_failure(server: Server) -> None:
    with server.superuser() as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT '5512345678' FROM nowhere_at_all")
    text = (server.sockets / "postgres.log").read_text(encoding="utf-8")
    assert "nowhere_at_all" in text
    assert "5512345678" not in text


def test_valkey_answers_who_has_the_password_and_nobody_else(cache: Cache) -> None:
    with cache.url_client() as client:
        assert client.ping()
    with cache.client() as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with cache.client("wrong") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_valkey_keeps_what_it_has_and_evicts_nothing(cache: Cache) -> None:
    with cache.url_client() as client:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        shipped, value = int(client.config_get("maxmemory")["maxmemory"]), "x" * 100_000
        assert shipped == 640 << 20
        client.config_set("maxmemory", "16mb")
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            _fill(client, value)
        assert client.get("key-0") == value
        client.config_set("maxmemory", str(shipped))


def _fill(client: redis.Redis, value: str) -> None:
    for number in range(200):
        client.set(f"key-{number}", value)


def test_health_of_valkey_is_asked_with_its_password(cache: Cache, tmp_path: Path) -> None:
    """The command of the Compose file; its valkey-cli is played by a client that takes the password from where it does."""
    kind, command = compose_service("valkey")["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    played = tmp_path / "valkey-cli"
    played.write_text(
        f"#!{sys.executable}\nimport os, redis\n"
        f"print('PONG' if redis.Redis(port={cache.port}, password=os.environ['REDISCLI_AUTH']).ping() else '')\n",
        encoding="utf-8",
    )
    played.chmod(0o755)
    for secrets, code in ((cache.secrets, 0), (tmp_path, 1)):
        shell = interpolated(command).replace("/run/secrets/", f"{secrets}/")
        asked = subprocess.run(
            ["/bin/sh", "-c", shell], check=False, capture_output=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        )
        assert asked.returncode == code, asked.stderr


def test_valkey_without_its_secret_does_not_start(tmp_path: Path) -> None:
    command = valkey_command(tmp_path, tmp_path / "nothing", choose_port(None))
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "valkey_auth" in ended.stdout + ended.stderr
