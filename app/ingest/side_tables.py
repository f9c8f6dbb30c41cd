"""The two small tables of the source: estadisticas_migracion and ladas_faltantes, whole, with every row as it was."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from psycopg import Connection

from app.ingest.rows import POSTGRES_EPOCH, cell_text, moment_of, raw_json
from app.ingest.source import Cell, Source

STATISTICS = (
    "id", "total_procesados", "total_validos", "total_duplicados", "total_con_ciudad", "ladas_encontradas",
    "ladas_faltantes", "tiempo_procesamiento_segundos", "archivo_origen", "fecha_migracion",
)  # fmt: skip
LADAS = ("rowid", "lada", "cantidad_registros", "ejemplos_numeros", "fecha_detectado")
INT64 = 2**63


def whole_number(cell: Cell) -> int | None:
    """The integer that a cell means, or None: an INTEGER, a whole REAL, digits as TEXT, or a BLOB of 1, 2, 4 or 8 bytes.

    A BLOB is little-endian and signed: what numpy writes when an integer of its own is handed to SQLite.
    """
    if isinstance(cell, int):
        return cell
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < INT64 else None
    if isinstance(cell, bytes):
        return int.from_bytes(cell, "little", signed=True) if len(cell) in (1, 2, 4, 8) else None
    try:
        number = int(cell) if cell and cell.isascii() else None
    except ValueError:
        return None
    return number if number is not None and -INT64 <= number < INT64 else None


def moment(cell: Cell) -> datetime | None:
    """The instant that a date cell means, or None."""
    microseconds, _ = moment_of(cell)
    try:
        return None if microseconds is None else POSTGRES_EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # with its offset taken off it lies before the year 1, or behind 9999
        return None


def seconds(cell: Cell) -> float | None:
    """A duration as a float, or None when the cell is no finite number."""
    try:
        found = float(cell) if isinstance(cell, int | float | str) else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None


def copy_statistics(source: Source, session: Connection, run_id: int) -> int:
    """Carry estadisticas_migracion over inside the caller's transaction, in place of an earlier try; returns its rows."""
    session.execute("DELETE FROM source_statistics WHERE run_id = %s", (run_id,))
    rows = source.table_rows("estadisticas_migracion", STATISTICS)
    for row in rows:
        name, _ = cell_text(row[8], source.real_as_text)
        session.execute(
            """INSERT INTO source_statistics (run_id, source_id, processed_total, valid_total, duplicate_total,
                   with_city_total, ladas_found, ladas_missing, processing_seconds, source_file, recorded_at, raw)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)""",
            (
                run_id,
                row[0],
                *map(whole_number, row[1:7]),
                seconds(row[7]),
                name,
                moment(row[9]),
                raw_json(STATISTICS, row),
            ),
        )
    return len(rows)


def copy_missing_ladas(source: Source, session: Connection, run_id: int) -> int:
    """Carry ladas_faltantes over inside the caller's transaction, in place of an earlier try; returns its rows."""
    session.execute("DELETE FROM missing_ladas WHERE run_id = %s", (run_id,))
    rows = source.table_rows("ladas_faltantes", LADAS)
    for row in rows:
        lada, _ = cell_text(row[1], source.real_as_text)
        examples, _ = cell_text(row[3], source.real_as_text)
        session.execute(
            """INSERT INTO missing_ladas (run_id, source_rowid, lada, contact_count, example_numbers, detected_at, raw)
               VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb)""",
            (run_id, row[0], lada, whole_number(row[2]), examples, moment(row[4]), raw_json(LADAS, row)),
        )
    return len(rows)
