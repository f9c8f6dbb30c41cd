"""A copy of numeros.db before it is moved: byte for byte, SHA-256 proven on both sides, the source never written."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg import Connection

from app.core.clock import utc_now
from app.core.errors import AppError, Broken, Conflict, InvalidInput, NotFound, Unavailable
from app.core.logs import get_logger
from app.models.backup import BackupKind, BackupState
from app.services import backup_catalog as catalog
from app.services.backup_catalog import Backup, Descriptor

CHUNK = 4 << 20
WAL_FORMAT = 2
LOCK_WAIT_S = 5.0
Tick = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

log = get_logger("backup")
_kept_open: list[int] = []
"""Descriptors of sources, never closed: POSIX drops every lock that a process holds on a file as soon as it closes any
descriptor of it, and the migration's SQLite connection holds one. One descriptor for each copy that a process makes."""


def source_copy(
    db_url: str, sqlite_path: Path, directory: Path, *, run_id: int | None = None, sha256: str | None = None,
    tick: Tick | None = None,
) -> Backup:  # fmt: skip
    """A verified copy of the SQLite file in `directory`; the one that is there already when its content is the same.

    `sha256`: of the source, where the caller has just computed it. The file is read under a read transaction, so that
    no writer commits meanwhile; 4 MB of memory.
    Raises: NotFound, Conflict (it is being written, or is not what `sha256` says), Unavailable (disk, database).
    """
    source = sqlite_path.absolute()
    target = catalog.prepare_directory(directory)
    with catalog.making(db_url) as session, _held_still(source) as file:
        size = os.fstat(file).st_size
        known = sha256 or _hash(file, tick)
        if found := _same_content(session, known, size):
            log.info("the source was copied before", backup=found.id, path=found.path)
            return found
        catalog.require_free(target, size, f"A copy of {source.name}")
        row = catalog.open_row(session, target, BackupKind.SOURCE, source.name, run_id=run_id, stem=known[:16])
        try:
            partial = catalog.make_partial(row)
            _copy_hashing(file, partial / source.name, known, tick)
            made = _publish(session, row, source, known, partial, tick=tick)
        except BaseException as error:
            catalog.give_up(session, row, error)
            if isinstance(error, OSError):
                raise catalog.unusable(target, error) from error
            raise
        return catalog.finish(session, row.id, made)


def check_copy(path: Path, descriptor: Descriptor, tick: Tick | None = None) -> str | None:
    """Why the copied file in `path` is not what was copied; None when its SHA-256 is the source's.

    Raises: Unavailable when it cannot be read.
    """
    copied = path / (descriptor.file or "")
    try:
        with copied.open("rb", buffering=0) as file:
            found = _hash(file.fileno(), tick)
    except FileNotFoundError:
        return f"{copied.name} is not there"
    except OSError as error:
        raise catalog.unusable(path, error) from error
    return None if found == descriptor.sha256 else f"the SHA-256 of {copied.name} is another"


def _publish(
    session: Connection, row: Backup, source: Path, sha256: str, partial: Path, *, tick: Tick | None
) -> int:  # fmt: skip
    """Read the copy back, and give it its name when it is equal; its bytes."""
    descriptor = Descriptor(
        id=row.id, kind=BackupKind.SOURCE, label=row.label, parent=None, parent_id=None, run_id=row.run_id,
        bytes=(partial / source.name).stat().st_size, started_at=row.started_at.isoformat(),
        finished_at=utc_now().isoformat(), database=session.info.dbname,
        server_major=session.info.server_version // 10_000, sha256=sha256, file=source.name,
    )  # fmt: skip
    if reason := check_copy(partial, descriptor, tick):
        raise Broken(f"The copy of {source} is not what was written: {reason}. Check the disk.", code="backup_unequal")
    catalog.publish(partial, descriptor)
    return descriptor.bytes


def _copy_hashing(file: int, target: Path, sha256: str, tick: Tick | None) -> None:
    """Copy the open file to `target`, durably, and out of memory so that the disk is what is read back.

    Raises: Conflict when what was read has not the SHA-256 `sha256`.
    """
    digest = hashlib.sha256()
    size = os.fstat(file).st_size
    done = 0
    target.touch(mode=0o600, exist_ok=False)
    with target.open("wb", buffering=0) as copy:
        while chunk := os.pread(file, CHUNK, done):
            digest.update(chunk)
            left = memoryview(chunk)
            while left:
                left = left[copy.write(left) or 0 :]
            done += len(chunk)
            if tick:
                tick(done, size)
        os.fsync(copy.fileno())
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if digest.hexdigest() != sha256:
        raise Conflict(
            "The source was changed while it was read: its SHA-256 is another. Run the command again.",
            code="source_changed",
        )


def _hash(file: int, tick: Tick | None) -> str:
    digest = hashlib.sha256()
    size = os.fstat(file).st_size
    done = 0
    while chunk := os.pread(file, CHUNK, done):
        digest.update(chunk)
        done += len(chunk)
        if tick:
            tick(done, size)
    return digest.hexdigest()


def _same_content(session: Connection, sha256: str, size: int) -> Backup | None:
    """A verified copy of the same content that is still there."""
    for row in catalog.all_backups(session):
        if row.kind != BackupKind.SOURCE or row.state != BackupState.VERIFIED or row.bytes != size:
            continue
        try:
            there = catalog.read_descriptor(Path(row.path))
        except AppError as error:
            log.warning("a backup of the source is not usable", backup=row.id, reason=str(error))
            continue
        copied = Path(row.path) / (there.file or "")
        if there.sha256 == sha256 and copied.is_file() and copied.stat().st_size == size:
            return row
    return None


@contextmanager
def _held_still(path: Path) -> Iterator[int]:
    """A descriptor of the file while a read transaction keeps writers from committing to it."""
    for suffix in ("-wal", "-journal"):
        side = path.with_name(path.name + suffix)
        if side.exists() and side.stat().st_size > 0:
            raise Conflict(
                f"{side.name} beside the source shows that a program is writing to it. Let it finish and close it.",
                code="source_busy",
            )
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}. Check the path.", code="source_not_found") from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.", code="source_io") from error
    _kept_open.append(file)
    # In WAL mode even a reader writes side files; immutable keeps it from that. A WAL with content was refused above.
    immutable = WAL_FORMAT in os.pread(file, 2, 18)
    uri = "file://" + quote(os.fsencode(path)) + ("?mode=ro&immutable=1" if immutable else "?mode=ro")
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield file
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path} is locked or cannot be read: {error}.", code="source_locked") from error
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} is not a usable SQLite file: {error}.", code="source_not_sqlite") from error
