"""Processes, ports and locks of this machine (Linux): what the embedded servers are started, found and stopped with."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from app.core.errors import Conflict

POLL_S = 0.03
PR_SET_PDEATHSIG = 1
# Below the range that Linux hands out to outgoing connections, so that a recorded port is still free after a restart.
PORT_RANGE = (20_000, 32_000)
# A shell in between makes the server nobody's child: no zombie in a long-lived command that started it. Its exit
# leaves the server alone in a session without a terminal.
DETACH = '"$@" >&2 & echo "$!"'


class RunAs(TypedDict, total=False):
    """The account of a child process, as keyword arguments of subprocess; empty: the one that asks."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Launch:
    """A server to start: its command, where its output goes, and as whom. `environment` None: a clean one."""

    arguments: tuple[str, ...]
    log: Path
    cwd: Path
    run_as: RunAs
    death_signal: signal.Signals
    keep_open: tuple[int, ...] = ()
    environment: Mapping[str, str] | None = None


Spawn = Callable[[Launch], int]
ExclusiveLock = contextlib.AbstractContextManager[None]


def clean_environment() -> dict[str, str]:
    """The environment servers get: no PG* variable that would bend them, no secret of the caller's."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


def spawn_detached(launch: Launch) -> int:
    """Start a server in a session of its own, so that it outlives this command; its pid."""
    with launch.log.open("ab") as log:
        started = subprocess.run(
            ["/bin/sh", "-c", DETACH, "sh", *launch.arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=launch.cwd,
            env=clean_environment() if launch.environment is None else launch.environment,
            start_new_session=True,
            pass_fds=launch.keep_open,
            **launch.run_as,
        )
    return int(started.stdout)


def spawn_owned(launch: Launch) -> subprocess.Popen[bytes]:
    """Start a server that is told to stop when this process dies, even by kill -9.

    The kernel ties it to the calling *thread*, so only a supervisor's main thread may call this.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(launch.death_signal))
        if os.getppid() != parent:  # the parent died before the line above could tie us to it
            os._exit(1)

    with launch.log.open("ab") as log:
        # Own session: Ctrl-C in the terminal reaches the supervisor only, which stops the servers in order.
        return subprocess.Popen(
            launch.arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.cwd,
            env=clean_environment() if launch.environment is None else launch.environment,
            start_new_session=True,
            pass_fds=launch.keep_open,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            **launch.run_as,
        )


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone, or a zombie that only waits to be reaped."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in raw.rstrip(b"\0").split(b"\0")] if raw else []


def process_ids() -> Iterator[int]:
    """The pid of every process that this user may see."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def working_in(directory: Path) -> list[int]:
    """Pids of the processes whose current directory is `directory`, as far as this user may know."""
    found = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink() == directory:
                found.append(pid)
    return found


def has_open(pid: int, path: Path) -> bool:
    """True when the process has the file open, as far as this user may know."""
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.readlink() == path:
                    return True
    return False


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stop_process(is_running: Callable[[], bool], pid: int, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait its seconds until `is_running` says no; False when it survived all."""
    for number, seconds in steps:
        send(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_running():
                return True
            time.sleep(POLL_S)
    return not is_running()


def port_is_free(port: int) -> bool:
    """True when a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        # as the servers do, or connections closed a moment ago would make the port look taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(preferred: int | None) -> int:
    """`preferred` if it is free, else a free port outside the ephemeral range."""
    if preferred and port_is_free(preferred):
        return preferred
    low, high = PORT_RANGE
    for _ in range(200):
        port = low + secrets.randbelow(high - low)
        if port_is_free(port):
            return port
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def try_lock(path: Path) -> int | None:
    """A descriptor that holds `path` locked until it and its inherited copies are closed; None when another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY)  # a disk that went read-only: what runs can still be stopped
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


@contextlib.contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file `path`; the kernel lets go of it if this process is killed.

    Raises: Conflict when another command keeps it longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise Conflict(
                f"Another command has been starting or stopping the server for {timeout_s:.0f} s ({path}); "
                "wait for it or stop it, then try again.",
                code="embedded_busy",
            )
        time.sleep(POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)
