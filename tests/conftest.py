"""One real PostgreSQL for all tests (embedded, or the server of DATABASE_URL), and a fresh database wherever one is asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from psycopg import sql

from app.core.config import EmbeddedSettings, Settings
from app.core.database import connect, libpq_url
from app.embedded.postgres import ensure_postgres
from app.embedded.servers import stop_all
from app.services import schema_service

TEMPLATE_LOCK = 7_302_999
RUN_DIR = "SMS_TEST_RUN_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the directory of the shared server; workers inherit its name."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN_DIR] = tempfile.mkdtemp(prefix="sms-tests-", dir=os.environ.get("SMS_TEST_TMP"))
        Path(os.environ[RUN_DIR]).chmod(0o755)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared server and remove all that it left."""
    if not hasattr(config, "workerinput") and RUN_DIR in os.environ:
        stop_all(shared_settings(), purge=True)


def shared_settings() -> Settings:
    """Settings of the test run's own servers; nothing from the developer's environment or .env but DATABASE_URL."""
    return Settings(
        _env_file=None,
        data_dir=Path(os.environ[RUN_DIR]),
        environment="test",
        embedded=EmbeddedSettings(shared_buffers="256MB"),
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings whose embedded servers are the test run's."""
    return shared_settings()


@pytest.fixture(scope="session")
def server_url(settings: Settings) -> str:
    """A database on the test server from which others can be made; its role may create databases."""
    given = settings.database_admin_url or settings.database_url
    return libpq_url(given.get_secret_value()) if given else ensure_postgres(settings)


def with_database(url: str, name: str) -> str:
    """`url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _create(url: str, name: str, template: str) -> None:
    with closing(connect(url, autocommit=True)) as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )


def _drop(url: str, name: str) -> None:
    with closing(connect(url, autocommit=True)) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template_database(server_url: str) -> str:
    """A migrated database that others are copied from; made once for the whole run."""
    name = f"sms_template_{Path(os.environ[RUN_DIR]).name[-8:].lower()}"
    with closing(connect(server_url, autocommit=True)) as session:
        session.execute("SELECT pg_advisory_lock(%s)", (TEMPLATE_LOCK,))
        if session.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            _create(server_url, name, "template0")
            schema_service.upgrade(with_database(server_url, name))
    return name


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[str]:
    """A database of its own for the length of the block, copied from `template`."""
    name = f"sms_test_{uuid4().hex[:16]}"
    _create(server_url, name, template)
    yield with_database(server_url, name)
    _drop(server_url, name)


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A fresh database with the newest schema and the packaged numbering plan."""
    with fresh_database(server_url, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(server_url: str, template_database: str) -> Iterator[str]:
    """The same for all tests of a module."""
    with fresh_database(server_url, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_empty_url(server_url: str) -> Iterator[str]:
    """A database with nothing in it for all tests of a module."""
    with fresh_database(server_url, "template0") as url:
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A fresh database with nothing in it."""
    name = f"sms_empty_{uuid4().hex[:16]}"
    _create(server_url, name, "template0")
    yield with_database(server_url, name)
    _drop(server_url, name)
