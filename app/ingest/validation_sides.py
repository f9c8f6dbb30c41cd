"""What is kept beside contacts: rows that were not loaded, and the two small tables, each against its row of the source."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from app.ingest.copy_stream import statement
from app.ingest.rows import raw_cell, raw_json
from app.ingest.side_tables import LADAS, STATISTICS
from app.ingest.source import COLUMNS, Cell
from app.ingest.validation_rules import ContactRules, instant
from app.ingest.validation_scan import LISTED
from app.ingest.validation_source import SourceReader

MOST_REJECTS = 200_000
"""Rejects that are compared one by one; of more, a random sample of as many."""

FETCHED = 1000
UNSURE = object()
"""A cell of a class that its column does not expect: its meaning is the mapping's, its raw form is compared."""


@dataclass(slots=True)
class RejectsFound:
    """Rejects compared with their rows of the source. The lists name up to LISTED source ids."""

    compared: int = 0
    raw_off: int = 0
    reason_off: int = 0
    raw_listed: list[int] = field(default_factory=list)
    reason_listed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SideTable:
    """A small table on both sides: rows there, rows here, rows that differ."""

    source_rows: int
    target_rows: int
    off: int


def check_rejects(
    session: Connection, reader: SourceReader, rules: ContactRules, run_id: int, seed: int
) -> RejectsFound:
    """Every reject's raw row against the source, and its reason through plain phonenumbers.

    Reads MOST_REJECTS at most, chosen by `seed`. Memory: FETCHED rows at a time.
    """
    found = RejectsFound()
    with session.transaction(), session.cursor(name="rejects") as cursor:
        cursor.itersize = FETCHED
        cursor.execute(statement("validate_rejects"), {"run_id": run_id, "seed": seed, "most": MOST_REJECTS})
        for source_id, reason, phone_e164, raw in cursor:
            cells = reader.cells_of(source_id)
            found.compared += 1
            if cells is None or raw != {name: raw_cell(cell) for name, cell in zip(COLUMNS, cells, strict=True)}:
                found.raw_off += 1
                found.raw_listed.append(source_id)
            if cells is None or not _reason_holds(rules, cells, reason, phone_e164):
                found.reason_off += 1
                found.reason_listed.append(source_id)
    found.raw_listed = sorted(found.raw_listed)[:LISTED]
    found.reason_listed = sorted(found.reason_listed)[:LISTED]
    return found


def _reason_holds(rules: ContactRules, cells: tuple[Cell, ...], reason: str, phone_e164: str | None) -> bool:
    phone = rules.phone(cells)
    if reason == "duplicate":
        return phone.e164 is not None and phone.e164 == phone_e164
    if phone.national is not None:
        return False
    return phone.is_foreign == (reason == "foreign") and phone.is_empty == (reason == "empty")


def check_statistics(session: Connection, reader: SourceReader, run_id: int) -> SideTable:
    """estadisticas_migracion against source_statistics."""
    stored = session.execute(
        "SELECT source_id, processed_total, valid_total, duplicate_total, with_city_total, ladas_found, ladas_missing,"
        " processing_seconds, source_file, (extract(epoch FROM recorded_at) * 1000000)::bigint, raw"
        " FROM source_statistics WHERE run_id = %s ORDER BY source_id",
        (run_id,),
    ).fetchall()
    kinds = (_integer, *[_integer] * 6, _real, _string, instant)
    return _compare(reader.table_rows("estadisticas_migracion", STATISTICS), STATISTICS, kinds, stored)


def check_missing_ladas(session: Connection, reader: SourceReader, run_id: int) -> SideTable:
    """ladas_faltantes against missing_ladas."""
    stored = session.execute(
        "SELECT source_rowid, lada, contact_count, example_numbers, (extract(epoch FROM detected_at) * 1000000)::bigint,"
        " raw FROM missing_ladas WHERE run_id = %s ORDER BY source_rowid",
        (run_id,),
    ).fetchall()
    kinds = (_integer, _string, _integer, _string, instant)
    return _compare(reader.table_rows("ladas_faltantes", LADAS), LADAS, kinds, stored)


def _integer(cell: Cell) -> object:
    if isinstance(cell, bytes):
        return int.from_bytes(cell, "little", signed=True) if len(cell) == 8 else UNSURE
    return cell if cell is None or isinstance(cell, int) else UNSURE


def _real(cell: Cell) -> object:
    return cell if cell is None or isinstance(cell, int | float) else UNSURE


def _string(cell: Cell) -> object:
    return cell if cell is None or (isinstance(cell, str) and "\0" not in cell) else UNSURE


def _compare(
    rows: list[tuple[Cell, ...]], names: tuple[str, ...], kinds: tuple[Any, ...], stored: list[tuple[Any, ...]]
) -> SideTable:
    by_id = {row[0]: row for row in stored}
    off = 0
    for row in rows:
        here = by_id.pop(row[0], None)
        if here is None or here[-1] != json.loads(raw_json(names, row)):
            off += 1
            continue
        meant = [kind(cell) for kind, cell in zip(kinds, row, strict=True)]
        off += any(value is not UNSURE and value != found for value, found in zip(meant, here[:-1], strict=True))
    return SideTable(len(rows), len(stored), off + len(by_id))
