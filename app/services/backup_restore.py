"""Backups proven whole again, and put together into a data directory that a server can be started on.

Nothing here needs the database that was backed up: when it is at hand, what is found is written down there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.core.errors import AppError, Broken, Conflict, InvalidInput, NotFound
from app.core.logs import get_logger
from app.models.backup import BackupKind, BackupState
from app.services import backup_catalog as catalog
from app.services import pg_tools, source_backup
from app.services.backup_catalog import PARTIAL, Backup, Descriptor
from app.services.backup_service import DATA, MANIFEST_CHECKSUMS, BackupProgress
from app.services.pg_tools import PgTools

COMBINING_SINCE = 17
Progress = Callable[[BackupProgress], None]
log = get_logger("backup")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found of one backup; `reason` is None when it is whole."""

    id: int
    kind: str
    path: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Restored:
    """A data directory made from a chain of backups. `owner`: numeric account that owns it. Units: bytes, seconds."""

    path: str
    chain: tuple[int, ...]
    server_major: int
    owner: int
    bytes: int
    seconds: float


def find_directory(reference: str, directory: Path, db_url: str | None = None) -> Path:
    """The directory of a backup named by its number or its path; the database is asked first, if there is one.

    Raises: NotFound, Conflict (it failed, it is not finished, or several in `directory` have this number).
    """
    if not reference.isdecimal():
        path = Path(reference).expanduser().absolute()
        catalog.read_descriptor(path)
        return path
    number = int(reference)
    if db_url is not None:
        try:
            with catalog.catalogue(db_url) as session:
                row = catalog.find_row(session, number)
        except AppError as error:
            log.info("looking in the directory of backups", directory=str(directory), reason=str(error))
        else:
            if row.state != BackupState.VERIFIED:
                raise Conflict(f"Backup {number} is {row.state}: {row.error or 'wait for it'}.", code="backup_unusable")
            return Path(row.path)
    found = [path for path, descriptor in catalog.found_in(directory).items() if descriptor.id == number]
    if len(found) > 1:
        raise Conflict(
            f"Several backups in {directory} have the number {number}; give a path.", code="backup_ambiguous"
        )
    if not found:
        raise NotFound(f"There is no backup {number} in {directory}.", code="backup_not_found")
    return found[0]


def list_directory(directory: Path) -> list[Backup]:
    """The complete backups that lie in `directory`, newest first, as their own files describe them."""
    return [
        Backup(
            id=it.id, kind=it.kind, label=it.label, path=str(path), parent_id=it.parent_id, run_id=it.run_id,
            bytes=it.bytes, started_at=datetime.fromisoformat(it.started_at),
            finished_at=datetime.fromisoformat(it.finished_at), verified_at=datetime.fromisoformat(it.finished_at),
            state=BackupState.VERIFIED, error=None,
        )
        for path, it in reversed(catalog.found_in(directory.expanduser().absolute()).items())
    ]  # fmt: skip


def verify(path: Path, tools: PgTools, db_url: str | None = None, progress: Progress | None = None) -> list[Verdict]:
    """Prove the backup in `path` and all that it builds on; a damaged one becomes 'failed' in the database.

    Raises: NotFound when a link of the chain is gone, Unavailable without the programs.
    """
    return [_verdict(at, descriptor, tools, db_url, progress) for at, descriptor in catalog.chain_of(path)]


def verify_all(db_url: str, tools: PgTools, progress: Progress | None = None) -> list[Verdict]:
    """Prove every verified backup that the database knows of, oldest first; one that is gone is told, not marked."""
    with catalog.catalogue(db_url) as session:
        rows = [row for row in catalog.all_backups(session) if row.state == BackupState.VERIFIED]
    verdicts = []
    for row in reversed(rows):
        path = Path(row.path)
        try:
            descriptor = catalog.read_descriptor(path)
        except AppError as error:
            verdicts.append(Verdict(row.id, row.kind, row.path, str(error)))
        else:
            verdicts.append(_verdict(path, descriptor, tools, db_url, progress))
    return verdicts


def restore_chain(path: Path, target: Path, tools: PgTools, *, progress: Progress | None = None) -> Restored:
    """Verify the backup in `path` and all that it builds on, and make the data directory `target` of them.

    `target` must be absent or empty. It appears only when it is whole. As root it is given to whom an empty `target`
    belonged, else to the server's account of `tools`.
    Raises: Conflict (something is in the target), Broken (damage), NotFound (a link is gone), Unavailable (disk,
    programs).
    """
    started = time.monotonic()
    chain = catalog.chain_of(path)
    newest = chain[-1][1]
    if newest.kind == BackupKind.SOURCE:
        raise InvalidInput(
            f"Backup {newest.id} is a copy of the source: copy {path / (newest.file or '')} where you want it.",
            code="backup_is_source",
        )
    target = target.expanduser().absolute()
    owner = _owner_of_target(target, tools)
    for at, descriptor in chain:
        verdict = _verdict(at, descriptor, tools, None, progress)
        if verdict.reason:
            raise Broken(
                f"Backup {verdict.id} is damaged: {verdict.reason}. {at} is left as it is.", code="backup_damaged"
            )
    catalog.require_free(target.parent, sum(link.bytes for _, link in chain), "The restored directory")
    partial = _make_partial(target)
    try:
        _combine([at for at, _ in chain], newest.server_major, partial, tools, progress)
        _hand_over(partial / DATA, owner)
        size = catalog.size_of(partial / DATA)
        if target.exists():
            target.rmdir()
        (partial / DATA).rename(target)
        catalog.sync_directory(target.parent)
    except OSError as error:
        raise catalog.unusable(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    numbers = tuple(link.id for _, link in chain)
    return Restored(str(target), numbers, newest.server_major, target.stat().st_uid, size, time.monotonic() - started)


def _verdict(
    path: Path, descriptor: Descriptor, tools: PgTools, db_url: str | None, progress: Progress | None
) -> Verdict:
    """Prove one backup, and write the outcome into its row where there is one."""
    tell = progress or (lambda _: None)
    tell(BackupProgress("verify", 0, descriptor.bytes))
    if descriptor.kind == BackupKind.SOURCE:
        reason = source_backup.check_copy(
            path, descriptor, lambda done, total: tell(BackupProgress("verify", done, total))
        )
    else:
        reason = pg_tools.check_data(tools, descriptor.server_major, path, DATA)
    if db_url is not None:
        with catalog.catalogue(db_url) as session:
            for row in catalog.all_backups(session):
                if row.path == str(path) and reason:
                    catalog.fail(session, row.id, f"damaged: {reason}")
                elif row.path == str(path):
                    catalog.note_verified(session, row.id)
    return Verdict(descriptor.id, descriptor.kind, str(path), reason)


def _owner_of_target(target: Path, tools: PgTools) -> tuple[int, int] | None:
    """(user, group) that is to own the restored directory; None: whoever runs us.

    Raises: Conflict when something is in the way, NotFound when there is no directory to put it in.
    """
    if not target.parent.is_dir():
        raise NotFound(f"There is no directory {target.parent}; make it first.", code="restore_target")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Conflict(f"{target} is in the way; name a directory that does not exist yet.", code="restore_target")
    as_root = os.geteuid() == 0
    if target.exists():
        if target.is_mount():
            raise Conflict(f"{target} is a mount point; name a directory inside it.", code="restore_target")
        if any(target.iterdir()):
            raise Conflict(
                f"{target} is not empty. Move what is in it away (with the server stopped), or name another directory.",
                code="restore_target",
            )
        found = target.stat()
        if as_root and found.st_uid != 0:
            return found.st_uid, found.st_gid
    user, group = tools.run_as.get("user"), tools.run_as.get("group")
    return (user, group) if as_root and isinstance(user, int) and isinstance(group, int) else None


def _make_partial(target: Path) -> Path:
    partial = target.with_name(target.name + PARTIAL)
    try:
        partial.mkdir(mode=0o700)
    except FileExistsError as error:
        raise Conflict(
            f"{partial} is in the way: a restore that was killed left it, or one is running. Remove it in the first case.",
            code="restore_target",
        ) from error
    except OSError as error:
        raise catalog.unusable(target.parent, error) from error
    return partial


def _combine(chain: list[Path], major: int, partial: Path, tools: PgTools, progress: Progress | None) -> None:
    """One whole data directory of a verified chain, itself verified, in `partial`."""
    target = partial / DATA
    if progress:
        progress(BackupProgress("restore"))
    if len(chain) == 1:
        shutil.copytree(chain[0] / DATA, target, symlinks=True, copy_function=_copy_durably)
    else:
        if major < COMBINING_SINCE:
            raise Conflict(f"PostgreSQL {major} has no incremental backups.", code="backup_tools")
        command = [str(pg_tools.program(tools, "pg_combinebackup", major)), "--output", str(target)]
        command += ["--manifest-checksums", MANIFEST_CHECKSUMS, *(str(at / DATA) for at in chain)]
        finished = pg_tools.run_program(command, cwd=partial)
        if finished.code != 0:
            raise pg_tools.failure(finished, partial.parent)
    if progress:
        progress(BackupProgress("verify"))
    if reason := pg_tools.check_data(tools, major, partial, DATA):
        raise Broken(f"What was put together is not whole: {reason}. Nothing was restored.", code="restore_damaged")


def _copy_durably(source: str, target: str) -> None:
    shutil.copy2(source, target)
    with Path(target).open("rb") as file:
        os.fsync(file.fileno())


def _hand_over(data: Path, owner: tuple[int, int] | None) -> None:
    """Give a data directory to the account that will run the server on it; PostgreSQL starts on no other."""
    if owner is None:
        return
    for folder, _, files in os.walk(data):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            os.chown(path, *owner, follow_symlinks=False)
