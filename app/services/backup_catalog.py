"""What is known of backups: rows in `backups`, and in each backup's directory backup.json, which needs no database.

A backup is a directory <kind>-<time>-<id>. While it is made it is called so with `.partial` behind; it gets its name
when it has been verified, so that a directory with that name is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row

from app.core.database import connect
from app.core.errors import AppError, Broken, Conflict, InvalidInput, NotFound, Unavailable
from app.core.logs import get_logger
from app.models.backup import BackupKind, BackupState

BACKUP_LOCK = 7_302_030
"""Advisory lock of whoever makes a backup: while it is free, a row in state 'running' is of one that was killed."""

DESCRIPTOR = "backup.json"
PARTIAL = ".partial"
NAME = re.compile(r"(full|incremental|source)-[0-9A-Za-z]+-(\d+)\.partial")
MARGIN_BYTES = 64 << 20
log = get_logger("backup")


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup. Units: bytes on disk; `finished_at` minus `started_at` is what it cost, verification included."""

    id: int
    kind: str
    label: str
    path: str
    parent_id: int | None
    run_id: int | None
    bytes: int | None
    started_at: datetime
    finished_at: datetime | None
    verified_at: datetime | None
    state: str
    error: str | None

    @property
    def seconds(self) -> float | None:
        """How long it took, None while it is not finished."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


COLUMNS = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(Backup))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """backup.json: what a backup is, so that it can be verified and restored when its database is gone.

    `parent`: name of the directory beside this one that it builds on. `sha256` and `file`: of a copied source.
    """

    id: int
    kind: str
    label: str
    parent: str | None
    parent_id: int | None
    run_id: int | None
    bytes: int
    started_at: str
    finished_at: str
    database: str
    server_major: int
    sha256: str | None = None
    file: str | None = None


@contextmanager
def catalogue(db_url: str) -> Iterator[Connection]:
    """An autocommit session on a database that has the table `backups`.

    Raises: Unavailable when the database cannot be used or is lost meanwhile, Conflict when it has no schema.
    """
    with contextlib.closing(connect(db_url, autocommit=True, application_name="smsctl backup")) as session:
        try:
            # it idles while a copy runs, and the server's owner may have bounded that
            session.execute("SET idle_session_timeout = 0")
            if session.execute("SELECT to_regclass('backups') IS NULL").fetchone() == (True,):
                raise Conflict("The database has no schema yet: run `smsctl db upgrade`.", code="schema_behind")
            yield session
        except psycopg.Error as error:
            # the loader tries again after a lost connection, and after nothing else
            lost = session.closed
            what, code = ("was lost", "database_unreachable") if lost else ("refused", "database_error")
            raise Unavailable(f"PostgreSQL {what}: {_first_line(error)}.", code=code) from error


@contextmanager
def making(db_url: str) -> Iterator[Connection]:
    """As `catalogue`, with the lock of backups; what earlier ones that were killed left behind is cleared away.

    Raises: Conflict when another backup of this database is being made.
    """
    with catalogue(db_url) as session:
        if session.execute("SELECT pg_try_advisory_lock(%s)", (BACKUP_LOCK,)).fetchone() != (True,):
            raise Conflict("Another backup of this database is being made; wait for it.", code="backup_running")
        clear_leftovers(session)
        yield session


def application_name(backup_id: int) -> str:
    """The name under which the copy of this backup is known to the server."""
    return f"smsctl backup {backup_id}"


def open_row(
    session: Connection, directory: Path, kind: BackupKind, label: str, *, run_id: int | None,
    parent_id: int | None = None, stem: str | None = None,
) -> Backup:  # fmt: skip
    """A new row in state 'running' that already says where the backup will be. `stem`: in its name, for the time."""
    with session.transaction(), session.cursor(row_factory=class_row(Backup)) as cursor:
        cursor.execute(
            sql.SQL(
                "INSERT INTO backups (kind, label, path, parent_id, run_id, started_at, state)"
                " VALUES (%s, %s, '', %s, %s, clock_timestamp(), %s) RETURNING {}"
            ).format(COLUMNS),
            (kind, _storable(label), parent_id, run_id, BackupState.RUNNING),
        )
        made = _one(cursor.fetchone())
        path = directory / f"{kind}-{stem or made.started_at.strftime('%Y%m%dT%H%M%SZ')}-{made.id}"
        session.execute("UPDATE backups SET path = %s WHERE id = %s", (str(path), made.id))
    return replace(made, path=str(path))


def finish(session: Connection, backup_id: int, size: int, finished_at: datetime | None = None) -> Backup:
    """Put a running backup into state 'verified'; the row as it is then."""
    with session.cursor(row_factory=class_row(Backup)) as cursor:
        cursor.execute(
            sql.SQL(
                "UPDATE backups SET state = %(verified)s, bytes = %(size)s, error = NULL,"
                " finished_at = coalesce(%(at)s, clock_timestamp()), verified_at = coalesce(%(at)s, clock_timestamp())"
                " WHERE id = %(id)s AND state = %(running)s RETURNING {}"
            ).format(COLUMNS),
            {"verified": BackupState.VERIFIED, "running": BackupState.RUNNING, "id": backup_id, "size": size,
             "at": finished_at},
        )  # fmt: skip
        return _one(cursor.fetchone())


def fail(session: Connection, backup_id: int, reason: str) -> None:
    """Put a backup into state 'failed', with the reason; a failed one stays as it is."""
    session.execute(
        "UPDATE backups SET state = %s, error = %s WHERE id = %s AND state = ANY(%s)",
        (BackupState.FAILED, reason, backup_id, list(BackupState.may_become(BackupState.FAILED))),
    )


def give_up(session: Connection, backup: Backup, error: BaseException) -> None:
    """Remove what there is of a backup that did not come about, and write down why; never raises for the database.

    When the database is gone too, the row stays 'running' and the next backup puts it right.
    """
    remove_partial(Path(backup.path + PARTIAL), backup.id)
    reason = str(error) if isinstance(error, (AppError, OSError)) else f"stopped: {type(error).__name__}"
    try:
        fail(session, backup.id, reason)
    except psycopg.Error as lost:
        log.warning("the failure could not be recorded", backup=backup.id, reason=_first_line(lost))


def note_verified(session: Connection, backup_id: int) -> None:
    """Write down that a backup was proven whole again."""
    session.execute(
        "UPDATE backups SET verified_at = clock_timestamp() WHERE id = %s AND state = %s",
        (backup_id, BackupState.VERIFIED),
    )


def all_backups(session: Connection) -> list[Backup]:
    """Every row, newest first."""
    with session.cursor(row_factory=class_row(Backup)) as cursor:
        return cursor.execute(sql.SQL("SELECT {} FROM backups ORDER BY id DESC").format(COLUMNS)).fetchall()


def find_row(session: Connection, backup_id: int) -> Backup:
    """The row of a backup. Raises: NotFound."""
    with session.cursor(row_factory=class_row(Backup)) as cursor:
        row = cursor.execute(sql.SQL("SELECT {} FROM backups WHERE id = %s").format(COLUMNS), (backup_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no backup {backup_id}; `smsctl backup list` shows them.", code="backup_not_found")
    return row


def clear_leftovers(session: Connection) -> None:
    """Fail what was killed while it ran, and remove its partial directory; to be called under the lock.

    A copy that was given its name had been verified, whatever its row says: that row is put right.
    """
    for row in all_backups(session):
        if row.state != BackupState.RUNNING:
            continue
        # The program outlives a killed parent and would go on writing into what is removed here.
        session.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
            (application_name(row.id),),
        )
        path = Path(row.path)
        if (path / DESCRIPTOR).is_file():
            whole = read_descriptor(path)
            finish(session, row.id, whole.bytes, datetime.fromisoformat(whole.finished_at))
            continue
        remove_partial(path.with_name(path.name + PARTIAL), row.id)
        fail(session, row.id, "it was killed before it was complete")
        log.warning("an earlier backup had been killed; its leftovers were removed", backup=row.id)


def remove_partial(path: Path, backup_id: int) -> None:
    """Remove the unfinished directory of a backup, and nothing that is not called like one."""
    match = NAME.fullmatch(path.name)
    if match and int(match[2]) == backup_id and not path.is_symlink():
        for _ in range(3):  # an orphan that is just ending may still add a file
            shutil.rmtree(path, ignore_errors=True)


def make_partial(backup: Backup) -> Path:
    """The directory in which a backup is made, for us alone: it holds personal data. Raises: OSError."""
    partial = Path(backup.path + PARTIAL)
    partial.mkdir(mode=0o700)
    return partial


def publish(partial: Path, descriptor: Descriptor) -> Path:
    """Write backup.json and give a verified directory its name, durably; its path."""
    with (partial / DESCRIPTOR).open("w", encoding="utf-8") as file:
        json.dump(asdict(descriptor), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(partial)
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    partial.rename(final)
    sync_directory(final.parent)
    return final


def read_descriptor(path: Path) -> Descriptor:
    """What the backup in this directory says of itself.

    Raises: NotFound when it is no backup, Broken when its backup.json cannot be read.
    """
    try:
        return Descriptor(**json.loads((path / DESCRIPTOR).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no backup in {path} (no {DESCRIPTOR}).", code="backup_not_found") from error
    except (OSError, ValueError, TypeError) as error:
        raise Broken(f"{path / DESCRIPTOR} cannot be read: {error}.", code="backup_descriptor") from error


def found_in(directory: Path) -> dict[Path, Descriptor]:
    """The complete backups in a directory, by path, oldest first; what is not a backup is left out."""
    found = {
        path: read_descriptor(path)
        for path in (sorted(directory.iterdir()) if directory.is_dir() else ())
        if not path.name.endswith(PARTIAL) and (path / DESCRIPTOR).is_file()
    }
    return dict(sorted(found.items(), key=lambda item: item[1].started_at))


def chain_of(path: Path) -> list[tuple[Path, Descriptor]]:
    """The backup in `path` behind all that it builds on, the full one first.

    Raises: NotFound when one of them is gone, Broken when they build on each other in a circle.
    """
    chain: list[tuple[Path, Descriptor]] = []
    at: Path | None = path
    while at is not None:
        if any(at == seen for seen, _ in chain):
            raise Broken(f"The backups under {path.parent} build on each other.", code="backup_descriptor")
        descriptor = read_descriptor(at)
        chain.insert(0, (at, descriptor))
        at = at.parent / descriptor.parent if descriptor.parent else None
    return chain


def prepare_directory(directory: Path) -> Path:
    """The directory of backups, absolute; made, for us alone, if it is absent. Raises: Unavailable."""
    path = directory.expanduser().absolute()
    if _storable(str(path)) != str(path):
        raise InvalidInput(
            "The name of the directory for backups is not valid UTF-8; name another.", code="backup_directory"
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unavailable(
            f"The directory {path} cannot be written to; name another with --dir.", code="backup_directory"
        )
    return path


def unusable(path: Path, error: OSError) -> Unavailable:
    """What an error of the file system means, in one line."""
    reason = error.strerror or str(error)
    return Unavailable(
        f"The directory {path} cannot be used: {reason}. Mend that, or name another directory.", code="backup_directory"
    )


def require_free(directory: Path, needed: int, what: str) -> None:
    """Raises: Unavailable when the disk of `directory` has not `needed` bytes and a margin free."""
    free = shutil.disk_usage(directory).free
    if free < needed + MARGIN_BYTES:
        raise Unavailable(
            f"{what} needs about {gigabytes(needed + MARGIN_BYTES)} in {directory}, and {gigabytes(free)} are free. "
            "Free space, or name another directory.",
            code="backup_disk_full",
        )


def gigabytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(directory) for name in names)


def sync_directory(path: Path) -> None:
    """Make a rename or new entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storable(text: str) -> str:
    """`text` as the database takes it: bytes of a file name that are not UTF-8 are made visible."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _one(row: Backup | None) -> Backup:
    if row is None:
        raise Broken("The row of this backup was changed by somebody else.", code="backup_row")
    return row


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().splitlines()[0].rstrip(".")
