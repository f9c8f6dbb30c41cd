"""Opening somebody's SQLite file: read-only, never written, and refused with one line when it is not fit to be read."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.core.errors import AppError, Conflict, Forbidden, InvalidInput, NotFound, Unavailable

MAGIC = b"SQLite format 3\x00"
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
HEADER_BYTES = 100
LOCK_WAIT_S = 5.0
ENCODINGS = {1: "UTF-8", 2: "UTF-16le", 3: "UTF-16be"}
WAL_FORMAT = 2
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's library raises through Python: a message about a damaged schema may hold bytes that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class SourceHeader:
    """The first 100 bytes of a SQLite file, as far as a reader needs them."""

    page_size: int
    page_count: int
    reserved_bytes: int
    encoding: str
    is_wal: bool
    change_counter: int
    schema_cookie: int


def read_header(path: Path) -> SourceHeader:
    """The database header of `path`.

    Raises: NotFound, Forbidden, InvalidInput when there is no such file, it may not be read, or it is not SQLite.
    Source: https://www.sqlite.org/fileformat2.html, "The Database Header".
    """
    size = _regular_file_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if size == 0:
        raise InvalidInput(f"{shown(path)} is empty: it is not a SQLite database.", code="source_not_sqlite")
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise InvalidInput(f"{shown(path)} is not a SQLite 3 database.", code="source_not_sqlite")
    raw_page_size = int.from_bytes(head[16:18], "big")
    page_size = 65536 if raw_page_size == 1 else raw_page_size
    if page_size < 512 or page_size & (page_size - 1):
        raise _corrupt(path, f"its header gives a page size of {page_size}")
    return SourceHeader(
        page_size=page_size,
        page_count=_page_count(path, head, size, page_size),
        reserved_bytes=head[20],
        encoding=ENCODINGS.get(int.from_bytes(head[56:60], "big"), "UTF-8"),
        is_wal=WAL_FORMAT in (head[18], head[19]),
        change_counter=int.from_bytes(head[24:28], "big"),
        schema_cookie=int.from_bytes(head[40:44], "big"),
    )


def open_source(path: Path) -> sqlite3.Connection:
    """A read-only connection to `path` that gives TEXT as bytes and cannot write, not even a side file.

    It may be used from any one thread at a time. Close it yourself.
    Raises: NotFound (no file), InvalidInput (not SQLite, cut short, corrupt), Forbidden (may not be read), Conflict
    (a journal or WAL holds changes that are not in the file yet), Unavailable (locked by a writer).
    """
    header = read_header(path)
    _refuse_pending_changes(path)
    try:
        connection = sqlite3.connect(
            _uri(path, immutable=header.is_wal), uri=True, timeout=LOCK_WAIT_S, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise translate_error(path, error) from error
    try:
        connection.isolation_level = None
        connection.text_factory = bytes
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA trusted_schema = 0")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except SQLITE_ERRORS as error:
        connection.close()
        raise translate_error(path, error) from error
    return connection


def translate_error(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> AppError:
    """What a SQLite error on `path` means to the person who gave the path: one line and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            f"{shown(path)} is locked by another program that writes to it. Let it finish, or copy the file with "
            "`sqlite3 … .backup` and use the copy.",
            code="source_locked",
        )
    if code in (sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN):
        return Forbidden(
            f"{shown(path)} cannot be opened for reading: {error}. Check its permissions.", code="source_forbidden"
        )
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM):
        return Unavailable(f"{shown(path)} could not be read: {error}. Check the disk.", code="source_io")
    if code == sqlite3.SQLITE_NOTADB:
        return InvalidInput(
            f"{shown(path)} is not a SQLite database, or it is encrypted: {error}.", code="source_not_sqlite"
        )
    return _corrupt(path, "its schema is damaged" if isinstance(error, UnicodeDecodeError) else str(error))


def _uri(path: Path, *, immutable: bool) -> str:
    """A file: URI that survives ?, #, %, spaces and bytes that are not UTF-8.

    A database in WAL mode is opened immutable: otherwise even a reader creates -shm and -wal beside it. That is safe
    because a WAL with content was refused before.
    """
    absolute = os.fsencode(path.absolute())
    return "file://" + quote(absolute) + ("?mode=ro&immutable=1" if immutable else "?mode=ro")


def _regular_file_size(path: Path) -> int:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no file {shown(path)}. Check the path.", code="source_not_found") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InvalidInput(f"{shown(path)} is {kind}: give the path of a SQLite file.", code="source_not_a_file")
    return status.st_size


def _page_count(path: Path, head: bytes, size: int, page_size: int) -> int:
    """Pages in the database; the header's own count holds only if its writer knew of it (bytes 92 to 95)."""
    declared = int.from_bytes(head[28:32], "big")
    if not declared or head[24:28] != head[92:96]:
        return size // page_size
    if declared * page_size > size:
        raise _corrupt(path, f"it is cut short ({size:,} of {declared * page_size:,} bytes)")
    return declared


def _refuse_pending_changes(path: Path) -> None:
    wal = path.with_name(path.name + "-wal")
    if _size_or_zero(wal) > 0:
        raise Conflict(
            f"{shown(wal)} holds changes that are not in the database file yet. Close the program that uses it, then "
            "run: sqlite3 FILE 'PRAGMA wal_checkpoint(TRUNCATE)'.",
            code="source_wal_pending",
        )
    journal = path.with_name(path.name + "-journal")
    if _size_or_zero(journal) > 0 and _starts_with(journal, JOURNAL_MAGIC):
        raise Conflict(
            f"{shown(journal)} shows that a program is writing to the database or was interrupted while it did. Let "
            "it finish, or recover once with: sqlite3 FILE 'PRAGMA integrity_check'.",
            code="source_journal_pending",
        )


def _size_or_zero(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unreadable(path, error) from error


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def shown(path: Path) -> str:
    """`path` fit for a terminal: bytes that are not UTF-8 and control characters made visible."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def require_utf8_name(path: Path) -> Path:
    """`path` itself. Raises: InvalidInput when its name is not UTF-8, which the ledger could not keep."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The name of {shown(path)} is not UTF-8, and the ledger keeps it: rename the file.", code="source_name"
        ) from error
    return path


def _unreadable(path: Path, error: OSError | ValueError) -> AppError:
    if isinstance(error, PermissionError):
        return Forbidden(f"{shown(path)} may not be read by this user. Check its permissions.", code="source_forbidden")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unavailable(f"{shown(path)} cannot be read: {reason}.", code="source_io")


def _corrupt(path: Path, reason: str) -> AppError:
    return InvalidInput(
        f"{shown(path)} is corrupt: {reason}. Restore it from a backup, or rescue it with: sqlite3 FILE .recover.",
        code="source_corrupt",
    )
