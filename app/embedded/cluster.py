"""One PostgreSQL cluster on disk: made whole or not at all, its postmaster found, started and stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.core.config import Settings
from app.core.errors import Unavailable
from app.embedded import processes
from app.embedded.layout import Home, fresh_log, secret, write_as
from app.embedded.postgres_conf import CONF_NAME, render
from app.embedded.processes import Launch, Spawn

OWNER = "sms_owner"
PASSWORD = "postgres_password"  # noqa: S105 - the name of its file
API_PASSWORD = "api_password"  # noqa: S105 - likewise, of the role that the application signs in with
# Fast shutdown; when a checkpoint outlasts it, immediate (recovers at the next start); then by force.
STOP_STEPS = ((signal.SIGINT, 180.0), (signal.SIGQUIT, 20.0), (signal.SIGKILL, 10.0))
# Reasons that pass by themselves: children of a killed postmaster go away, a start that lost a race finds the winner.
PASSING = ("pre-existing shared memory block", 'lock file "postmaster.pid"')
PORT_TAKEN = ("Address already in use", "could not create any TCP/IP sockets")
ORPHANS_MAY_LIVE_S = 2.0
INITDB_ENDS_S = 10.0
REASON_CHARACTERS = 300
DISK_FULL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server as its postmaster.pid tells it."""

    pid: int
    port: int
    since: datetime


def find_postmaster(data: Path) -> Postmaster | None:
    """The live postmaster of this data directory, or None; a pid that now is another process does not count."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        pid, since, port = int(lines[0]), int(lines[2]), int(lines[3])
    except (FileNotFoundError, IndexError, ValueError):  # absent, or still being written
        return None
    if str(data) not in processes.command_line(pid):
        return None
    return Postmaster(pid, port, datetime.fromtimestamp(since, UTC))


def read_log(log: Path, offset: int) -> str:
    """What was written to a log since `offset` bytes."""
    with log.open("rb") as file:
        file.seek(offset)
        return file.read(1 << 20).decode(errors="replace")


def why_it_ended(text: str, directory: Path) -> str:
    """What best says why a server that wrote `text` ended, in at most 300 characters."""
    if shutil.disk_usage(directory).free < DISK_FULL_BYTES:
        return "the disk is full"  # then the log often could not be written either
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL:", "PANIC:", "error:", "ERROR:"))]
    best = telling[0] if telling else lines[-1] if lines else "its log gives no reason"
    if "contains errors" in best and lines.index(best) > 0:  # of a configuration file; which, is said before
        best = lines[lines.index(best) - 1]
    for word in ("FATAL:", "PANIC:", "ERROR:", "error:", "LOG:"):
        best = best.rpartition(word)[2].strip()
    return best[:REASON_CHARACTERS]


def initialise(settings: Settings, home: Home, programs: Path) -> bool:
    """Make the cluster if there is none; True when it was made.

    initdb fills a temporary directory that is renamed at the end, so that a kill leaves nothing half-made.
    Raises: Unavailable with initdb's reason.
    """
    for left in home.path.glob("init-*"):  # of a start that was killed
        _end_initdb(left)
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    if (home.data / "PG_VERSION").exists():
        return False
    token = secrets.token_hex(4)
    fresh, password_file = home.path / f"init-{token}", home.path / f"init-{token}.password"
    try:
        write_as(password_file, secret(settings, PASSWORD) + "\n", home.run_as)
        reason = _initdb(home, programs, fresh, password_file)
        if reason:
            message = (
                f"PostgreSQL cannot be set up in {home.path}: {reason}. Mend that, or choose another SMS_DATA_DIR."
            )
            raise Unavailable(message, code="embedded_init")
        main_conf = fresh / "postgresql.conf"
        # relative to the data directory; ALTER SYSTEM's own file is read later and therefore wins
        write_as(main_conf, main_conf.read_text(encoding="utf-8") + "\ninclude_dir = 'conf.d'\n", home.run_as)
        write_as(fresh / "conf.d" / CONF_NAME, "", home.run_as)
        fresh.rename(home.data)
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
    return True


def _end_initdb(directory: Path) -> None:
    """Stop an initdb that outlived the command which started it; in order, so that it gives its shared memory back."""

    def at_work() -> list[int]:
        named = [pid for pid in processes.process_ids() if str(directory) in processes.command_line(pid)]
        return named + processes.working_in(directory)

    for pid in at_work():
        if any(Path(argument).name == "initdb" for argument in processes.command_line(pid)[:1]):
            processes.send(pid, signal.SIGTERM)
    deadline = time.monotonic() + INITDB_ENDS_S
    while at_work() and time.monotonic() < deadline:
        time.sleep(processes.POLL_S)


def _initdb(home: Home, programs: Path, fresh: Path, password_file: Path) -> str | None:
    """Run initdb; why it failed, or None."""
    output = ""
    for locale in ("C.UTF-8", "C"):  # libc's part of the locale; not every system has the first
        made = subprocess.run(
            [
                *(
                    str(programs / "initdb"),
                    "--pgdata",
                    str(fresh),
                    "--username",
                    OWNER,
                    "--pwfile",
                    str(password_file),
                ),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--data-checksums"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", locale),
                "--no-instructions",
            ],
            check=False,
            cwd="/",
            env=processes.clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **home.run_as,
        )
        if made.returncode == 0:
            return None
        output = made.stdout
        if "invalid locale name" not in output:
            break
    lines = [line for line in output.splitlines() if "removing" not in line]
    return why_it_ended("\n".join(lines), home.path)


def write_conf(settings: Settings, home: Home, programs: Path) -> None:
    """Write our part of the configuration; read at the start that follows."""
    write_as(home.data / "conf.d" / CONF_NAME, render(settings, programs), home.run_as)


def start(settings: Settings, home: Home, programs: Path, spawn: Spawn, preferred_port: int | None) -> Postmaster:
    """Start the server of an existing cluster and return once it has its postmaster.pid and port.

    To be called under the server's lock. Retries what passes by itself after a kill.
    Raises: Unavailable with the reason from the server's log.
    """
    log = fresh_log(settings, "postgres")
    deadline = time.monotonic() + settings.embedded.start_timeout_s
    began, port = time.monotonic(), processes.choose_port(preferred_port)
    while True:
        _clear_stale_lock(home)
        offset = log.stat().st_size
        arguments = (str(programs / "postgres"), "-D", str(home.data), "-p", str(port))
        pid = spawn(Launch(arguments, log, Path("/"), home.run_as, signal.SIGINT))
        if running := _await_postmaster(home.data, pid, deadline):
            return running
        text = read_log(log, offset)
        in_time = time.monotonic() < deadline
        if in_time and any(words in text for words in PORT_TAKEN):
            port = processes.choose_port(None)
        elif in_time and any(words in text for words in PASSING):
            if time.monotonic() - began > ORPHANS_MAY_LIVE_S:
                kill_orphans(home)
            time.sleep(0.3)
        else:
            raise Unavailable(
                f"PostgreSQL does not start in {home.path}: {why_it_ended(text, home.path)}. Mend that (log: {log}), "
                "choose another SMS_DATA_DIR, or set DATABASE_URL.",
                code="embedded_start",
            )


def _await_postmaster(data: Path, pid: int, deadline: float) -> Postmaster | None:
    """The postmaster once it listens (its pid file is complete); None when the process ended first."""
    while time.monotonic() < deadline:
        running = find_postmaster(data)
        if running and _status_line(data) in ("ready", "standby"):
            return running
        if running is None and not processes.command_line(pid):
            return None
        time.sleep(processes.POLL_S)
    return find_postmaster(data)


def _status_line(data: Path) -> str:
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""


def _clear_stale_lock(home: Home) -> None:
    """Remove a postmaster.pid that PostgreSQL would take for a live server's.

    PostgreSQL only asks whether the pid exists. In a container whose first process reaps nobody a killed postmaster
    stays a zombie, and after a reboot the pid may be another program of the same account. Its shared memory, which it
    checks too, still keeps it from starting beside children of the old server.
    """
    lock = home.data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        first = lock.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        if not first.strip().isdigit():
            if time.time() - lock.stat().st_mtime > 5:  # cut short by a crash of the machine
                lock.unlink()
        elif Path(f"/proc/{first.strip()}").exists() and find_postmaster(home.data) is None:
            lock.unlink()


def kill_orphans(home: Home) -> None:
    """End children of a postmaster that is dead: one busy in a long statement notices late. As safe as a crash."""
    if find_postmaster(home.data) is None:
        for pid in processes.working_in(home.data):
            if pid != os.getpid():
                processes.send(pid, signal.SIGKILL)


def stop(home: Home) -> Postmaster | None:
    """Shut the server down, by force in the end; what was running, or None.

    Raises: Unavailable when it cannot be stopped.
    """
    running = find_postmaster(home.data)
    if running is None:
        return None

    def alive() -> bool:
        found = find_postmaster(home.data)
        return (found is not None and found.pid == running.pid) or bool(processes.command_line(running.pid))

    if not processes.stop_process(alive, running.pid, STOP_STEPS):
        raise Unavailable(f"PostgreSQL (process {running.pid}) does not stop.", code="embedded_stop")
    return running
