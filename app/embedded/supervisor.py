"""One process in the foreground that keeps others running: adopts or starts, restarts with patience, stops all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from app.core.config import Settings
from app.core.errors import AppError, Conflict, Unavailable
from app.core.logs import get_logger
from app.embedded import processes
from app.embedded.layout import run_file, usable
from app.embedded.postgres import ensure_postgres, running_postgres, stop_postgres
from app.embedded.processes import Launch
from app.embedded.valkey import ensure_valkey, stop_valkey, valkey_pid

LOCK = "supervisor.lock"
TICK_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
# a child that lived this long starts again without a pause
STEADY_S = 60.0
STOP_PATIENCE_S = 240.0
EARLY_STOP_S = 20.0


class Child(Protocol):
    """Something the supervisor keeps running: a server now, the API and workers later."""

    @property
    def name(self) -> str:
        """What it is called on the screen and in the log."""

    def start(self) -> str:
        """Make it run, or adopt it if it does; where it is reached. Raises: AppError."""

    def is_alive(self) -> bool:
        """True while it runs, whoever started it."""

    def stop(self) -> None:
        """Stop it, whoever started it."""


@dataclass(slots=True)
class ServerChild:
    """A server on disk as a Child; tied to this process if this process starts it."""

    name: str
    settings: Settings
    ensure: Callable[[Settings, processes.Spawn], str]
    running: Callable[[Settings], object | None]
    halt: Callable[[Settings], str | None]
    owned: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> str:
        """Adopt or start it; its URL."""
        return self.ensure(self.settings, self._spawn)

    def is_alive(self) -> bool:
        """True while it runs; what we started and ended is reaped on the way."""
        self.owned = [process for process in self.owned if process.poll() is None]
        return bool(self.owned) or self.running(self.settings) is not None

    def stop(self) -> None:
        """Shut it down in its own orderly way."""
        self.halt(self.settings)
        for process in self.owned:
            if process.poll() is None:  # broken off so early in its start that it could not be found
                process.send_signal(signal.SIGINT)
            try:
                process.wait(EARLY_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.owned.clear()

    def _spawn(self, launch: Launch) -> int:
        process = processes.spawn_owned(launch)
        self.owned.append(process)
        return process.pid


def server_children(settings: Settings) -> list[Child]:
    """The embedded servers this configuration needs: none for what DATABASE_URL or REDIS_URL give."""
    children: list[Child] = []
    if settings.database_url is None:
        children.append(ServerChild("PostgreSQL", settings, ensure_postgres, running_postgres, stop_postgres))
    if settings.redis_url is None:
        children.append(ServerChild("Valkey", settings, ensure_valkey, valkey_pid, stop_valkey))
    return children


@dataclass(slots=True)
class _Watch:
    child: Child
    started: float = 0.0
    pause: float = 0.0
    retry_at: float = 0.0


class _Stopped(BaseException):
    """A signal asked us to stop while a child was being started."""


@dataclass(slots=True)
class _Signals:
    """SIGINT and SIGTERM as a flag, or as an exception while `raising`."""

    asked: bool = False
    raising: bool = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.raising:
            self.raising = False
            raise _Stopped

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """A block that a signal breaks off, for waits that may be long."""
        self.raising = True
        try:
            yield
        finally:
            self.raising = False


def supervise(settings: Settings, children: Sequence[Child], announce: Callable[[Child, str], None]) -> None:
    """Run `children` until SIGINT or SIGTERM, then stop them all, last started first.

    `announce` is told each child's address whenever it was started. Must be called in the main thread.
    Raises: Conflict when another supervisor has this SMS_DATA_DIR; AppError when a child cannot be started at first.
    """
    with usable(settings):
        descriptor = processes.try_lock(run_file(settings, LOCK))
    if descriptor is None:
        raise Conflict("`smsctl up` already runs for this SMS_DATA_DIR; `smsctl down` stops it.", code="supervised")
    signals = _Signals()
    previous = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    watches = [_Watch(child) for child in children]
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        with contextlib.suppress(_Stopped):
            for watch in watches:
                _start(watch, signals, announce)
            while not signals.asked:
                for watch in watches:
                    _keep(watch, signals, announce)
                time.sleep(TICK_S)
    finally:
        _stop_all(children)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(descriptor)


def _start(watch: _Watch, signals: _Signals, announce: Callable[[Child, str], None]) -> None:
    if signals.asked:
        raise _Stopped
    with signals.interrupting():
        address = watch.child.start()
    watch.started = time.monotonic()
    announce(watch.child, address)


def _keep(watch: _Watch, signals: _Signals, announce: Callable[[Child, str], None]) -> None:
    """Start a child again that has died, after a pause that doubles while it keeps dying."""
    now = time.monotonic()
    if watch.retry_at == 0.0:
        if watch.child.is_alive():
            return
        steady = now - watch.started > STEADY_S
        watch.pause = 0.0 if steady else min(max(watch.pause * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        watch.retry_at = now + watch.pause
        get_logger("supervisor").warning("child_died", child=watch.child.name, restart_in_s=watch.pause)
    if now < watch.retry_at:
        return
    watch.retry_at = 0.0
    watch.started = now
    try:
        _start(watch, signals, announce)
    except AppError as error:  # it is tried again at the next tick, after a longer pause
        get_logger("supervisor").warning("child_not_started", child=watch.child.name, reason=str(error))


def _stop_all(children: Sequence[Child]) -> None:
    """Stop every child, even when one resists; the first trouble is raised at the end."""
    troubles = []
    for child in reversed(children):
        try:
            child.stop()
        except AppError as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]


def stop_supervisor(settings: Settings) -> str | None:
    """Ask a running supervisor to stop what it keeps and wait for it; one line, or None when there is none.

    Raises: Unavailable when it does not stop.
    """
    with usable(settings):
        path = run_file(settings, LOCK)
        if not path.exists():
            return None
        pid = 0
        deadline = time.monotonic() + STOP_PATIENCE_S
        while (descriptor := processes.try_lock(path)) is None:
            noted = path.read_text(encoding="ascii")
            # the number may be a killed supervisor's, when a new one has the lock but has not written yet
            if not pid and noted.isdigit() and processes.has_open(int(noted), path):
                pid = int(noted)
                processes.send(pid, signal.SIGTERM)
            if time.monotonic() > deadline:
                raise Unavailable(f"`smsctl up` (process {pid}) does not stop.", code="embedded_stop")
            time.sleep(processes.POLL_S)
        os.close(descriptor)
    return f"stopped smsctl up (process {pid}) and what it kept" if pid else None
