"""Puts the server's settings back when the migration that changed them is killed.

A process of its own, with a pipe from the migration to its standard input: however the migration ends, the pipe closes, and
then the settings are restored unless that was done already or another migration runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import Unavailable
from app.core.logs import configure_logs, get_logger
from app.services import tuning_service

PATIENCE_S = 60.0
log = get_logger("migrate")


@contextmanager
def settings_guard(url: str) -> Iterator[None]:
    """Guard the settings of the server at `url` for the length of the block."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "app.ingest.settings_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is the migration's, not the guard's
        text=True,
    )
    if guard.stdin is None:
        raise Unavailable("The guard of the server's settings has no input.", code="guard")
    try:
        # The address goes through the pipe: a command line is for all to read.
        guard.stdin.write(url + "\n")
        guard.stdin.flush()
        yield
    finally:
        guard.stdin.close()
        guard.wait()


def restore_settings(url: str) -> None:
    """Put the settings back now; where that cannot be done it is said, and the next command does it."""
    try:
        restored = tuning_service.restore(url)
    except Unavailable as error:
        log.warning("settings are put back by the next command", reason=str(error))
    else:
        if restored.refused:
            log.warning("settings could not be put back", reason=restored.refused)


def main() -> None:
    """Wait for the end of the migration, then restore; a server that restarts meanwhile is waited for."""
    configure_logs("WARNING")
    url = sys.stdin.readline().strip()
    sys.stdin.read()
    deadline = time.monotonic() + PATIENCE_S
    while url:
        try:
            tuning_service.restore_if_abandoned(url)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


if __name__ == "__main__":
    main()
