"""MigrationManager: numeros.db into PostgreSQL, from the first check to the balanced ledger.

Every step may be stopped or killed and is taken up by running the same again: what is done is written in the ledger in the
transaction that does it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import Connection

from app.core.clock import utc_now
from app.core.config import get_settings
from app.core.database import connect
from app.core.errors import AppError, Broken, Unavailable
from app.core.logs import get_logger
from app.core.plan_store import place_tables
from app.ingest import ledger, outcome, side_tables, target
from app.ingest.columns import Classification, Normaliser
from app.ingest.copy_stream import statement
from app.ingest.detail_log import DetailLog
from app.ingest.ledger import Run, Totals
from app.ingest.loader import Loader, LoadProgress, LoadStopped
from app.ingest.outcome import MigrationOptions, MigrationResult, StageProgress, is_passing
from app.ingest.settings_guard import restore_settings, settings_guard
from app.ingest.source import Source, SourceFacts
from app.ingest.source_connection import require_utf8_name
from app.models.migration import RunStatus
from app.services import numbering_service, schema_service, tuning_service

RETRY_PAUSE_S = 1.0
log = get_logger("migrate")
NOTHING = Totals(0, 0, 0, 0, 0, 0, 0, {})
Outcome = TypeVar("Outcome")


class MigrationManager:
    """Moves the three tables of a numeros.db. `postgres_url` may be a function, asked again after a lost connection."""

    def __init__(
        self,
        sqlite_path: str | Path,
        postgres_url: str | Callable[[], str],
        batch_size: int | None = None,
        *,
        options: MigrationOptions | None = None,
        progress: Callable[[StageProgress], None] | None = None,
        stop: threading.Event | None = None,
        detail: DetailLog | None = None,
    ) -> None:
        settings = get_settings().migration
        self.sqlite_path = require_utf8_name(Path(sqlite_path).absolute())
        self.batch_size = batch_size or settings.batch_size
        self.options = options or MigrationOptions()
        self._url_of = postgres_url if callable(postgres_url) else lambda: postgres_url
        self._settings = settings
        self._progress = progress or (lambda _: None)
        self.last_result: MigrationResult | None = None
        self._stop = stop or threading.Event()
        self._detail = detail or DetailLog(None)
        self._facts: SourceFacts | None = None
        self._session: Connection | None = None
        self._committed = NOTHING
        self._base_rows = 0
        self._came_through = False
        self._counting = threading.Lock()
        self._rows_now = 0
        self._load_seconds = 0.0
        self._started = time.monotonic()

    async def migrate(self) -> MigrationResult:
        """The whole migration; see `run`."""
        return await asyncio.to_thread(self.run)

    async def migrate_contacts(self) -> int:
        """Load numeros into contacts, keys and indexes off and on again; returns the rows loaded so far."""
        return await asyncio.to_thread(self._one_part, self._move_contacts)

    async def migrate_statistics(self) -> int:
        """Carry estadisticas_migracion over; returns its rows."""
        return await asyncio.to_thread(self._one_part, self._copy_statistics)

    async def migrate_missing_ladas(self) -> int:
        """Carry ladas_faltantes over; returns its rows."""
        return await asyncio.to_thread(self._one_part, self._copy_missing_ladas)

    def _one_part(self, part: Callable[[Source, Run], int]) -> int:
        with self._opened() as (source, session):
            run = self._run_to_go_on(session, source)
            count = part(source, run)
            if self._stored(run).status == RunStatus.COMPLETED:
                self._stopped(run, RunStatus.COMPLETED, None)  # its stored result counts the small tables too
            return count

    @contextmanager
    def _opened(self) -> Iterator[tuple[Source, Connection]]:
        """The source under its lock, and a session that holds the migration lock on an up-to-date schema."""
        with closing(Source(self.sqlite_path)) as source:
            self._tell("hash")
            self._facts = source.facts()
            url = self._url_of()
            if schema_service.current(url) is None:
                schema_service.upgrade(url)
            schema_service.require_head(url)
            self._session = self._locked_session()
            try:
                tuning_service.restore(url)  # the lock is ours: whoever changed settings is gone
                yield source, self._session
            finally:
                self._session.close()

    def _known_facts(self) -> SourceFacts:
        if self._facts is None:
            raise Broken("The source was not read yet.", code="no_facts")
        return self._facts

    def _run_to_go_on(self, session: Connection, source: Source) -> Run:
        """The open run of this source, or a new one."""
        facts = self._known_facts()
        run = ledger.find_run_of(session, facts, str(source.path))
        if run is None:
            with session.transaction():
                run = ledger.open_run(
                    session, facts, str(source.path), numbering_service.plan_id_in_force(session), self.batch_size
                )
        return run

    def run(self) -> MigrationResult:
        """Migrate, or go on, or find it done; returns when the ledger balances and the indexes are there.

        Raises: AppError with what to do. The run then stays open ('failed' or 'interrupted') and the same call goes on.
        """
        with self._opened() as (source, session):
            run = self._run_to_go_on(session, source)
            if run.status == RunStatus.COMPLETED and run.result is not None:
                return self._finish_fulltext(session, run)
            ledger.change_status(session, run, RunStatus.RUNNING)
            try:
                return self._migrate(source, session, run)
            except LoadStopped:
                return self._stopped(run, RunStatus.INTERRUPTED, None)
            except AppError as error:
                self._stopped(run, RunStatus.FAILED, str(error))
                raise
            except psycopg.Error as error:
                message = (error.diag.message_primary or str(error)).strip().splitlines()[0]
                self._stopped(run, RunStatus.FAILED, message)
                raise Unavailable(
                    f"PostgreSQL stopped the migration: {message}. Mend it and run the same command: it goes on.",
                    code="database_error",
                ) from error

    def _finish_fulltext(self, session: Connection, run: Run) -> MigrationResult:
        if not self.options.fulltext_later and target.detached(session):
            target.build_concurrently(session, self._tell_objects)
        return MigrationResult(**(run.result or {}))

    def _migrate(self, source: Source, session: Connection, run: Run) -> MigrationResult:
        url = self._url_of()
        rows_to_come = self._rows_wanted(run) - ledger.totals(session, run.id).rows_read
        if rows_to_come > 0:
            target.check_disk(session, rows_to_come)
        tuned = tuning_service.apply_bulk(url)
        if tuned.refused:
            log.warning("going on without bulk settings", reason=tuned.refused)
        with settings_guard(url) if tuned.applied else nullcontext():
            try:
                self._move(source, run, rows_to_come)
            finally:
                restore_settings(self._url_of())
        return self._reconcile(source, run)

    def _move(self, source: Source, run: Run, rows_to_come: int) -> None:
        if rows_to_come > 0:
            self._tell("prepare")
            self._retrying(lambda: self._prepare(run, rows_to_come))
            if self.options.backup:
                self.options.backup(run, 0)
            self._load(source, run)
        self._copy_statistics(source, run)
        self._copy_missing_ladas(source, run)
        self._retrying(lambda: self._build_indexes(run))

    def _move_contacts(self, source: Source, run: Run) -> int:
        if run.status != RunStatus.COMPLETED:
            with closing(connect(self._url_of(), autocommit=True)) as session:
                ledger.change_status(session, run, RunStatus.RUNNING)
            self._retrying(lambda: self._prepare(run, self._rows_wanted(run)))
            self._load(source, run)
            self._retrying(lambda: self._build_indexes(run))
            return self._reconcile(source, run).loaded
        return self._load(source, run)

    def _prepare(self, run: Run, rows_to_come: int) -> None:
        with closing(connect(self._url_of(), autocommit=True)) as session:
            # Also when some is off already: a rest at a --limit with --fulltext-later leaves the rest on, and no guard.
            target.prepare(session, run.id, rows_to_come)
            ledger.update_run(session, run.id, stage="load")

    def _rows_wanted(self, run: Run) -> int:
        return run.source_rows if self.options.limit is None else min(self.options.limit, run.source_rows)

    def _load(self, source: Source, run: Run) -> int:
        """Load what is missing, with retries of what can pass by itself; returns the rows loaded over the whole run."""
        started = time.monotonic()
        try:
            return self._retrying(lambda: self._load_once(source, run))
        finally:
            self._load_seconds = time.monotonic() - started

    def _load_once(self, source: Source, run: Run) -> int:
        url = self._url_of()
        with closing(connect(url, autocommit=True)) as session:
            plan = numbering_service.load_plan(session, run.numbering_plan_id or 0)
            seen = target.seen_numbers(session)
        normaliser = Normaliser(
            source, Classification(plan, place_tables()), seen, run_id=run.id, id_offset=run.contact_id_offset
        )
        loader = Loader(
            url, source, normaliser, run_id=run.id, streams=self._settings.streams, batch_size=self.batch_size,
            stop=self._stop, progress=lambda it: self._told(run, it), detail=self._detail,
        )  # fmt: skip
        while True:
            with closing(connect(url, autocommit=True)) as session:
                done = ledger.totals(session, run.id)
                committed = ledger.committed_ranges(session, run.id)
            left = self._rows_wanted(run) - done.rows_read
            if left <= 0 or run.first_source_id is None or run.last_source_id is None:
                return done.loaded
            self._committed = done
            self._base_rows = done.rows_read - loader.rows_read
            between = self.options.backup_every if self.options.backup else 0
            read_before = loader.rows_read
            loader.load(ledger.gaps(run.first_source_id, run.last_source_id, committed), min(left, between or left))
            if loader.rows_read == read_before:
                raise outcome.rows_not_found(source.path, run.source_rows, done.rows_read)
            if self.options.backup and between:
                self.options.backup(run, min(done.rows_read + between, done.rows_read + left))

    def _told(self, run: Run, progress: LoadProgress) -> None:
        """Progress of the load in rows of the whole run."""
        batch = progress.committed
        if batch is not None:
            with self._counting:
                self._came_through = True
                self._rows_now += batch.rows_read
                self._committed = replace(
                    self._committed, loaded=self._committed.loaded + batch.loaded,
                    duplicates=self._committed.duplicates + batch.duplicates,
                    rejected=self._committed.rejected + batch.rejected,
                )  # fmt: skip
        done = self._committed
        self._progress(
            StageProgress(
                "load", self._base_rows + progress.rows_read, self._rows_wanted(run), loaded=done.loaded,
                duplicates=done.duplicates, rejected=done.rejected,
            )
        )  # fmt: skip

    def _retrying(self, action: Callable[[], Outcome]) -> Outcome:
        """`action`, tried again while what stops it can pass by itself and batches still come through in between."""
        deadline = time.monotonic() + self._settings.retry_seconds
        while True:
            try:
                self._require_lock()
                return action()
            except (psycopg.Error, Unavailable) as error:
                if not is_passing(error):
                    raise
                if self._stop.is_set():
                    raise LoadStopped from error
                if self._came_through:
                    self._came_through, deadline = False, time.monotonic() + self._settings.retry_seconds
                if time.monotonic() > deadline:
                    raise
                reason = str(error).strip().splitlines()[0]
                log.warning("trying again", reason=reason)
                self._detail.write("retry", reason=reason)
                self._stop.wait(RETRY_PAUSE_S)

    def _require_lock(self) -> None:
        """The lock goes with its connection when the server stops: nothing is loaded before it is taken anew.

        Raises: Unavailable while there is no server, Conflict when another migration was quicker.
        """
        if not self._holds_lock():
            if self._session is not None:
                log.info("the connection was lost")
                self._session.close()
            self._session = self._locked_session()

    def _holds_lock(self) -> bool:
        if self._session is None or self._session.closed:
            return False
        try:
            self._session.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _locked_session(self) -> Connection:
        session = connect(self._url_of(), autocommit=True, application_name="smsctl migrate")
        with ExitStack() as undo:
            undo.callback(session.close)
            ledger.hold_lock(session)
            ledger.end_orphans(session)
            undo.pop_all()
        return session

    def _copy_statistics(self, source: Source, run: Run) -> int:
        with closing(connect(self._url_of())) as session, session.transaction():
            return side_tables.copy_statistics(source, session, run.id)

    def _copy_missing_ladas(self, source: Source, run: Run) -> int:
        with closing(connect(self._url_of())) as session, session.transaction():
            return side_tables.copy_missing_ladas(source, session, run.id)

    def _build_indexes(self, run: Run) -> None:
        """Keys and indexes back on, duplicates linked, statistics fresh, contacts open to all."""
        started = time.monotonic()
        url = self._url_of()
        self._note(run, stage="index")
        target.restore(url, fulltext_later=self.options.fulltext_later, progress=self._tell_objects, stop=self._stop)
        with closing(connect(url, autocommit=True)) as session:
            self._tell("analyze")
            target.analyze(session)
            session.execute(statement("link_duplicates"), {"run_id": run.id})
            target.advance_ids(session)
        spent = time.monotonic() - started
        self._note(run, index_seconds=(self._stored(run).index_seconds or 0.0) + spent)

    def _reconcile(self, source: Source, run: Run) -> MigrationResult:
        """The end: the ledger balances and the source is as it was, or the run fails."""
        self._tell("reconcile")
        facts = self._known_facts()
        if not source.is_unchanged(facts):
            raise Broken(
                f"{source.path} was changed while it was read. Undo with `smsctl migrate rollback --run {run.id}` and "
                "migrate the new file.",
                code="source_changed",
            )
        with closing(connect(self._url_of(), autocommit=True)) as session:
            sums = ledger.totals(session, run.id)
        if sums.rows_read < run.source_rows and self.options.limit is not None:
            return self._stopped(run, RunStatus.LIMITED, None)
        if not sums.balances(run.source_rows):
            raise Broken(
                f"The ledger does not balance: {run.source_rows} rows in the source, {sums.rows_read} read = "
                f"{sums.loaded} loaded + {sums.duplicates} duplicates + {sums.rejected} rejected. "
                "`smsctl migrate report` has the batches.",
                code="ledger_unbalanced",
            )
        return self._stopped(run, RunStatus.COMPLETED, None)

    def _stopped(self, run: Run, status: RunStatus, error: str | None) -> MigrationResult:
        """Write down how this call ended; returns the result. Raises Unavailable when the database is gone."""
        with closing(connect(self._url_of(), autocommit=True)) as session, session.transaction():
            if (
                status == RunStatus.FAILED and not self._holds_lock()
            ):  # the run may be another's by now: it is not ours to end
                self.last_result = self._result(session, ledger.find_run(session, run.id), status)
                return self.last_result
            ledger.change_status(session, run, status, error)
            result = self._result(session, ledger.find_run(session, run.id), status)
            ledger.update_run(
                session, run.id, result=asdict(result), fingerprint=result.fingerprint, peak_rss_mb=result.peak_rss_mb,
                load_seconds=(run.load_seconds or 0.0) + self._load_seconds,
                finished_at=utc_now() if status == RunStatus.COMPLETED else None,
            )  # fmt: skip
        self.last_result = result
        return result

    def _result(self, session: Connection, run: Run, status: RunStatus) -> MigrationResult:
        rate = self._rows_now / self._load_seconds if self._load_seconds else 0.0
        return outcome.result_of(session, run, status, seconds=time.monotonic() - self._started, rows_per_second=rate)

    def _stored(self, run: Run) -> Run:
        with closing(connect(self._url_of(), autocommit=True)) as session:
            return ledger.find_run(session, run.id)

    def _note(self, run: Run, **values: object) -> None:
        with closing(connect(self._url_of(), autocommit=True)) as session:
            ledger.update_run(session, run.id, **values)

    def _tell(self, stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage != "load":
            self._detail.write("stage", stage=stage, done=done, total=total, detail=detail)
        self._progress(StageProgress(stage, done, total, detail))

    def _tell_objects(self, name: str, done: int, total: int) -> None:
        self._tell("index", done, total, name)
