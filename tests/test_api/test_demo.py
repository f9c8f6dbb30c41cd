"""`smsctl demo` to its end: the API over what was migrated, checked and stopped, or left to whoever sits there."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from tests.kill_support import ENTRY
from tests.test_api.test_up import home, in_use, settings_of

__all__ = ["home"]

pytestmark = pytest.mark.kill
ROWS = "3000"
PATIENCE_S = 180.0


def test_checked_demo_signs_in_stops_everything_and_leaves_no_open_account(home: Path) -> None:
    env = settings_of(home)
    ended = subprocess.run(
        [*ENTRY, "demo", "--rows", ROWS, "--exit"], check=False, env=env, cwd=home, capture_output=True, text=True,
        timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "an account signed in" in " ".join(ended.stderr.split())
    assert in_use(home) == []


def test_demo_in_a_terminal_shows_the_first_administrators_password_once_and_stays(home: Path) -> None:
    env = settings_of(home, SMS_API__PORT="0")
    shown, terminal = pty.openpty()
    with subprocess.Popen(
        [*ENTRY, "demo", "--rows", ROWS], env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal
    ) as demo:
        os.close(terminal)
        try:
            text = read_until(shown, "Ctrl-C stops everything")
            address = re.search(r"^API\s+(http\S+)", text, re.MULTILINE)
            assert address is not None, text
            found = re.search(r"First administrator: (\S+), password \(shown this once\): (\S+)", text)
            assert found is not None, text
            answer = httpx2.post(f"{address[1]}/auth/login", json={"email": found[1], "password": found[2]})
            assert answer.status_code == 200
            assert text.count(found[2]) == 1
            assert httpx2.get(f"{address[1]}/health/ready").status_code == 200
        finally:
            demo.send_signal(signal.SIGINT)
            read_until(shown, "Stopped.", may_end=True)
    os.close(shown)
    assert demo.returncode == 0
    assert in_use(home) == []


def read_until(descriptor: int, mark: str, *, may_end: bool = False) -> str:
    """What a terminal shows, up to `mark`."""
    text = ""
    deadline = time.monotonic() + PATIENCE_S
    while mark not in text:
        assert time.monotonic() < deadline, text
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            assert may_end, text
            break
        text += piece.decode(errors="replace").replace("\r\n", "\n")
    return text
