"""Base backups of the whole server, full and incremental, each verified before it counts; and those of a migration.

A backup is a plain data directory as pg_basebackup writes it, with the WAL that it needs, proven by pg_verifybackup.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import Connection

from app.core.clock import utc_now
from app.core.errors import AppError, Broken, Conflict, InvalidInput, NotFound, Unavailable
from app.core.logs import get_logger
from app.models.backup import BackupKind, BackupState
from app.services import backup_catalog as catalog
from app.services import pg_tools, source_backup, tuning_service
from app.services.backup_catalog import Backup, Descriptor
from app.services.pg_tools import PgTools

DATA = "data"
INCREMENTAL_SINCE = 17
MANIFEST_CHECKSUMS = "CRC32C"
"""Against accidents, which is all that a checksum beside the data can prove. 914 MB were copied in 1.6 s and verified
in 0.25 s; with SHA-256, where PostgreSQL is built without OpenSSL, in 4.5 and 3.9 s."""
RELOAD_PATIENCE_S = 10.0
START_OF_BACKUP = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)
log = get_logger("backup")


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """What is being done now ('source', 'copy', 'verify', 'restore'), in bytes; `total` is 0 while it is not known."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BackupCost:
    """What the finished backups of a migration cost: seconds (verification included) and bytes on disk."""

    backups: int
    seconds: float
    bytes: int


class MigrationRun(Protocol):
    """As much of a migration's run as its backups need to know."""

    @property
    def id(self) -> int:
        """Number of the run."""

    @property
    def source_sha256(self) -> str:
        """SHA-256 of its source."""


Progress = Callable[[BackupProgress], None]


@dataclass(frozen=True, slots=True)
class _Order:
    """A base backup to be made."""

    db_url: str
    directory: Path
    tools: PgTools
    label: str
    run_id: int | None
    parent: Backup | None
    progress: Progress

    @property
    def kind(self) -> BackupKind:
        return BackupKind.INCREMENTAL if self.parent else BackupKind.FULL


def create_full(
    db_url: str, directory: Path, tools: PgTools, label: str | None = None, run_id: int | None = None, *,
    progress: Progress | None = None,
) -> Backup:  # fmt: skip
    """A full, verified base backup of the server in a new directory below `directory`; its row.

    Raises: Unavailable (server, programs, disk), Forbidden (role), Conflict (another is being made), Broken (damage).
    """
    target = catalog.prepare_directory(directory)
    order = _Order(db_url, target, tools, label or "full backup", run_id, None, progress or _silent)
    with catalog.making(db_url) as session:
        return _make(session, order)


def create_incremental(
    db_url: str, directory: Path, tools: PgTools, parent: Backup, run_id: int | None = None, *,
    label: str | None = None, progress: Progress | None = None,
) -> Backup:  # fmt: skip
    """A verified backup of what changed since `parent`; a full one, with a line in the log, where that cannot be had.

    It cannot before PostgreSQL 17, where summarize_wal is off and this role may not turn it on, and where the server
    has no summaries back to the parent. Turned on it stays on until `smsctl db tune serve`, or the end of a migration,
    puts it back.
    Raises: as create_full; NotFound when the parent is gone.
    """
    target = catalog.prepare_directory(directory)
    order = _Order(db_url, target, tools, label or "incremental backup", run_id, parent, progress or _silent)
    _require_parent(parent, target)
    with catalog.making(db_url) as session:
        why_not = _why_no_summaries(session, db_url)
        if why_not is None:
            try:
                return _make(session, order)
            except Conflict as error:
                if error.code != "backup_no_summaries":
                    raise
                why_not = str(error)
        log.warning("a full backup is made instead of an incremental one", reason=why_not)
        return _make(session, replace(order, parent=None, label=label or "full backup"))


def list_backups(db_url: str) -> list[Backup]:
    """Every backup that the database knows of, newest first."""
    with catalog.catalogue(db_url) as session:
        return catalog.all_backups(session)


def cost_of_run(db_url: str, run_id: int) -> BackupCost:
    """What the backups of a migration's run cost, to be shown apart from the migration's own time."""
    with catalog.catalogue(db_url) as session:
        row = session.execute(
            "SELECT count(*), coalesce(sum(extract(epoch FROM finished_at - started_at)), 0)::float8,"
            " coalesce(sum(bytes), 0)::bigint FROM backups WHERE run_id = %s AND finished_at IS NOT NULL",
            (run_id,),
        ).fetchone()
    return BackupCost(*row) if row else BackupCost(0, 0.0, 0)


def migration_hook(
    db_url: str | Callable[[], str], sqlite_path: Path, directory: Path, tools: PgTools,
    progress: Progress | None = None,
) -> Callable[[MigrationRun, int], None]:  # fmt: skip
    """What `migrate run --backup-dir` calls between batches with (run, rows read so far).

    At 0 rows: a verified copy of the source, then a base backup. Later: an incremental one that builds on the last of
    this run in `directory`. A run that is taken up again goes on with its chain. The hook raises as create_full does.
    """
    tell = progress or _silent

    def back_up(run: MigrationRun, rows: int) -> None:
        url = db_url() if callable(db_url) else db_url
        if rows == 0:
            source_backup.source_copy(
                url, sqlite_path, directory, run_id=run.id, sha256=run.source_sha256,
                tick=lambda done, total: tell(BackupProgress("source", done, total)),
            )  # fmt: skip
            with catalog.catalogue(url) as session:
                if refused := _why_no_summaries(session, url):
                    log.warning("the backups of this run will all be full ones", reason=refused)
        parent = _last_of_run(url, run.id, directory)
        label = f"run {run.id}, {rows:,} rows"
        if parent is None:
            made = create_full(url, directory, tools, label, run.id, progress=tell)
        else:
            made = create_incremental(url, directory, tools, parent, run.id, label=label, progress=tell)
        size = catalog.gigabytes(made.bytes or 0)
        log.info(
            "backup made", backup=made.id, kind=made.kind, rows=rows, size=size, seconds=round(made.seconds or 0, 1)
        )

    return back_up


def _silent(_: BackupProgress) -> None:
    """Progress that nobody watches."""


def _require_parent(parent: Backup, directory: Path) -> None:
    path = Path(parent.path)
    if parent.kind == BackupKind.SOURCE or parent.state != BackupState.VERIFIED or path.parent != directory:
        raise InvalidInput(
            f"Backup {parent.id} is no verified backup of a server in {directory}: nothing can build on it.",
            code="backup_parent",
        )
    if not (path / DATA / "backup_manifest").is_file():
        raise NotFound(f"Backup {parent.id} is no longer in {path}.", code="backup_not_found")


def _last_of_run(db_url: str, run_id: int, directory: Path) -> Backup | None:
    """The newest verified base backup of this run that is still in `directory`."""
    target = catalog.prepare_directory(directory)
    for row in list_backups(db_url):
        if row.run_id == run_id:
            with suppress(AppError):  # of another directory, failed or gone: an older one, or a full backup, will do
                _require_parent(row, target)
                return row
    return None


def _why_no_summaries(session: Connection, db_url: str) -> str | None:
    """Why this server cannot give an incremental backup; None once its WAL summaries are on."""
    version = session.info.server_version // 10_000
    if version < INCREMENTAL_SINCE:
        return f"incremental backups need PostgreSQL {INCREMENTAL_SINCE}, and this server is version {version}"
    refused = tuning_service.keep_wal_summaries(db_url).refused
    deadline = time.monotonic() + RELOAD_PATIENCE_S
    while session.execute("SELECT current_setting('summarize_wal')").fetchone() != ("on",):
        if refused or time.monotonic() > deadline:
            return f"summarize_wal is off; {refused or 'the server did not take it up'}"
        time.sleep(0.05)
    return None


def _make(session: Connection, order: _Order) -> Backup:
    """Check, copy, verify, give it its name, write it down."""
    major = session.info.server_version // 10_000
    copier = pg_tools.program(order.tools, "pg_basebackup", major)
    for name in ("pg_verifybackup", "pg_waldump"):
        pg_tools.program(order.tools, name, major)
    _refuse_what_cannot_be_kept(session, order.directory)
    catalog.require_free(order.directory, _bytes_needed(session, order), "This backup")
    parent_id = order.parent.id if order.parent else None
    row = catalog.open_row(session, order.directory, order.kind, order.label, run_id=order.run_id, parent_id=parent_id)
    try:
        partial = catalog.make_partial(row)
        _copy(session, order, row, copier, partial)
        _prove(session, order, major, partial)
        descriptor = _describe(session, order, row, partial)
        catalog.publish(partial, descriptor)
    except BaseException as error:
        catalog.give_up(session, row, error)
        if isinstance(error, OSError):
            raise catalog.unusable(order.directory, error) from error
        raise
    return catalog.finish(session, row.id, descriptor.bytes)


def _copy(session: Connection, order: _Order, row: Backup, copier: Path, partial: Path) -> None:
    name = catalog.application_name(row.id)
    target, secret = pg_tools.connection_of(order.db_url, name)
    command = [
        *(str(copier), "--dbname", target, "--no-password", "--pgdata", str(partial / DATA)),
        # Plain, because only that can be verified, combined and started as it is on PostgreSQL 16 and 17 too.
        *("--format", "plain", "--wal-method", "stream", "--checkpoint", "fast"),
        *("--manifest-checksums", MANIFEST_CHECKSUMS, "--label", name),
    ]
    if order.parent:
        command += ["--incremental", str(Path(order.parent.path) / DATA / "backup_manifest")]

    def tick() -> None:
        found = session.execute(
            "SELECT backup_streamed, coalesce(backup_total, 0) FROM pg_stat_progress_basebackup"
            " JOIN pg_stat_activity USING (pid) WHERE application_name = %s",
            (name,),
        ).fetchone()
        if found:
            order.progress(BackupProgress("copy", *found))

    finished = pg_tools.run_program(command, cwd=order.directory, secret=secret, tick=tick)
    if finished.code != 0:
        session.execute("SELECT 1")  # a server that is gone is a reason of its own, which passes
        raise pg_tools.failure(finished, order.directory)


def _prove(session: Connection, order: _Order, major: int, partial: Path) -> None:
    size = catalog.size_of(partial)

    def tick() -> None:
        session.execute("SELECT 1")  # still there, and the lock with it
        order.progress(BackupProgress("verify", 0, size))

    tick()
    if reason := pg_tools.check_data(order.tools, major, partial, DATA, tick):
        raise Broken(f"The backup was damaged while it was written: {reason}. Check the disk.", code="backup_damaged")


def _describe(session: Connection, order: _Order, row: Backup, partial: Path) -> Descriptor:
    return Descriptor(
        id=row.id, kind=row.kind, label=row.label, parent=Path(order.parent.path).name if order.parent else None,
        parent_id=row.parent_id, run_id=row.run_id, bytes=catalog.size_of(partial),
        started_at=row.started_at.isoformat(), finished_at=utc_now().isoformat(), database=session.info.dbname,
        server_major=session.info.server_version // 10_000,
    )  # fmt: skip


def _refuse_what_cannot_be_kept(session: Connection, directory: Path) -> None:
    """Tablespaces lie outside the data directory, and a backup inside it would contain itself."""
    spaces = session.execute(
        "SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"
    ).fetchall()
    if spaces:
        raise Conflict(
            f"The server has tablespaces of its own ({', '.join(name for (name,) in spaces)}), which these backups do "
            "not cover; use pg_basebackup with --tablespace-mapping.",
            code="backup_tablespaces",
        )
    row = session.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    if row and row[0] and Path(os.path.realpath(directory)).is_relative_to(os.path.realpath(row[0])):
        raise InvalidInput(f"{directory} is inside the server's data directory; name another.", code="backup_directory")


def _bytes_needed(session: Connection, order: _Order) -> int:
    """What the backup may take: all databases; an incremental one no more than twice the WAL since its parent."""
    try:
        row = session.execute(
            "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database"
            " WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')"
        ).fetchone()
    except psycopg.errors.UndefinedObject as error:  # a database was dropped meanwhile
        raise Unavailable("A database was dropped just now; run the command again.", code="backup_failed") from error
    full = int(row[0]) if row else 0
    if order.parent is None:
        return full
    label = (Path(order.parent.path) / DATA / "backup_label").read_text(encoding="utf-8", errors="replace")
    start = START_OF_BACKUP.search(label)
    if start is None:
        return full
    written = session.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)::bigint", (start[1],)
    ).fetchone()
    return min(full, 2 * int(written[0])) if written else full
