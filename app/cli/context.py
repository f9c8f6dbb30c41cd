"""What every group of commands shares: consoles, JSON on stdout, and the database of this invocation."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console

from app.core.config import get_settings
from app.embedded.postgres import application_password, ensure_postgres
from app.embedded.valkey import ensure_valkey
from app.services import role_service

APPLICATION_LOGIN = "sms_api"
"""Login of the embedded server for the service and its workers; a server of yours has the one in DATABASE_URL."""

WIDTH_OF_A_FILE = 200
"""Where standard error is no terminal: tables are not cut to the 80 columns that would be assumed."""

console = Console(
    stderr=True, highlight=False,
    width=None if sys.stderr.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_FILE,
)  # fmt: skip


def print_json(value: Any) -> None:
    """Write one JSON object, and nothing else, to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def database_url(*, admin: bool = False) -> str:
    """The database to use: DATABASE_ADMIN_URL or DATABASE_URL, else the embedded server, started on demand.

    Raises: Unavailable when the embedded server cannot be started.
    """
    settings = get_settings()
    chosen = (settings.database_admin_url if admin else None) or settings.database_url
    return chosen.get_secret_value() if chosen else ensure_postgres(settings)


def application_url() -> str:
    """The database as the service and its workers use it: DATABASE_URL, else the embedded server with a role that may
    only what the application needs (a member of sms_app), made on demand.

    The rights come with the schema: run schema_service.upgrade first.
    Raises: Unavailable when the embedded server cannot be started.
    """
    settings = get_settings()
    if settings.database_url:
        return settings.database_url.get_secret_value()
    return role_service.ensure_login(ensure_postgres(settings), APPLICATION_LOGIN, application_password(settings))


def redis_url() -> str:
    """The Valkey or Redis to use: REDIS_URL, else the embedded server, started on demand."""
    settings = get_settings()
    return settings.redis_url.get_secret_value() if settings.redis_url else ensure_valkey(settings)
