"""What is left when something below is gone or full: less service, never less protection."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
import redis
from psycopg import sql

from app.core import cache as cache_module
from app.core.config import EmbeddedSettings, Settings
from app.core.database import connect
from app.core.errors import Broken
from app.embedded.servers import stop_all
from app.embedded.valkey import ensure_valkey, stop_valkey
from app.models.permission import Permission
from app.models.user import Role
from app.services import audit_chain
from tests.conftest import fresh_database
from tests.test_api.support import PASSWORD, Service, address, application, service, settings_for
from tests.test_security.conftest import Make
from tests.test_security.support import (
    AUDIT,
    CONTACTS,
    KEYS,
    LOGIN,
    LOGOUT,
    ME,
    OTHER_PASSWORD,
    REFRESH,
    USERS,
    Owner,
    bearing,
    disable,
    enter,
    key_of,
    problem,
    switch_on,
)

WRONG = "this-is-not-the-password"


@pytest.fixture
def own_valkey() -> Iterator[Settings]:
    """Settings of a Valkey that a test may stop."""
    directory = Path(tempfile.mkdtemp(prefix="sms-security-"))
    directory.chmod(0o755)
    made = Settings(_env_file=None, data_dir=directory / "var", embedded=EmbeddedSettings(), environment="test")
    yield made
    stop_all(made, purge=True)
    shutil.rmtree(directory)


def fail(api: Service, email: str, **headers: str) -> int:
    """The status of a wrong password."""
    return api.ask("POST", LOGIN, json={"email": email, "password": WRONG}, headers=headers).status_code


def protects(api: Service) -> None:
    """Assert that all that protects still does, but for counters."""
    one, shut, signed_out = enter(api), enter(api), enter(api)
    key, key_id = key_of(one, Permission.CONTACTS_READ)
    disable(api, shut)
    signed_out.ask("POST", LOGOUT)
    one.ask("DELETE", f"{KEYS}/{key_id}")
    for path in (ME, CONTACTS, USERS, AUDIT, "/metrics"):
        assert api.ask("GET", path).status_code == 401
        assert bearing(api, "nonsense", "GET", path).status_code == 401
    assert not shut.is_in()
    assert not signed_out.is_in()
    problem(bearing(api, key, "GET", CONTACTS), 401, "api_key_invalid")
    problem(one.ask("GET", USERS), 403, "forbidden")
    used = api.ask("POST", REFRESH, json={"refresh_token": one.refresh}).json()["refresh_token"]
    api.ask("POST", REFRESH, json={"refresh_token": used})
    problem(api.ask("POST", REFRESH, json={"refresh_token": one.refresh}), 401, "refresh_reused")
    assert not one.is_in()
    person = enter(api)
    switch_on(person)
    problem(api.ask("POST", LOGIN, json={"email": person.account.email, "password": PASSWORD}), 401, "otp_required")


# Valkey


def test_limits_and_locks_hold_when_valkey_stops(
    make: Make, own_valkey: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted before it stopped counts on; and it says that it is degraded."""
    monkeypatch.setattr(cache_module, "QUIET_S", 0.0)
    limits = {"per_address": "6/hour", "per_user": "5/hour"}
    with make(
        redis_url=ensure_valkey(own_valkey),
        limits=limits,
        auth={"logins_per_account": "4/hour", "logins_per_address": "4/hour"},
    ) as api:
        account, here, person = api.add_account(Role.MARKETER), address(), enter(api)
        assert [fail(api, account.email) for _ in range(2)] == [401, 401]
        assert [fail(api, f"a{n}@example.com", **{"X-Forwarded-For": here}) for n in range(2)] == [401, 401]
        assert [person.ask("GET", ME).status_code for _ in range(3)] == [200] * 3
        stop_valkey(own_valkey)
        assert [fail(api, account.email) for _ in range(4)] == [401, 401, 429, 429]
        problem(api.ask("POST", LOGIN, json={"email": account.email, "password": PASSWORD}), 429, "login_throttled")
        assert [fail(api, f"b{n}@example.com", **{"X-Forwarded-For": here}) for n in range(4)] == [401, 401, 429, 429]
        assert [person.ask("GET", ME).status_code for _ in range(4)] == [200, 200, 429, 429]
        there = {"X-Forwarded-For": address()}
        assert [api.ask("GET", ME, headers=there).status_code for _ in range(8)] == [401] * 6 + [429] * 2
        assert api.ask("GET", "/health/ready").json()["status"] == "degraded"


def test_everything_else_protects_without_valkey(make: Make) -> None:
    with make(redis_url=None) as api:
        protects(api)


def test_valkey_that_takes_connections_and_never_answers_opens_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "COMMAND_TIMEOUT_S", 0.02)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as silent,
        make(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0", auth={"logins_per_account": "3/hour"}) as api,
    ):
        email = api.add_account(Role.MARKETER).email
        assert [fail(api, email) for _ in range(5)] == [401] * 3 + [429] * 2
        assert api.ask("GET", ME).status_code == 401


def test_emptied_valkey_signs_nobody_out_and_brings_nothing_back(make: Make, own_valkey: Settings) -> None:
    url = ensure_valkey(own_valkey)
    with make(redis_url=url) as api:
        person, gone = enter(api), enter(api)
        gone.ask("POST", LOGOUT)
        with closing(redis.Redis.from_url(url)) as client:
            client.flushall()
        assert person.is_in()
        assert not gone.is_in()
        protects(api)


def test_valkey_holds_nothing_by_which_one_could_sign_in(make: Make, own_valkey: Settings) -> None:
    url = ensure_valkey(own_valkey)
    with make(redis_url=url) as api:
        person = enter(api)
        key, _ = key_of(person, Permission.CONTACTS_READ)
        bearing(api, key, "GET", CONTACTS)
        fail(api, person.account.email)
        with closing(redis.Redis.from_url(url)) as client:
            names = [str(it) for it in client.keys("*")]
            held = " ".join(names + [str(client.get(it)) for it in client.keys("*")])
        assert names
        for secret in (person.access, person.refresh, key, person.account.email, PASSWORD, WRONG):
            assert secret not in held


# PostgreSQL


def test_without_its_database_nothing_but_health_answers(
    settings: Settings, server_url: str, template_database: str, valkey_url: str
) -> None:
    """Also to a token whose signature the process remembers."""
    with fresh_database(server_url, template_database) as url:
        with_patience = settings_for(settings, url, valkey_url, api={"pool_timeout_s": 1})
        with service(with_patience) as api:
            person = enter(api, Role.ADMIN)
            key, _ = key_of(person, Permission.CONTACTS_READ)
            assert person.is_in()
            with connect(server_url, autocommit=True) as owner:
                name = url.rpartition("/")[2]
                owner.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
                owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            for token in (person.access, key):
                for path in (ME, CONTACTS, USERS, KEYS):
                    answer = bearing(api, token, "GET", path)
                    assert answer.status_code == 503, answer.text
                    assert answer.headers["content-type"] == "application/problem+json"
            login = {"email": person.account.email, "password": PASSWORD}
            assert api.ask("POST", LOGIN, json=login).status_code == 503
            assert api.ask("POST", REFRESH, json={"refresh_token": person.refresh}).status_code == 503
            assert api.ask("GET", ME).status_code == 401
            assert api.ask("GET", "/health").status_code == 200


def test_process_with_another_secret_key_serves_nobody(api: Service, settings: Settings, tmp_path: Path) -> None:
    """It neither signs with keys that it cannot open nor makes its own beside them."""
    other = api.settings.model_copy(update={"data_dir": tmp_path / "var"})
    with pytest.raises(Broken), application(other):
        pass


def test_full_pool_refuses_and_lets_nobody_through(make: Make, owner: Owner) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with make(api={"pool_size": 1, "pool_timeout_s": 0.2}) as api, ThreadPoolExecutor(1) as threads:
        person = enter(api, Role.ADMIN)
        with connect(owner.url) as blocking:
            blocking.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            first: Future[httpx2.Response] = threads.submit(lambda: person.ask("GET", USERS))
            while owner.rows(waiting) == [(0,)]:
                assert not first.done()
            problem(person.ask("GET", USERS), 503, "database_busy")
            blocking.rollback()
        assert first.result(20).status_code == 200


# The audit log


@contextmanager
def without_right_to_audit(owner: Owner) -> Iterator[None]:
    """The application cannot write into the log meanwhile."""
    owner.run("REVOKE INSERT ON audit_events FROM sms_app")
    try:
        yield
    finally:
        owner.run("GRANT INSERT ON audit_events TO sms_app")


def test_nothing_is_done_that_cannot_be_recorded(api: Service, owner: Owner) -> None:
    admin, person, account = enter(api, Role.ADMIN), enter(api), api.add_account(Role.MARKETER)
    version = person.version
    state = "SELECT count(*), sum(version), max(token_version) FROM users"
    before = owner.rows(state), owner.count("api_keys"), owner.count("auth_sessions")
    with without_right_to_audit(owner):
        acts = (
            admin.ask("POST", f"{USERS}/{person.id}/disable", json={"version": version}),
            admin.ask("PATCH", f"{USERS}/{person.id}/role", json={"role": "admin", "version": version}),
            admin.ask("POST", USERS, json={"email": "unrecorded@example.com", "role": "admin"}),
            admin.ask("POST", KEYS, json={"name": "unrecorded", "scopes": ["contacts:read"], "days": 1}),
            person.ask("POST", "/api/v1/auth/password", json={"old_password": PASSWORD, "new_password": OTHER_PASSWORD}),
            api.ask("POST", LOGIN, json={"email": account.email, "password": PASSWORD}),
            admin.ask("GET", CONTACTS), admin.ask("GET", AUDIT),
        )  # fmt: skip
        refused = person.ask("GET", USERS), api.ask("POST", LOGIN, json={"email": account.email, "password": WRONG})
    assert {it.status_code for it in (*acts, *refused)} == {500}
    assert [it for it in (*acts, *refused) if "items" in it.text or "access_token" in it.text] == []
    assert (owner.rows(state), owner.count("api_keys"), owner.count("auth_sessions")) == before
    assert person.is_in()


def test_log_of_all_these_attacks_holds(api: Service, owner: Owner) -> None:
    for _ in range(3):
        enter(api).ask("GET", USERS)
    verdict = audit_chain.verify(owner.url)
    assert (verdict.ok, verdict.what) == (True, None)


def test_changed_log_is_found(api: Service, owner: Owner) -> None:
    """Even when it was the owner of the database that did it."""
    person = enter(api)
    person.ask("GET", USERS)
    owner.run("ALTER TABLE audit_events DISABLE TRIGGER USER")
    owner.run("UPDATE audit_events SET result = 'ok' WHERE actor = %s AND result = 'refused'", person.account.email)
    changed = audit_chain.verify(owner.url)
    owner.run(
        "UPDATE audit_events SET result = 'refused' WHERE actor = %s AND action = 'access.refuse'", person.account.email
    )
    owner.run("ALTER TABLE audit_events ENABLE TRIGGER USER")
    owner.run("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER append_only")
    assert not changed.ok
    assert audit_chain.verify(owner.url).ok
