"""`migrate report`: what a run made of its source, in figures: quality, speed, rejects, distribution, and the plan's KPIs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from app.core.clock import utc_now
from app.core.database import connect
from app.core.errors import Forbidden
from app.ingest import ledger, report_markdown, validation_target
from app.ingest.copy_stream import statement
from app.ingest.ledger import Run, Totals
from app.ingest.report_kpis import Kpi, KpiFacts, kpis
from app.ingest.report_markdown import percent
from app.ingest.source import COLUMNS
from app.utils.geo_utils import STATE_NAMES

MOST_LINES = 20
"""Lines of a table that may be long: batches, LADAs, operators."""

HEX_PREFIXES = ("hex-text:", "hex-blob:")
"""What stands before the hexadecimal bytes of a cell that is no text: TEXT that is not UTF-8 or has a NUL, and a BLOB."""


@dataclass(frozen=True, slots=True)
class Count:
    """Rows that have a value, and their share of all. Units: percent."""

    value: str
    rows: int
    percent: float


@dataclass(frozen=True, slots=True)
class Repairs:
    """Cells of a column of the source that a rule changed."""

    field: str
    rule: str
    cells: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What became of the rows read. Shares: of the rows read for loaded, duplicates and rejected, else of the contacts."""

    rows_read: int
    loaded: int
    loaded_percent: float
    duplicates: int
    duplicates_percent: float
    rejected: int
    rejected_percent: float
    repaired: int
    valid: int
    valid_percent: float
    mobile: int
    mobile_percent: float
    e164: int
    e164_percent: float
    state_inferred: int
    city_inferred: int
    time_zone_inferred: int


@dataclass(frozen=True, slots=True)
class BatchLine:
    """Consecutive batches, by source ids. Units: seconds of their streams, from read to committed; rows/s of one stream."""

    first_id: int
    last_id: int
    batches: int
    rows_read: int
    loaded: int
    duplicates: int
    rejected: int
    seconds: float
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the load was. Units: rows/s, of the whole and per batch (one stream); seconds."""

    load_seconds: float | None
    rows_per_second: float | None
    batches: int
    slowest: float | None
    median: float | None
    fastest: float | None
    lines: tuple[BatchLine, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Time of a part of the run. Units: seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceStatistic:
    """A row of estadisticas_migracion: what the makers of the source counted."""

    source_id: int
    processed_total: int | None
    valid_total: int | None
    duplicate_total: int | None
    with_city_total: int | None
    ladas_found: int | None
    ladas_missing: int | None
    processing_seconds: float | None
    source_file: str | None
    recorded_at: datetime | None


@dataclass(frozen=True, slots=True)
class IndexFact:
    """An index of contacts. Units: bytes."""

    name: str
    bytes: int
    is_ready: bool
    is_unique: bool


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """A run in figures. Units: bytes; seconds; megabytes of 10**6 bytes for the memory of the client."""

    made_at: datetime
    run_id: int
    status: str
    source_path: str
    source_sha256: str
    source_bytes: int
    source_rows: int
    started_at: datetime
    finished_at: datetime | None
    batch_size: int
    peak_rss_mb: float | None
    fingerprint: str | None
    error: str | None
    numbering_plan_version: str | None
    kpis: tuple[Kpi, ...]
    quality: Quality
    rejects: tuple[Count, ...]
    repairs: tuple[Repairs, ...]
    speed: Speed
    stages: tuple[Stage, ...]
    by_state: tuple[Count, ...]
    by_lada: tuple[Count, ...]
    by_operator: tuple[Count, ...]
    by_line_type: tuple[Count, ...]
    statistics: tuple[SourceStatistic, ...]
    missing_ladas: int
    indexes: tuple[IndexFact, ...]
    table_bytes: int
    indexes_bytes: int


def report(db_url: str, run_id: int | None = None) -> MigrationReport:
    """The figures of a run, the latest by default; reads contacts once, in parallel, and writes nothing.

    Raises: NotFound when there is no such run.
    """
    with (
        validation_target.clear_errors(),
        closing(connect(db_url, autocommit=True, application_name="smsctl report")) as session,
    ):
        validation_target.prepare_session(session)
        run = ledger.find_run(session, run_id)
        totals = ledger.totals(session, run.id)
        cube = session.execute(statement("report_cube"), {"run_id": run.id}).fetchall()
        indexes = tuple(IndexFact(*row) for row in session.execute(statement("report_indexes")))
        return _report(session, run, totals, cube, indexes)


def _report(
    session: Connection, run: Run, totals: Totals, cube: Sequence[Sequence[Any]], indexes: tuple[IndexFact, ...]
) -> MigrationReport:
    quality = _quality(totals, cube)
    table_bytes, indexes_bytes = _one(session, "SELECT pg_table_size('contacts'), pg_indexes_size('contacts')")
    (version,) = _one(session, "SELECT max(version) FROM numbering_plans WHERE id = %s", run.numbering_plan_id)
    codes = _distribution(cube, 0, quality.loaded)
    backups = session.execute(statement("report_backup_after"), {"run_id": run.id}).fetchall()
    is_unique = validation_target.has_unique_phone(session)
    repeated = 0 if is_unique else validation_target.repeated_phones(session)
    facts = KpiFacts(
        source_rows=run.source_rows, rows_read=totals.rows_read, loaded=totals.loaded, duplicates=totals.duplicates,
        rejected=totals.rejected, contacts=quality.loaded, e164=quality.e164, valid=quality.valid, is_unique=is_unique,
        repeated=repeated, ready_indexes=frozenset(it.name for it in indexes if it.is_ready),
        backup=f"{backups[0][0]} backup '{backups[0][1]}', verified {backups[0][2]:%Y-%m-%d %H:%M}" if backups else None,
    )  # fmt: skip
    return MigrationReport(
        made_at=utc_now(), run_id=run.id, status=run.status, source_path=run.source_path,
        source_sha256=run.source_sha256, source_bytes=run.source_bytes, source_rows=run.source_rows,
        started_at=run.started_at, finished_at=run.finished_at, batch_size=run.batch_size, peak_rss_mb=run.peak_rss_mb,
        fingerprint=run.fingerprint, error=run.error, numbering_plan_version=version, kpis=kpis(facts), quality=quality,
        rejects=_counts(Counter({"duplicate": totals.duplicates} | totals.rejected_by_reason), totals.rows_read),
        repairs=_repairs(session, run.id), speed=_speed(session, run, totals), stages=_stages(run),
        by_state=tuple(Count(_state(it.value), it.rows, it.percent) for it in codes),
        by_lada=_distribution(cube, 1, quality.loaded)[:MOST_LINES],
        by_operator=_distribution(cube, 2, quality.loaded)[:MOST_LINES],
        by_line_type=_distribution(cube, 3, quality.loaded), statistics=_statistics(session, run.id),
        missing_ladas=ledger.count_rows(session, "missing_ladas", run.id), indexes=indexes, table_bytes=table_bytes,
        indexes_bytes=indexes_bytes,
    )  # fmt: skip


def _one(session: Connection, query: str, *values: object) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = session.execute(query.encode(), values).fetchone()
    return row or ()


def _quality(totals: Totals, cube: Sequence[Sequence[Any]]) -> Quality:
    contacts = sum(row[6] for row in cube)
    valid = sum(row[6] for row in cube if row[4])
    mobile = sum(row[6] for row in cube if row[3] == "mobile")
    e164 = sum(row[7] for row in cube)
    inferred = [sum(row[6] for row in cube if row[5] & bit) for bit in (1, 2, 4)]
    return Quality(
        rows_read=totals.rows_read, loaded=contacts, loaded_percent=percent(contacts, totals.rows_read),
        duplicates=totals.duplicates, duplicates_percent=percent(totals.duplicates, totals.rows_read),
        rejected=totals.rejected, rejected_percent=percent(totals.rejected, totals.rows_read), repaired=totals.repaired,
        valid=valid, valid_percent=percent(valid, contacts), mobile=mobile, mobile_percent=percent(mobile, contacts),
        e164=e164, e164_percent=percent(e164, contacts), state_inferred=inferred[0], city_inferred=inferred[1],
        time_zone_inferred=inferred[2],
    )  # fmt: skip


def _distribution(cube: Sequence[Sequence[Any]], column: int, whole: int) -> tuple[Count, ...]:
    counter: Counter[str] = Counter()
    for row in cube:
        counter[row[column] if row[column] is not None else "(none)"] += row[6]
    return _counts(counter, whole)


def _counts(counter: Counter[str], whole: int) -> tuple[Count, ...]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Count(value, rows, percent(rows, whole)) for value, rows in ordered if rows)


def _state(code: str) -> str:
    return f"{STATE_NAMES[code]} ({code})" if code in STATE_NAMES else code


def _repairs(session: Connection, run_id: int) -> tuple[Repairs, ...]:
    rows = session.execute(
        "SELECT field, rule, count(*) FROM migration_repairs WHERE run_id = %s GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
        (run_id,),
    )
    return tuple(Repairs(*row) for row in rows)


def _speed(session: Connection, run: Run, totals: Totals) -> Speed:
    batches, slowest, median, fastest = _row(session, "report_speed", run.id)
    rows = session.execute(statement("report_batches"), {"run_id": run.id, "lines": MOST_LINES}).fetchall()
    lines = []
    for first, last, count, *sums, seconds in rows:
        read, loaded, duplicates, rejected = map(int, sums)
        rate = read / seconds if seconds else 0.0
        lines.append(
            BatchLine(first, last, count, read, loaded, duplicates, rejected, round(seconds, 3), round(rate, 1))
        )
    return Speed(
        load_seconds=run.load_seconds,
        rows_per_second=round(totals.rows_read / run.load_seconds, 1) if run.load_seconds else None,
        batches=batches, slowest=_rounded(slowest), median=_rounded(median), fastest=_rounded(fastest),
        lines=tuple(lines),
    )  # fmt: skip


def _row(session: Connection, name: str, run_id: int) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = session.execute(statement(name), {"run_id": run_id}).fetchone()
    return row or ()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 1)


def _stages(run: Run) -> tuple[Stage, ...]:
    """The parts whose times were kept, and what is left of the whole."""
    known = [("load", run.load_seconds), ("keys and indexes", run.index_seconds)]
    stages = [Stage(name, round(seconds, 3)) for name, seconds in known if seconds is not None]
    whole = (run.result or {}).get("seconds")
    if whole is not None:
        rest = whole - sum(stage.seconds for stage in stages)
        stages += [Stage("hash, checks and small tables", round(max(rest, 0.0), 3)), Stage("in all", round(whole, 3))]
    return tuple(stages)


def _statistics(session: Connection, run_id: int) -> tuple[SourceStatistic, ...]:
    rows = session.execute(
        "SELECT source_id, processed_total, valid_total, duplicate_total, with_city_total, ladas_found, ladas_missing,"
        " processing_seconds, source_file, recorded_at FROM source_statistics WHERE run_id = %s ORDER BY source_id",
        (run_id,),
    )
    return tuple(SourceStatistic(*row) for row in rows)


def to_markdown(made: MigrationReport) -> str:
    """The report as a Markdown document."""
    return report_markdown.document(made)


def to_json(made: MigrationReport) -> str:
    """The report as one JSON object; instants in ISO form."""
    return json.dumps(asdict(made), ensure_ascii=False, indent=2, default=str) + "\n"


def write(made: MigrationReport, file: Path) -> None:
    """Write the report to `file`: JSON when it is called so, else Markdown. Its directory is made.

    Raises: Forbidden when it cannot be written.
    """
    text = to_json(made) if file.suffix.lower() == ".json" else to_markdown(made)
    _write(file, iter([text.encode()]))


def export_rejects(db_url: str, run_id: int | None, file: Path) -> int:
    """Write every duplicate and reject of a run to `file` as CSV (UTF-8), the raw row behind its reason; returns the rows.

    NULL is an empty field, an empty text is "". Bytes that are no text stand as hexadecimal behind HEX_PREFIXES. Cells are
    as the source has them: one that a spreadsheet takes for a formula (=, +, -, @) is not defused.
    Raises: NotFound when there is no such run; Forbidden when the file cannot be written.
    """
    cells = [
        sql.SQL("{} AS {}").format(
            statement("report_reject_cell").format(name=sql.Literal(name)), sql.Identifier(name if name != "id" else "raw_id")
        )
        for name in COLUMNS
    ]  # fmt: skip
    query = statement("report_rejects").format(cells=sql.SQL(", ").join(cells))
    with (
        validation_target.clear_errors(),
        closing(connect(db_url, autocommit=True, application_name="smsctl report")) as session,
    ):
        run = ledger.find_run(session, run_id)
        with session.cursor() as cursor:
            with cursor.copy(query, {"run_id": run.id}) as copy:
                _write(file, (bytes(piece) for piece in copy))
            return cursor.rowcount


def _write(file: Path, pieces: Iterator[bytes]) -> None:
    """Fill a file beside `file` and put it in its place: what is there is whole. A link stays one."""
    file = file.resolve()
    if file.exists() and not file.is_file():
        raise Forbidden(f"{file} is no file that could be replaced. Give another path.", code="report_file")
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        reason = error.strerror or str(error)
        raise Forbidden(f"{file} cannot be written: {reason}. Give another path.", code="report_file") from error
