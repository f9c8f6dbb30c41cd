"""The servers of docker-compose.yml for all tests here: set up once, by the shipped files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.config import Settings
from tests.test_containers.nginx_support import make_secrets
from tests.test_containers.servers_support import Cache, Server, postgres, valkey


@pytest.fixture(scope="package")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of secrets, as docker/make-secrets.sh makes it."""
    return make_secrets(tmp_path_factory.mktemp("made") / "secrets")


@pytest.fixture(scope="package")
def server(settings: Settings, secrets: Path) -> Iterator[Server]:
    """PostgreSQL with the shipped files."""
    with postgres(settings, secrets) as running:
        yield running


@pytest.fixture(scope="package")
def cache(tmp_path_factory: pytest.TempPathFactory, secrets: Path) -> Iterator[Cache]:
    """Valkey with the shipped file."""
    with valkey(tmp_path_factory.mktemp("valkey"), secrets) as running:
        yield running
