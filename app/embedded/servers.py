"""Both embedded servers together: what runs, and stopping or removing it all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.core.config import Settings
from app.embedded.layout import run_file
from app.embedded.postgres import purge_postgres, running_postgres, stop_postgres
from app.embedded.supervisor import stop_supervisor
from app.embedded.valkey import purge_valkey, running_valkey, stop_valkey, valkey_directory


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A running server; `since` is UTC."""

    pid: int
    port: int
    data: Path
    since: datetime


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """What runs for this SMS_DATA_DIR; None: does not run."""

    postgres: ServerStatus | None
    valkey: ServerStatus | None


def status(settings: Settings) -> EmbeddedStatus:
    """What runs now; starts nothing."""
    postgres, valkey = running_postgres(settings), running_valkey(settings)
    return EmbeddedStatus(
        postgres=ServerStatus(postgres[0].pid, postgres[0].port, postgres[1], postgres[0].since) if postgres else None,
        valkey=ServerStatus(valkey.pid, valkey.port, valkey_directory(settings), valkey.since) if valkey else None,
    )


def stop_all(settings: Settings, purge: bool = False) -> list[str]:
    """Stop the supervisor and both servers, and with `purge` delete the servers' data; one line for each thing done.

    Raises: Unavailable when something does not stop.
    """
    if not run_file(settings, "").is_dir():  # never used, or removed: nothing to make now
        return []
    # the supervisor first, or it would start again what we stop
    done = [stop_supervisor(settings), stop_valkey(settings), stop_postgres(settings)]
    lines = [line for line in done if line]
    if purge:
        lines += [*purge_valkey(settings), *purge_postgres(settings)]
    return lines
