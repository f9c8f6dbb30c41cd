"""`smsctl source inspect`: what a numeros.db holds, what is wrong with it, what moving it takes. Nothing is written."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Final

from app.ingest import inspection_scan
from app.ingest.field_mapping import FIELD_MAPPINGS
from app.ingest.inspection_attention import attention_of
from app.ingest.inspection_numbers import report_numbers
from app.ingest.inspection_report import (
    ColumnFill,
    Estimate,
    Inspection,
    LadaReport,
    RowsReport,
    SmallTables,
    StateSpelling,
)
from app.ingest.inspection_scan import COLUMNS, OTHERS, Progress, Tally
from app.ingest.inspection_schema import SchemaCheck, check_schema
from app.ingest.inspection_text import report_text
from app.ingest.source_connection import open_source, read_header, translate_error
from app.utils.geo_utils import state_code

# What the estimate stands on: measured on 2 cores with synthetic rows (docs/benchmarks.md), linear in rows.
ROWS_A_SECOND: Final = 330_000
KEY_SECONDS_A_MILLION: Final = 5.9
FULL_TEXT_SECONDS_A_MILLION: Final = 6.4
TARGET_BYTES_A_ROW: Final = 460
WAL_BYTES: Final = 8 << 30
TOP_LADAS: Final = 20


def inspect_source(path: Path, *, batch_size: int, data_dir: Path, progress: Progress | None = None) -> Inspection:
    """Read all of `path` and say what is in it. `data_dir` is where the database will be: its free space is looked at.

    Raises: AppError as `open_source`, also when the file proves corrupt or gets locked on the way.
    """
    header = read_header(path)
    connection = open_source(path)
    try:
        schema = check_schema(connection)
        small = _small_tables(connection, schema)
        rows = _rows(path, connection, progress or _silent) if schema.is_readable else None
    except sqlite3.Error as error:
        raise translate_error(path, error) from error
    finally:
        connection.close()
    estimate = _estimate(rows.rows if rows else 0, batch_size, data_dir)
    return Inspection(
        path=path,
        file_bytes=path.stat().st_size,
        page_size=header.page_size,
        encoding=header.encoding,
        is_wal=header.is_wal,
        schema=schema,
        small_tables=small,
        rows=rows,
        mapping=FIELD_MAPPINGS,
        estimate=estimate,
        attention=attention_of(schema, small, rows, estimate),
    )


def _silent(_done: int, _total: int) -> None:
    """No progress wanted."""


def _small_tables(connection: sqlite3.Connection, schema: SchemaCheck) -> SmallTables:
    """The two small tables as far as they are there with the columns they should have."""
    broken = {check.table for check in schema.columns if check.verdict == "missing"} | set(schema.missing_tables)
    statistics = total = kind = cell = missing = None
    if "estadisticas_migracion" not in broken:
        statistics = connection.execute("SELECT count(*) FROM estadisticas_migracion").fetchone()[0]
        row = connection.execute(
            "SELECT total_validos, typeof(total_con_ciudad), total_con_ciudad FROM estadisticas_migracion "
            "ORDER BY id DESC LIMIT 1"
        ).fetchone()
        total, kind, cell = row or (None, None, None)
    if "ladas_faltantes" not in broken:
        missing = connection.execute("SELECT count(*) FROM ladas_faltantes").fetchone()[0]
    kind_text = kind.decode() if isinstance(kind, bytes) else None
    if kind_text == "blob" and isinstance(cell, bytes):
        cell = int.from_bytes(cell, "little", signed=True) if len(cell) == 8 else None
    return SmallTables(
        statistics_rows=statistics,
        statistics_total_valid=total if isinstance(total, int) else None,
        total_con_ciudad_class=kind_text,
        total_con_ciudad=cell if isinstance(cell, int) else None,
        missing_ladas_rows=missing,
    )


def _rows(path: Path, connection: sqlite3.Connection, progress: Progress) -> RowsReport:
    count = connection.execute("SELECT count(*) FROM numeros").fetchone()[0]
    first, last = connection.execute("SELECT (SELECT min(id) FROM numeros), (SELECT max(id) FROM numeros)").fetchone()
    first, last = (0, -1) if first is None else (first, last)
    tally = inspection_scan.scan(path, first, last, count, progress)
    dates_null = tally.rows - tally.filled["fecha_migracion"]
    flag_null = tally.rows - tally.filled["es_valido"]
    return RowsReport(
        rows=tally.rows,
        first_id=first,
        last_id=last,
        missing_ids=max(last - first + 1 - tally.rows, 0),
        columns=_fills(tally),
        states=_states(tally.states),
        ladas=_ladas(connection, tally),
        numbers=report_numbers(connection, tally),
        text=report_text(inspection_scan.sample(connection, first, last)),
        flagged_valid=tally.flagged_valid,
        flagged_invalid=tally.flagged_invalid,
        flag_null=flag_null,
        flag_other=tally.rows - flag_null - tally.flagged_valid - tally.flagged_invalid,
        dates_readable=tally.readable_dates,
        dates_null=dates_null,
        dates_other=tally.rows - dates_null - tally.readable_dates,
    )


def _fills(tally: Tally) -> tuple[ColumnFill, ...]:
    return tuple(
        ColumnFill(
            column=column,
            nulls=tally.rows - tally.filled[column],
            foreign={kind: cells for (name, kind), cells in sorted(tally.classes.items()) if name == column},
        )
        for column in COLUMNS
    )


def _states(spellings: Counter[bytes]) -> tuple[StateSpelling, ...]:
    """Spellings that read the same once decoded are one."""
    rows: Counter[str] = Counter()
    for spelling, count in spellings.items():
        rows[_readable(spelling)] += count
    common = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    return tuple(StateSpelling(text, count, state_code(text.replace("\0", ""))) for text, count in common)


def _readable(value: bytes) -> str:
    """Source bytes as the loader reads them: UTF-8, else Windows-1252."""
    if value == OTHERS:
        return "(other values)"
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _ladas(connection: sqlite3.Connection, tally: Tally) -> LadaReport:
    counted = connection.execute(inspection_scan.statement("inspect_ladas")).fetchall()
    counted.sort(key=lambda row: (-row[1], str(row[0])))
    top = tuple(
        (_readable(lada if isinstance(lada, bytes) else str(lada).encode()), rows) for lada, rows in counted[:TOP_LADAS]
    )
    return LadaReport(len(counted), top, tally.ladas_compared, tally.ladas_wrong, tally.ladas_cut)


def _estimate(rows: int, batch_size: int, data_dir: Path) -> Estimate:
    directory = data_dir
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return Estimate(
        batch_size=batch_size,
        batches=-(-rows // batch_size),
        rows_a_second=ROWS_A_SECOND,
        load_seconds=rows / ROWS_A_SECOND,
        keys_seconds=rows / 1e6 * KEY_SECONDS_A_MILLION,
        full_text_seconds=rows / 1e6 * FULL_TEXT_SECONDS_A_MILLION,
        target_bytes=rows * TARGET_BYTES_A_ROW,
        wal_bytes=min(WAL_BYTES, rows * TARGET_BYTES_A_ROW),
        free_bytes=shutil.disk_usage(directory).free,
        data_dir=data_dir,
    )
