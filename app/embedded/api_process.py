"""The API as a child of the supervisor: uvicorn in a process of its own, which knows only the application's database role."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.core.config import PROJECT_ROOT, Settings
from app.core.errors import Conflict, Unavailable
from app.embedded import processes
from app.embedded.cluster import read_log
from app.embedded.layout import base, fresh_log, usable
from app.embedded.processes import Launch

NAME = "API"
LOG = "api"
APPLICATION = "app.main:create_app"
PROTOCOL = "app.api.http_protocol:BoundedHttp"
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
KEEP_ALIVE_S = 75
"""Longer than a proxy in front keeps a connection (nginx: 60 s), or it would send into one that we just closed."""
ANSWER_TIMEOUT_S = 2.0
HEALTHY = 200
STOP_MARGIN_S = 10.0
HAND_OVER_S = 5.0
"""How long the workers of an API that was killed may take to let go of its port."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What the API works with: URLs of the database, as the application's role, and of Valkey."""

    database_url: str
    redis_url: str


@dataclass(slots=True)
class ApiChild:
    """The API on disk and port of these settings. `prepare` makes the schema ready and says where the servers are."""

    settings: Settings
    prepare: Callable[[], Backends]
    name: str = NAME
    port: int | None = None
    used: Backends | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where people reach it on this machine."""
        host = self.settings.api.host
        shown = "127.0.0.1" if host in ("", "0.0.0.0") else "[::1]" if host == "::" else host  # noqa: S104 - told apart
        return f"http://{f'[{shown}]' if ':' in shown and '[' not in shown else shown}:{self.port}"

    def start(self) -> str:
        """Start uvicorn and wait for its answer; the address.

        Raises: Conflict when its port is taken, Unavailable when it ends or does not answer; what `prepare` raises.
        """
        self.used = self.prepare()
        self.port = self._free_port()
        with usable(self.settings):
            log = fresh_log(self.settings, LOG)
            offset = log.stat().st_size
            environment = self._environment(self.used)
            launch = Launch(self._command(), log, Path.cwd(), {}, signal.SIGTERM, environment=environment)
            self.process = processes.spawn_owned(launch)
        self._await_answer(log, offset)
        return self.address

    def is_alive(self) -> bool:
        """True while its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Let requests under way end, then stop it; by force when it takes too long."""
        if self.process is None:
            return
        patience = self.settings.api.shutdown_s + STOP_MARGIN_S
        steps = ((signal.SIGTERM, patience), (signal.SIGKILL, STOP_MARGIN_S))
        if self.is_alive() and not processes.stop_process(self.is_alive, self.process.pid, steps):
            raise Unavailable(f"The API (process {self.process.pid}) does not stop.", code="api_stop")
        self.process = None

    def uses(self, address: str) -> bool:
        """True when the running API was given this server's address, whatever the role in front of it."""
        place = address.rpartition("@")[2]
        used = (self.used.database_url, self.used.redis_url) if self.used else ()
        return place in [url.rpartition("@")[2] for url in used]

    def _free_port(self) -> int:
        """The port to listen on. After a kill its workers may need a moment to let go of it."""
        wanted = self.port if self.port is not None else self.settings.api.port
        if wanted == 0:
            return processes.choose_port(None)
        deadline = time.monotonic() + (HAND_OVER_S if self.port is not None else 0.0)
        while not is_free(self.settings.api.host, wanted):
            if time.monotonic() >= deadline:
                raise Conflict(
                    f"Port {wanted} of {self.settings.api.host} is in use: stop what listens there, or choose another "
                    "with `smsctl up --port`.",
                    code="port_in_use",
                )
            time.sleep(processes.POLL_S)
        return wanted

    def _command(self) -> tuple[str, ...]:
        api = self.settings.api
        return (
            sys.executable, "-m", "uvicorn", APPLICATION, "--factory", "--host", api.host, "--port", str(self.port),
            "--workers", str(api.workers), "--timeout-graceful-shutdown", str(api.shutdown_s),
            "--timeout-keep-alive", str(KEEP_ALIVE_S), "--http", PROTOCOL, "--ws", "none", "--no-server-header",
            "--no-access-log", "--no-proxy-headers", "--log-level", "warning",
        )  # fmt: skip

    def _environment(self, backends: Backends) -> dict[str, str]:
        """Ours, with its own database in place of the owner's, and the few settings that an option may have changed."""
        kept = dict(os.environ) | {
            "DATABASE_URL": backends.database_url,
            "REDIS_URL": backends.redis_url,
            "SMS_DATA_DIR": str(base(self.settings)),
            "SMS_API__PORT": str(self.port),
            "DATABASE_ADMIN_URL": backends.database_url,  # over one that a .env file may hold
            "PYTHONPATH": str(PROJECT_ROOT),
        }
        if self.settings.api.workers > 1:
            kept[METRICS_DIR] = str(self._metrics_directory())
        return kept

    def _metrics_directory(self) -> Path:
        """A directory for the metrics that several processes share, empty: those of a run before are over."""
        directory = base(self.settings) / "run" / "metrics"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def _await_answer(self, log: Path, offset: int) -> None:
        deadline = time.monotonic() + self.settings.embedded.start_timeout_s
        while not self._answers():
            if not self.is_alive():
                raise Unavailable(f"The API does not start: {_reason(log, offset)} (log: {log})", code="api_start")
            if time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"The API does not answer (log: {log}).", code="api_start")
            time.sleep(processes.POLL_S)

    def _answers(self) -> bool:
        host = self.address.partition("://")[2].rpartition(":")[0].strip("[]")
        with closing(http.client.HTTPConnection(host, self.port, timeout=ANSWER_TIMEOUT_S)) as connection:
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == HEALTHY
            except (OSError, http.client.HTTPException):
                return False


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises: Conflict when the address is none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def _reason(log: Path, offset: int) -> str:
    """The last line that tells something: the error that ended it."""
    lines = [line.strip() for line in read_log(log, offset).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its log gives no reason"
