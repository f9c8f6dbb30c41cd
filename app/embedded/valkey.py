"""The embedded Valkey: found when it runs, started when it does not; an append-only file that two must never share.

The server keeps a locked descriptor of its directory open, so the kernel knows whether one lives, whatever was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.core.clock import utc_now
from app.core.config import Settings
from app.core.errors import Unavailable
from app.embedded import processes
from app.embedded.binaries import valkey_server
from app.embedded.cluster import read_log, why_it_ended
from app.embedded.layout import (
    ServerRecord,
    base,
    fresh_log,
    log_file,
    read_record,
    remove_log,
    run_file,
    secret,
    usable,
    write_private,
    write_record,
)
from app.embedded.processes import Launch, Spawn

PASSWORD = "valkey_password"  # noqa: S105 - the name of its file
LOCK = "valkey.lock"
LOCK_PATIENCE_S = 60.0
ANSWER_TIMEOUT_S = 5.0
STOP_STEPS = ((signal.SIGTERM, 60.0), (signal.SIGKILL, 10.0))
# Paths are relative to the working directory, so none needs quoting. Nothing is evicted: a queue is not a cache.
CONFIGURATION = """# Written by smsctl whenever it starts the server.
bind 127.0.0.1
port {port}
requirepass {password}
protected-mode yes
dir ./
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
set-proc-title no
locale-collate C
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A live Valkey that answered with our password."""

    pid: int
    port: int
    since: datetime


def ensure_valkey(settings: Settings, spawn: Spawn = processes.spawn_detached) -> str:
    """The URL (redis://, database 0) of the embedded Valkey of this SMS_DATA_DIR; starts the server if need be.

    A live server is never restarted, and of commands that come at the same time one starts it. It outlives this
    process unless `spawn` ties it.
    Raises: Unavailable when it cannot run, Conflict when another command holds the lock for minutes.
    """
    with usable(settings):
        running = running_valkey(settings)
        if running is None:
            with _locked(settings):
                running = _bring_up(settings, spawn)
        return f"redis://:{secret(settings, PASSWORD)}@127.0.0.1:{running.port}/0"


def valkey_directory(settings: Settings) -> Path:
    """Where Valkey's files are."""
    return base(settings) / "valkey"


def running_valkey(settings: Settings) -> Running | None:
    """The live server of this SMS_DATA_DIR if it answers, or None; starts nothing."""
    record = read_record(settings, "valkey")
    if record is None or not (base(settings) / "secrets" / PASSWORD).exists():
        return None
    client = redis.Redis(
        host="127.0.0.1",
        port=record.port,
        password=secret(settings, PASSWORD),
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # its default keeps trying for seconds before it says that nobody is there
    )
    try:
        directory = client.config_get("dir")["dir"]
        told = client.info("server")
    except redis.RedisError:  # not there, still loading, or another program's port
        return None
    finally:
        client.close()
    text = directory.decode(errors="surrogateescape") if isinstance(directory, bytes) else str(directory)
    if Path(text) != valkey_directory(settings):  # a copy of SMS_DATA_DIR knows the same port and password
        return None
    since = utc_now() - timedelta(seconds=int(told["uptime_in_seconds"]))
    return Running(int(told["process_id"]), record.port, since.astimezone(UTC))


def stop_valkey(settings: Settings) -> str | None:
    """Stop the server if it runs; one line that says so, or None.

    Raises: Unavailable when it cannot be stopped.
    """
    with usable(settings), _locked(settings):
        return _stop(settings)


def purge_valkey(settings: Settings) -> list[str]:
    """Delete the stopped server's files; one line for each place."""
    with usable(settings), _locked(settings):
        _stop(settings)
        directory = valkey_directory(settings)
        run_file(settings, "valkey.json").unlink(missing_ok=True)
        (base(settings) / "secrets" / PASSWORD).unlink(missing_ok=True)
        remove_log(settings, "valkey")
        if not directory.exists():
            return []
        shutil.rmtree(directory)
        return [f"removed {directory}"]


def _locked(settings: Settings) -> processes.ExclusiveLock:
    return processes.exclusive(run_file(settings, LOCK), settings.embedded.start_timeout_s + LOCK_PATIENCE_S)


def _configuration(settings: Settings) -> Path:
    return valkey_directory(settings) / "valkey.conf"


def valkey_pid(settings: Settings) -> int | None:
    """The server's process by its command line, whether it answers or not; None when there is none."""
    configuration = str(_configuration(settings))
    record = read_record(settings, "valkey")
    for pid in chain((record.pid,) if record else (), processes.process_ids()):
        arguments = processes.command_line(pid)
        if len(arguments) > 1 and arguments[1] == configuration and Path(arguments[0]).name == "valkey-server":
            return pid
    return None


def _stop(settings: Settings) -> str | None:
    pid = valkey_pid(settings)
    if pid is None:
        return None
    if not processes.stop_process(lambda: bool(processes.command_line(pid)), pid, STOP_STEPS):
        raise Unavailable(f"Valkey (process {pid}) does not stop.", code="embedded_stop")
    record = read_record(settings, "valkey")
    return f"stopped Valkey (process {pid}, port {record.port if record else 'unknown'})"


def _bring_up(settings: Settings, spawn: Spawn) -> Running:
    """Adopt or start the server, under its lock."""
    deadline = time.monotonic() + settings.embedded.start_timeout_s
    directory = valkey_directory(settings)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        if running := running_valkey(settings):
            return running
        descriptor = processes.try_lock(directory / "alive.lock")
        if descriptor is not None:
            try:
                if running := _start(settings, spawn, descriptor, deadline):
                    return running
            finally:
                os.close(descriptor)  # the server keeps its inherited copy
        elif time.monotonic() > deadline:
            raise Unavailable(
                f"Valkey runs but does not answer; it may be reading its file ({log_file(settings, 'valkey')}). "
                "Run the command again in a while.",
                code="embedded_not_ready",
            )
        time.sleep(processes.POLL_S)


def _start(settings: Settings, spawn: Spawn, descriptor: int, deadline: float) -> Running | None:
    """Start the server; None when its port was taken in between.

    Raises: Unavailable with the reason from its log.
    """
    record = read_record(settings, "valkey")
    port = processes.choose_port(record.port if record else None)
    write_private(_configuration(settings), CONFIGURATION.format(port=port, password=secret(settings, PASSWORD)))
    # noted before it is started: if we are killed in between, the next command knows where to ask
    write_record(settings, "valkey", ServerRecord(0, port, utc_now().isoformat()))
    log = fresh_log(settings, "valkey")
    offset = log.stat().st_size
    arguments = (str(valkey_server()), str(_configuration(settings)))
    pid = spawn(Launch(arguments, log, valkey_directory(settings), {}, signal.SIGTERM, (descriptor,)))
    while processes.command_line(pid):
        if running := running_valkey(settings):
            write_record(settings, "valkey", ServerRecord(running.pid, port, utc_now().isoformat()))
            return running
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Valkey (process {pid}) has not answered yet (log: {log}). Run the command again in a while.",
                code="embedded_not_ready",
            )
        time.sleep(processes.POLL_S)
    text = read_log(log, offset)
    if "Address already in use" in text:
        return None
    directory = valkey_directory(settings)
    message = f"Valkey does not start in {directory}: {why_it_ended(text, directory)}. Mend that (log: {log})"
    raise Unavailable(f"{message}, choose another SMS_DATA_DIR, or set REDIS_URL.", code="embedded_start")
