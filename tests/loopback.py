"""A pytest plugin: Python's sockets reach this machine only. A test that needs the outside is a test of something else."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest


def is_loopback(address: Any) -> bool:
    """Whether a socket address stays on this machine: a UNIX socket, localhost, 127.0.0.0/8 or ::1."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return host in ("localhost", "") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex", "sendto"):
        patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    yield
    patch.undo()


def _guarded(method: Any) -> Any:
    def guarded(self: socket.socket, *args: Any) -> Any:
        if not is_loopback(args[-1]):
            raise RuntimeError(f"A test tried to reach {args[-1]}: only the loopback is allowed.")
        return method(self, *args)

    return guarded
