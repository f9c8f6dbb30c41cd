"""PostgreSQL's own backup programs: the right version found, run without a secret in sight, their errors read.

They run as whoever runs us, root included: they are clients, and what they write is ours to keep. Only a restored data
directory is given to the account of the server that is to use it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.core.database import libpq_url
from app.core.errors import AppError, Broken, Conflict, Forbidden, Unavailable

SYSTEM_PLACES = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
)
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
POLL_S = 0.5
STOP_S = 10.0
ROLE_REFUSALS = ("permission denied to start WAL sender", "replication role", "REPLICATION attribute", "pg_hba.conf")
NO_SUMMARIES = ("WAL summar", "system identifier", "timeline")
"""Why pg_basebackup cannot build on a parent; a full backup always can be made."""


@dataclass(frozen=True, slots=True)
class PgTools:
    """Where PostgreSQL's programs are looked for first (None: the usual places, then PATH), and the server's account.

    `run_as` holds the keyword arguments `user` and `group` of subprocess, as numbers; empty unless we are root.
    """

    bin_dir: Path | None = None
    run_as: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit code and what it wrote to stderr."""

    code: int
    stderr: str


def program(tools: PgTools, name: str, major: int) -> Path:
    """The program `name` of PostgreSQL `major`; another will not do, as WAL is read by its own version only.

    Raises: Unavailable when there is none.
    """
    places = [tools.bin_dir] if tools.bin_dir else []
    places += [Path(place.format(major=major)) for place in SYSTEM_PLACES]
    if on_path := shutil.which(name):
        places.append(Path(on_path).parent)
    others: list[str] = []
    for place in places:
        version = _version_of(place / name)
        if version == major:
            return place / name
        if version is not None:
            others.append(f"version {version} in {place}")
    found = f"found only {', '.join(others)}" if others else "found none"
    raise Unavailable(
        f"{name} of PostgreSQL {major} is needed and {found}. Install the client programs of PostgreSQL {major} "
        f"(Debian: postgresql-client-{major}), or put them on PATH.",
        code="backup_tools",
    )


def _version_of(path: Path) -> int | None:
    """The major version that a program says it has; None when there is no such program or it does not run."""
    try:
        said = subprocess.run(
            [path, "--version"],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(),
            cwd="/",
        )
    except OSError:
        return None
    match = VERSION.search(said.stdout)
    return int(match[1]) if match else None


def connection_of(db_url: str, application_name: str) -> tuple[str, dict[str, str]]:
    """(connection string, environment) for a program; the password is in the latter, seen by us and root only."""
    parameters = conninfo_to_dict(libpq_url(db_url))
    password = parameters.pop("password", None)
    secret = {"PGPASSWORD": str(password)} if password is not None else {}
    return make_conninfo("", **{**parameters, "application_name": application_name}), secret


def run_program(
    command: Sequence[str],
    *,
    cwd: Path,
    secret: Mapping[str, str] | None = None,
    tick: Callable[[], None] | None = None,
) -> Finished:
    """Run a program to its end; `tick` is called twice a second, and when it raises, the program is stopped.

    It has a session of its own: a Ctrl-C in the terminal is for us to handle, not for it.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=cwd,
            env=_environment() | dict(secret or {}),
            start_new_session=True,
        )
        try:
            while (code := _wait(process, POLL_S)) is None:
                if tick:
                    tick()
        finally:
            if process.poll() is None:
                process.terminate()
                if _wait(process, STOP_S) is None:
                    process.kill()
                    process.wait()
        errors.seek(0)
        return Finished(code, errors.read().decode(errors="replace"))


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _environment() -> dict[str, str]:
    """Ours, PG* variables included because psycopg obeys them too, and messages in English, which we read."""
    return {**os.environ, "LC_ALL": "C", "LC_MESSAGES": "C"}


def check_data(
    tools: PgTools, major: int, backup: Path, name: str, tick: Callable[[], None] | None = None
) -> str | None:
    """Why the data directory `name` in `backup` is not what its manifest says; None when it is whole, WAL included.

    Named relative to its place, because pg_verifybackup hands paths to a shell.
    Raises: Unavailable without the programs, Forbidden when we may not read it.
    """
    program(tools, "pg_waldump", major)  # pg_verifybackup calls it
    if not os.access(backup / name, os.R_OK | os.X_OK):
        if (backup / name).exists() or not os.access(backup, os.X_OK):
            raise Forbidden(f"{backup} may not be read by this user; run it as its owner.", code="backup_forbidden")
        return f"there is no directory {name} in it"
    command = [str(program(tools, "pg_verifybackup", major)), "--quiet", "--exit-on-error", name]
    finished = run_program(command, cwd=backup, tick=tick)
    return None if finished.code == 0 else reason_of(finished)


def reason_of(finished: Finished) -> str:
    """The line of a program's output that says best why it failed, without the program's name."""
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "FATAL:" in line]
    best = (telling or lines or [f"it ended with code {finished.code}"])[0]
    return re.sub(r"^pg_\w+: (error: |fatal: )?", "", best).rstrip(".")


def failure(finished: Finished, directory: Path) -> AppError:
    """What a failed pg_basebackup or pg_combinebackup means to whoever runs it, in one line."""
    reason = reason_of(finished)
    if "No space left on device" in finished.stderr:
        return Unavailable(
            f"The disk of {directory} is full. Free space, or name another directory; nothing half-done was kept.",
            code="backup_disk_full",
        )
    if any(words in finished.stderr for words in ROLE_REFUSALS):
        return Forbidden(
            f"The server does not let this role take a base backup: {reason}. It needs the REPLICATION attribute and a "
            "line for `replication` in pg_hba.conf; set DATABASE_ADMIN_URL to a role that has them.",
            code="backup_role",
        )
    if any(words in finished.stderr for words in NO_SUMMARIES):
        return Conflict(f"An incremental backup is not possible: {reason}.", code="backup_no_summaries")
    if "checksum" in finished.stderr:
        return Broken(
            f"PostgreSQL found damaged data while it was copied: {reason}. Its log names the file; mend the disk and "
            "restore from an earlier backup.",
            code="backup_damaged_data",
        )
    return Unavailable(f"The backup could not be made: {reason}.", code="backup_failed")
