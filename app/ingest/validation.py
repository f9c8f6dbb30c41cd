"""`migrate validate`: source and target compared without the loader's counters and without its reader.

The source is read by SQLite's own library and hashed row by row in ranges of ids; PostgreSQL hashes the contacts of the same
ranges; the sums must be equal. What the hashes do not cover is worked out once more, row by row, for every number that
changed and for a random sample. Nothing is written on either side.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import Connection

from app.core.database import connect
from app.core.errors import Conflict
from app.ingest import ledger, validation_target
from app.ingest.ledger import Run
from app.ingest.source import hash_file
from app.ingest.source_connection import read_header
from app.ingest.validation_checks import Beside, Check, Findings, all_checks
from app.ingest.validation_ranges import RangeMismatch, find_mismatches, id_ranges, name_rows, thresholds
from app.ingest.validation_scan import IdRange, RangeOutcome, ScanContext, Scanner
from app.ingest.validation_sides import check_missing_ladas, check_rejects, check_statistics
from app.ingest.validation_target import PlanQueries, TargetSums
from app.models.migration import MIGRATION_LOCK, RunStatus

SAMPLE = 12_000
"""Rows that are expected in the random sample: so many that fewer than 10,000 will not happen."""

THREADS = 2
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The proof of a run, or what speaks against it. Units: seconds.

    `bad_ranges` names the ranges of source ids that are not equal on both sides, and for the first of them the rows;
    `rows_compared` counts the rows compared field by field; `seed` makes the random sample repeatable.
    """

    run_id: int
    holds: bool
    checks: tuple[Check, ...]
    ranges_checked: int
    bad_ranges: tuple[RangeMismatch, ...]
    rows_compared: int
    seed: int
    plan_queries: PlanQueries
    seconds: float


def validate(
    sqlite_path: str | Path,
    db_url: str,
    run_id: int | None = None,
    progress: Progress | None = None,
    *,
    seed: int | None = None,
    use_adbc: bool = True,
) -> ValidationResult:
    """Compare the source with what the run (the latest, by default) made of it; reads only.

    `progress` is told (stage, done, total) from several threads, never two at a time. A run that is completed is compared
    whole, a limited one as far as it went.
    Raises: NotFound without such a run or file; Conflict when the run is neither (run_not_finished), a migration is under
    way (migration_running), or the file is not the one that was migrated (source_changed).
    """
    with validation_target.clear_errors():
        return _Validation(Path(sqlite_path).absolute(), db_url, progress, seed, use_adbc=use_adbc).run(run_id)


class _Validation:
    def __init__(self, path: Path, url: str, progress: Progress | None, seed: int | None, *, use_adbc: bool) -> None:
        self._path = path
        self._url = url
        self._progress = progress or (lambda _stage, _done, _total: None)
        self._seed = secrets.randbits(32) if seed is None else seed
        self._use_adbc = use_adbc
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._rows_done = 0
        self._target: Connection | None = None

    def run(self, run_id: int | None) -> ValidationResult:
        started = time.monotonic()
        with self._session() as session:
            run = self._checked_run(session, run_id)
            totals = ledger.totals(session, run.id)
            ranges = id_ranges(ledger.committed_ranges(session, run.id), is_whole=run.status == RunStatus.COMPLETED)
            context = self._context(session, run, totals.rows_read)
            outcomes, scan_seconds, target, target_seconds = self._scan_both(run, context, ranges, totals.rows_read)
            with closing(Scanner(context)) as scanner:
                findings = Findings(
                    run, totals, int(scanner.reader.one("SELECT count(*) FROM numeros")), len(context.rejected), outcomes,
                    target, find_mismatches(outcomes, target), self._look_beside(session, scanner, run.id), self._seed,
                    scan_seconds, target_seconds,
                )  # fmt: skip
                bad = name_rows(session, scanner, run.id, ranges, findings.mismatches)
        checks = all_checks(findings)
        compared = sum(it.changed.compared + it.sampled.compared for it in outcomes)
        return ValidationResult(
            run.id, all(check.holds for check in checks), checks, len(ranges), bad, compared, self._seed,
            findings.beside.queries, round(time.monotonic() - started, 3),
        )  # fmt: skip

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        """A session that keeps migrations from starting meanwhile; validations may run side by side."""
        with closing(connect(self._url, autocommit=True, application_name="smsctl validate")) as session:
            validation_target.prepare_session(session)
            row = session.execute("SELECT pg_try_advisory_lock_shared(%s)", (MIGRATION_LOCK,)).fetchone()
            if not row or not row[0]:
                raise Conflict(
                    "A migration is running on this database: validate when it is done. `smsctl migrate status` shows it.",
                    code="migration_running",
                )
            yield session

    def _checked_run(self, session: Connection, run_id: int | None) -> Run:
        run = ledger.find_run(session, run_id)
        if run.status not in (RunStatus.COMPLETED, RunStatus.LIMITED):
            what = "was rolled back" if run.status == RunStatus.ROLLED_BACK else f"is {run.status}: finish it first"
            raise Conflict(f"Run {run.id} cannot be validated: it {what}.", code="run_not_finished")
        read_header(self._path)
        if self._path.stat().st_size != run.source_bytes:
            raise self._changed(run)
        return run

    def _changed(self, run: Run) -> Conflict:
        return Conflict(
            f"{self._path} is not the file that run {run.id} migrated ({run.source_path}): its SHA-256 is another. Give "
            "that file as it was.",
            code="source_changed",
        )

    def _context(self, session: Connection, run: Run, rows: int) -> ScanContext:
        plan_ids = dict.fromkeys([run.numbering_plan_id or 0, validation_target.plan_in_force_id(session) or 0])
        return ScanContext(
            path=self._path, url=self._url, id_offset=run.contact_id_offset,
            rejected=validation_target.reject_ids(session, run.id),
            plans=tuple(validation_target.plan_ranges(session, plan_id) for plan_id in plan_ids if plan_id),
            seed=self._seed, share=SAMPLE / max(rows, SAMPLE), use_adbc=self._use_adbc,
        )  # fmt: skip

    def _scan_both(
        self, run: Run, context: ScanContext, ranges: Sequence[IdRange], rows: int
    ) -> tuple[tuple[RangeOutcome, ...], float, TargetSums, float]:
        """Both sides at once, and the hash of the file beside them: what is read first is in memory for the others."""
        todo: queue.SimpleQueue[IdRange] = queue.SimpleQueue()
        for it in ranges:
            todo.put(it)
        started = time.monotonic()
        with ThreadPoolExecutor(THREADS + 2, thread_name_prefix="validate") as threads:
            hashed = threads.submit(self._hash_of_file, run)
            target = threads.submit(self._target_sums, run.id, thresholds(ranges))
            readers = [threads.submit(self._read, context, todo, rows) for _ in range(THREADS)]
            try:
                outcomes = [outcome for reader in readers for outcome in reader.result()]
                scan_seconds = time.monotonic() - started
                if self._stop.is_set():  # the hash says that it is another file: the readers ended early
                    self._prefer_change(hashed, run)
                self._tell("contacts", 0, 1)
                sums, target_seconds = target.result()
                self._tell("contacts", 1, 1)
                self._prefer_change(hashed, run)
            except BaseException as error:
                self._give_up()
                if isinstance(error, Exception):
                    self._prefer_change(hashed, run)
                raise
        return tuple(sorted(outcomes, key=lambda it: it.id_range.index)), scan_seconds, sums, target_seconds

    def _give_up(self) -> None:
        """Let the readers end at their next range, and the server at once."""
        self._stop.set()
        if self._target is not None and not self._target.closed:
            self._target.cancel_safe()

    def _prefer_change(self, hashed: Future[bool], run: Run) -> None:
        """Raise that the file was changed, if it was: whatever else went wrong followed from that."""
        if not hashed.result():
            raise self._changed(run)

    def _hash_of_file(self, run: Run) -> bool:
        is_same = hash_file(self._path) == run.source_sha256
        if not is_same:
            self._stop.set()
        return is_same

    def _target_sums(self, run_id: int, bounds: list[int]) -> tuple[TargetSums, float]:
        started = time.monotonic()
        with closing(connect(self._url, autocommit=True, application_name="smsctl validate")) as session:
            self._target = session
            validation_target.prepare_session(session)
            sums = validation_target.range_sums(session, run_id, bounds)
        return sums, time.monotonic() - started

    def _read(self, context: ScanContext, todo: queue.SimpleQueue[IdRange], rows: int) -> list[RangeOutcome]:
        """The outcomes of the ranges that this thread took."""
        outcomes: list[RangeOutcome] = []
        with closing(Scanner(context)) as scanner:
            while not self._stop.is_set():
                try:
                    id_range = todo.get_nowait()
                except queue.Empty:
                    break
                outcomes.append(scanner.scan(id_range))
                with self._lock:
                    self._rows_done += outcomes[-1].read
                    self._progress("source", self._rows_done, rows)
        return outcomes

    def _look_beside(self, session: Connection, scanner: Scanner, run_id: int) -> Beside:
        """Rejects and small tables in this thread, and the plan's queries meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="validate") as threads:
            asked = threads.submit(self._ask, run_id)
            started = time.monotonic()
            self._tell("checks", 0, 1)
            rejects = check_rejects(session, scanner.reader, scanner.rules, run_id, self._seed)
            statistics = check_statistics(session, scanner.reader, run_id)
            missing_ladas = check_missing_ladas(session, scanner.reader, run_id)
            seconds = time.monotonic() - started
            wrong, repeated, queries, queries_seconds = asked.result()
        self._tell("checks", 1, 1)
        return Beside(
            rejects, statistics, missing_ladas, tuple(wrong), repeated is None, repeated or 0, queries, seconds,
            queries_seconds,
        )  # fmt: skip

    def _ask(self, run_id: int) -> tuple[list[int], int | None, PlanQueries, float]:
        """(wrong duplicates, repeated phones or None where a constraint keeps them out, the plan's queries, seconds)."""
        started = time.monotonic()
        with closing(connect(self._url, autocommit=True, application_name="smsctl validate")) as session:
            validation_target.prepare_session(session)
            queries = validation_target.plan_queries(session)
            wrong = validation_target.wrong_duplicates(session, run_id)
            is_unique = validation_target.has_unique_phone(session)
            repeated = None if is_unique else validation_target.repeated_phones(session)
        return wrong, repeated, queries, time.monotonic() - started

    def _tell(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            self._progress(stage, done, total)


def to_text(result: ValidationResult) -> str:
    """The outcome for a terminal: a line per check, then the ranges and rows that are off."""
    lines = [f"Run {result.run_id}: {'everything holds' if result.holds else 'IT DOES NOT HOLD'}"]
    width = max(len(check.name) for check in result.checks)
    for check in result.checks:
        figures = check.found if check.holds else f"expected {check.expected}, found {check.found}"
        lines.append(f"  {'✔' if check.holds else '✘'} {check.name:<{width}}  {figures}: {check.detail}")
    for bad in result.bad_ranges:
        lines.append(
            f"Source ids {bad.first_id} to {bad.last_id}: {bad.source_rows:,} rows in the source, {bad.target_rows:,} "
            f"contacts, not equal in {', '.join(bad.subjects)}"
            + (f"; {bad.rows_off:,} rows are off:" if bad.rows_off is not None else "")
        )
        lines += [f"    {row.source_id} {row.kind} {', '.join(row.fields)}".rstrip() for row in bad.rows]
    queries = result.plan_queries
    lines.append(
        f"The plan's queries: {queries.total_contacts:,} contacts, {queries.valid_phones:,} valid; by state "
        + _pairs(queries.by_state)
        + "; by LADA "
        + _pairs(queries.top_ladas)
        + "."
    )
    lines.append(
        f"{result.ranges_checked:,} ranges, {result.rows_compared:,} rows field by field (seed {result.seed}), "
        f"{result.seconds:,.1f} s."
    )
    return "\n".join(lines) + "\n"


def _pairs(pairs: Sequence[tuple[str | None, int]]) -> str:
    shown = ", ".join(f"{value or '(none)'} {count:,}" for value, count in pairs[:5])
    return shown + (f" and {len(pairs) - 5} more" if len(pairs) > 5 else "")
