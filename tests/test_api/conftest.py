"""The application for a module of tests, over a database of its own and the run's Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.core.config import Settings
from app.core.logs import configure_logs
from app.embedded.valkey import ensure_valkey
from tests.test_api.support import Service, fill_contacts, service, settings_for

CONTACTS = 120


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Lines that a test can read."""
    configure_logs("DEBUG", "json")


@pytest.fixture(scope="session")
def valkey_url(settings: Settings) -> str:
    """The run's Valkey."""
    return ensure_valkey(settings)


@pytest.fixture(scope="module")
def api(settings: Settings, module_database_url: str, valkey_url: str) -> Iterator[Service]:
    """The application with an account of every role and contacts, shared by the tests of a module."""
    fill_contacts(module_database_url, CONTACTS)
    with service(settings_for(settings, module_database_url, valkey_url)) as made:
        yield made
