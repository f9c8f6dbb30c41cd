"""`smsctl source generate`: checks, the file under a name of its own until it is whole, errors as sentences."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.core.errors import AppError, Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from app.ingest.source_connection import shown
from app.ingest.synthetic.writer import Progress, SyntheticOptions, write_database
from app.utils.numbering_plan import NumberingPlan

MAX_ROWS: Final = 90_000_000  # numbers in the smallest space drawn from, and eight digits in the dirt's texts
# Measured at 2M rows: 294 B a row with all indexes; a sort of SQLite's needs up to 40 B a row of temporary space.
BYTES_A_ROW: Final = 300
SMALLEST_FILE: Final = 1 << 20
SIDE_FILES: Final = ("-journal", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """What `generate` wrote."""

    path: Path
    bytes: int
    rows: int
    dirty_rows: int
    last_id: int
    table_seconds: float
    index_seconds: float
    seconds: float


def generate(
    path: Path, options: SyntheticOptions, plan: NumberingPlan, *, force: bool = False, progress: Progress | None = None
) -> GeneratedFile:
    """Write a synthetic numeros.db at `path`; until it is whole it stands beside it as `path`.partial.

    Raises: InvalidInput (rows or share out of range, path a directory), NotFound (no such directory), Forbidden (may
    not be written), Conflict (the file exists and not `force`, or another run writes it), Unavailable (disk full).
    KeyboardInterrupt passes through; nothing is left behind.
    """
    started = time.perf_counter()
    _check_options(options)
    _check_target(path, force=force)
    _check_space(path, options.rows)
    partial = path.with_name(path.name + ".partial")
    with _reserved(partial):
        written = write_database(partial, options, plan, progress or _silent)
        if not force:
            _check_target(path, force=False)
        _put_in_place(partial, path)
    return GeneratedFile(
        path=path,
        bytes=path.stat().st_size,
        rows=written.rows,
        dirty_rows=written.dirty_rows,
        last_id=written.last_id,
        table_seconds=written.table_seconds,
        index_seconds=written.index_seconds,
        seconds=time.perf_counter() - started,
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    """No progress wanted."""


def _check_options(options: SyntheticOptions) -> None:
    if not 1 <= options.rows <= MAX_ROWS:
        raise InvalidInput(f"--rows must be from 1 to {MAX_ROWS:,}, not {options.rows:,}.", code="rows_out_of_range")
    if not 0 <= options.dirty <= 1:
        raise InvalidInput(f"--dirty is a share from 0 to 1, not {options.dirty}.", code="dirty_out_of_range")


def _check_target(path: Path, *, force: bool) -> None:
    try:
        if not path.parent.is_dir():
            raise NotFound(f"There is no directory {shown(path.parent)}. Create it first.", code="target_not_found")
        if path.is_dir() or (os.path.lexists(path) and not (path.is_file() or path.is_symlink())):
            raise InvalidInput(f"{shown(path)} is not a file name that can be written to.", code="target_not_a_file")
        existing = [name for name in ("", *SIDE_FILES) if os.path.lexists(path.with_name(path.name + name))]
    except (OSError, ValueError) as error:
        raise _as_app_error(path, error) from error
    if existing and not force:
        raise Conflict(
            f"{shown(path.with_name(path.name + existing[0]))} exists already. Give another path, or --force.",
            code="target_exists",
        )


def _check_space(path: Path, rows: int) -> None:
    needed = max(rows * BYTES_A_ROW, SMALLEST_FILE)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise Unavailable(
            f"{rows:,} rows need about {needed / 1e9:.1f} GB and {shown(path.parent)} has {free / 1e9:.1f} GB free. "
            "Free space or ask for fewer rows.",
            code="disk_full",
        )


@contextmanager
def _reserved(partial: Path) -> Iterator[None]:
    """`partial` exists, empty and ours alone; whatever happens inside, no partial file is left.

    The lock is flock's, which does not meet SQLite's own locks. What a killed run left is written over.
    """
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise _as_app_error(partial, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"{shown(partial)} is being written by another run. Wait for it.", code="target_busy"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            yield
        except (OSError, sqlite3.Error) as error:
            raise _as_app_error(partial, error) from error
        finally:
            partial.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _put_in_place(partial: Path, path: Path) -> None:
    for name in SIDE_FILES:  # of the file that is replaced: SQLite would apply them to the new one
        path.with_name(path.name + name).unlink(missing_ok=True)
    partial.replace(path)


def _as_app_error(path: Path, error: OSError | ValueError | sqlite3.Error) -> AppError:
    code = getattr(error, "sqlite_errorcode", None)
    number = error.errno if isinstance(error, OSError) else None
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable(
            f"The disk of {shown(path.parent)} (or the one for temporary files) is full. Free space and run again.",
            code="disk_full",
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Forbidden(
            f"{shown(path)} may not be written by this user. Choose another directory.", code="target_forbidden"
        )
    if number in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP) or isinstance(error, ValueError):
        return InvalidInput(f"{shown(path)} is not a usable path: {error}.", code="target_bad_path")
    return Unavailable(f"{shown(path)} could not be written: {error}.", code="target_io")
