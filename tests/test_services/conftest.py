"""Fixtures of sign-in: a desk of the service on a fresh database, and the clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.core.config import Settings
from app.embedded.valkey import ensure_valkey
from tests.sign_in import Clock, Desk, open_desk


@pytest.fixture(scope="session")
def valkey_url(settings: Settings) -> str:
    """The run's Valkey."""
    return ensure_valkey(settings)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The platform's clock, in the test's hand."""
    made = Clock()
    monkeypatch.setattr("app.core.clock.utc_now", made.utc_now)
    return made


@pytest.fixture
async def desk(settings: Settings, database_url: str, valkey_url: str, clock: Clock) -> AsyncIterator[Desk]:
    """One process of the service."""
    async with open_desk(settings, database_url, valkey_url) as made:
        yield made
