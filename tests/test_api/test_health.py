"""What the service says of itself while what it stands on goes away and comes back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from psycopg import sql
from pydantic import SecretStr
from starlette.testclient import TestClient

from app import __version__
from app.core import metrics
from app.core.config import EmbeddedSettings, Settings
from app.core.database import connect
from app.embedded.servers import stop_all
from app.embedded.valkey import ensure_valkey, stop_valkey
from app.models.user import Role
from tests.conftest import with_database
from tests.test_api.support import Service, application, settings_for

READY = "/health/ready"
PATIENCE_S = 30.0


def checks(client: TestClient, status: int, overall: str) -> dict[str, tuple[str, str | None]]:
    """(status, detail) of each check of an answer that must be this."""
    answer = client.get(READY)
    assert (answer.status_code, answer.json()["status"]) == (status, overall), answer.text
    return {it["name"]: (it["status"], it["detail"]) for it in answer.json()["checks"]}


def wait_for(holds: Callable[[], bool]) -> None:
    """Until it does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_is_well(api: Service) -> None:
    assert set(checks(api.client, 200, "ok").values()) == {("ok", None)}
    assert api.client.get("/health").json() == {"status": "ok", "version": __version__}


@pytest.fixture
def own_valkey() -> Iterator[Settings]:
    """Settings of a Valkey that a test may stop."""
    with tempfile.TemporaryDirectory(prefix="sms-valkey-") as directory:
        made = Settings(
            _env_file=None, data_dir=Path(directory) / "var", embedded=EmbeddedSettings(shared_buffers="64MB")
        )
        yield made
        stop_all(made, purge=True)


def test_without_valkey_the_service_works_degraded_and_says_so_until_it_is_back(
    settings: Settings, module_database_url: str, own_valkey: Settings
) -> None:
    made = settings_for(settings, module_database_url, ensure_valkey(own_valkey))
    with application(made) as client:
        assert checks(client, 200, "ok")["cache"] == ("ok", None)
        stop_valkey(own_valkey)
        found = checks(client, 200, "degraded")
        assert found["database"] == ("ok", None)
        assert {found[name][0] for name in ("cache", "broker")} == {"failed"}
        assert client.get("/api/v1/auth/keys").status_code == 200
        assert client.get("/api/v1/contacts").status_code == 401
        ensure_valkey(own_valkey)
        wait_for(lambda: client.get(READY).json()["status"] == "ok")
        assert checks(client, 200, "ok")


def test_without_its_database_the_service_says_so_and_names_no_machine(
    settings: Settings, server_url: str, template_database: str, valkey_url: str
) -> None:
    name = f"sms_gone_{uuid4().hex[:12]}"
    url = with_database(server_url, name)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template_database))
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with closing(connect(server_url, autocommit=True)) as session:
        session.execute(create)
        with application(settings_for(settings, url, valkey_url)) as client:
            assert checks(client, 200, "ok")
            session.execute(drop)
            found = checks(client, 503, "unavailable")
            assert found["database"] == ("failed", "It does not answer.")
            assert found["schema"][0] == "failed"
            assert client.get("/health").status_code == 200
            answer = client.get("/api/v1/auth/me", headers={"Authorization": "Bearer sms_0123456789abcdef_0123456789"})
            assert answer.status_code in (401, 503)
            parts = urlsplit(url)
            assert str(parts.port) not in answer.text + client.get(READY).text
            session.execute(create)
            assert checks(client, 200, "ok")
        session.execute(drop)


def test_schema_that_is_behind_or_absent_is_named_and_a_newer_one_is_worked_with(
    settings: Settings, database_url: str, valkey_url: str
) -> None:
    with (
        closing(connect(database_url, autocommit=True)) as session,
        application(settings_for(settings, database_url, valkey_url)) as client,
    ):
        session.execute("UPDATE alembic_version SET version_num = '0001'")
        status, detail = checks(client, 503, "unavailable")["schema"]
        assert status == "failed"
        assert "0001" in str(detail)
        assert "smsctl db upgrade" in str(detail)
        session.execute("UPDATE alembic_version SET version_num = '9999'")
        assert checks(client, 200, "degraded")["schema"][0] == "degraded"
        session.execute("DROP TABLE alembic_version")
        assert checks(client, 503, "unavailable")["schema"] == ("failed", "There is none: run `smsctl db upgrade`.")


def test_metrics_are_for_whoever_has_the_token_or_the_permission(api: Service) -> None:
    assert api.ask("GET", "/metrics").status_code == 401
    assert api.ask("GET", "/metrics", Role.ADMIN).status_code == 403
    assert api.ask("GET", "/metrics", Role.SERVICE).status_code == 200
    api.settings.api.metrics_token = SecretStr("9f3c7a1e5b8d2046")
    try:
        assert api.ask("GET", "/metrics", headers={"Authorization": "Bearer 9f3c7a1e5b8d2047"}).status_code == 401
        answer = api.ask("GET", "/metrics", headers={"Authorization": "Bearer 9f3c7a1e5b8d2046"})
    finally:
        api.settings.api.metrics_token = None
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_metrics_count_by_template_and_never_by_what_a_client_wrote(api: Service) -> None:
    api.ask("GET", "/api/v1/contacts/3", Role.SERVICE)
    api.ask("GET", "/no/such/5512345678")
    text = api.ask("GET", "/metrics", Role.SERVICE).text
    assert 'sms_http_requests_total{method="GET",route="/api/v1/contacts/{contact_id}",status="200"}' in text
    assert 'route="unmatched",status="404"' in text
    assert "5512345678" not in text
    assert "sms_http_request_duration_seconds_bucket" in text
    assert "sms_http_requests_in_flight 1.0" in text
    assert "sms_db_pool_size 5.0" in text
    assert "sms_limiter_degraded 0.0" in text


def test_service_starts_without_its_database_and_signs_in_once_it_is_there(
    settings: Settings, server_url: str, template_database: str, valkey_url: str
) -> None:
    name = f"sms_late_{uuid4().hex[:12]}"
    made = settings_for(settings, with_database(server_url, name), valkey_url)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template_database))
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with closing(connect(server_url, autocommit=True)) as session, application(made) as client:
        assert checks(client, 503, "unavailable")["database"][0] == "failed"
        session.execute(create)
        try:
            wait_for(lambda: bool(client.get("/api/v1/auth/keys").json().get("keys")))
            assert checks(client, 200, "ok")
        finally:
            session.execute(drop)


def test_metrics_wait_for_a_process_that_is_making_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts makes an empty file first; whoever reads at that moment reads once more."""
    monkeypatch.setenv(metrics.MULTIPROCESS_DIR, str(tmp_path))
    fresh = tmp_path / "counter_1.db"
    fresh.touch()
    read = generate_latest

    def then_filled(registry: CollectorRegistry) -> bytes:
        try:
            return read(registry)
        finally:
            fresh.unlink(missing_ok=True)

    monkeypatch.setattr(metrics, "generate_latest", then_filled)
    assert metrics.exposition() == b""
