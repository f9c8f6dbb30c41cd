"""The real application for a module of tests, as it runs in earnest: its database role may only what the service needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from app.core.clock import utc_now
from app.core.config import AuthSettings, Settings
from app.core.database import connect
from app.core.logs import configure_logs
from app.embedded.valkey import ensure_valkey
from app.services import role_service
from tests.sign_in import Clock
from tests.test_api.support import Service, fill_contacts, service, settings_for
from tests.test_security.support import Owner

CONTACTS = 30
Make = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Lines that a test can read, all of them."""
    configure_logs("DEBUG", "json")


@pytest.fixture(scope="session")
def valkey_url(settings: Settings) -> str:
    """The run's Valkey."""
    return ensure_valkey(settings)


@pytest.fixture(scope="module")
def application_url(module_database_url: str) -> Iterator[str]:
    """The module's database, with contacts in it, for a login that is a member of sms_app and nothing else."""
    fill_contacts(module_database_url, CONTACTS)
    name = f"sms_test_api_{uuid4().hex[:8]}"
    yield role_service.ensure_login(module_database_url, name, secrets.token_hex(8))
    with connect(module_database_url, autocommit=True) as superuser:
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def owner(module_database_url: str) -> Owner:
    """What the database holds, asked by its owner."""
    return Owner(module_database_url)


@pytest.fixture(scope="module")
def api(settings: Settings, application_url: str, valkey_url: str) -> Iterator[Service]:
    """The application with an account of every role, shared by the tests of a module."""
    with service(settings_for(settings, application_url, valkey_url)) as made:
        yield made


@pytest.fixture
def make(settings: Settings, application_url: str, valkey_url: str) -> Make:
    """Another application over the module's database, with settings of its own."""

    @contextmanager
    def made(
        *, auth: dict[str, Any] | None = None, redis_url: str | None = valkey_url, **groups: Any
    ) -> Iterator[Service]:
        chosen = settings_for(settings, application_url, redis_url, **groups)
        if auth is not None:
            chosen = chosen.model_copy(update={"auth": AuthSettings(**auth)})
        with service(chosen) as running:
            yield running

    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The platform's clock, in the test's hand; it begins at the present."""
    made = Clock()
    made.now = utc_now()
    monkeypatch.setattr("app.core.clock.utc_now", made.utc_now)
    return made
