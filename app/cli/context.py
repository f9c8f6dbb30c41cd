"""What every group of commands shares: consoles, JSON on stdout, and the database of this invocation."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from app.core.config import get_settings
from app.embedded.postgres import ensure_postgres
from app.embedded.valkey import ensure_valkey

console = Console(stderr=True, highlight=False)


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


def redis_url() -> str:
    """The Valkey or Redis to use: REDIS_URL, else the embedded server, started on demand."""
    settings = get_settings()
    return settings.redis_url.get_secret_value() if settings.redis_url else ensure_valkey(settings)
