"""Reading every row of `numeros` for the analysis: aggregates by SQLite in windows of ids, on two threads.

A window is small enough that its pages stay in SQLite's cache over the four statements that read them, and that each
GROUP BY sorts in memory.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Final

from app.ingest.source_connection import open_source

WINDOW_IDS: Final = 100_000
THREADS: Final = 2
CACHE_KIB: Final = 65_536
# Of the numbers that are not ten plain digits so many are looked at in each window; the rest is only counted.
ODD_A_WINDOW: Final = 5_000
# More spellings than this are no vocabulary: they are counted together.
MOST_SPELLINGS: Final = 20_000
LONGEST_SPELLING: Final = 120
SAMPLE_RUNS: Final = 100
SAMPLE_ROWS: Final = 500

TEXT_COLUMNS: Final = (
    "numero", "campo1_original", "nombre", "campo3", "direccion", "colonia", "municipio_csv", "estado_sep",
    "municipio_sep", "estado_cof", "municipio_cof", "lada", "ciudad_por_lada",
)  # fmt: skip
COLUMNS: Final = (*TEXT_COLUMNS, "es_valido", "fecha_migracion")
BELONGS: Final = {**dict.fromkeys(TEXT_COLUMNS, "text"), "es_valido": "integer", "fecha_migracion": "text"}
OTHERS: Final = b"\x00others"
# Called with (rows read so far, rows in all).
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Tally:
    """What was counted; windows are added up in it.

    classes: (column, storage class) → cells that do not belong. states: spelling → rows. odd_rows: numbers that are not
    ten plain digits; `odd` holds some of them with their storage class. The ladas are compared with their numbers.
    """

    rows: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    flagged_valid: int = 0
    flagged_invalid: int = 0
    readable_dates: int = 0
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    states: Counter[bytes] = field(default_factory=Counter)
    ladas_compared: int = 0
    ladas_wrong: int = 0
    ladas_cut: int = 0
    odd_rows: int = 0
    odd: list[tuple[bytes | int | float, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add a window's counts."""
        self.rows += other.rows
        self.flagged_valid += other.flagged_valid
        self.flagged_invalid += other.flagged_invalid
        self.readable_dates += other.readable_dates
        self.filled.update(other.filled)
        self.classes.update(other.classes)
        self.states.update(other.states)
        self.ladas_compared += other.ladas_compared
        self.ladas_wrong += other.ladas_wrong
        self.ladas_cut += other.ladas_cut
        self.odd_rows += other.odd_rows
        self.odd += other.odd
        _fold(self.states)


def scan(path: Path, first_id: int, last_id: int, rows: int, progress: Progress) -> Tally:
    """Count everything about the rows from first_id to last_id; `rows` is how many there are.

    Raises: AppError of `open_source`; sqlite3.Error when the file cannot be read to its end.
    """
    tally = Tally()
    connections = [open_source(path) for _ in range(THREADS)]
    try:
        for connection in connections:
            connection.execute(f"PRAGMA cache_size = {-CACHE_KIB:d}")
        windows = list(_windows(connections[0], first_id, last_id, rows))
        with ThreadPoolExecutor(THREADS) as pool:
            shares = [windows[start::THREADS] for start in range(THREADS)]
            streams = [_lane(pool, connection, share) for connection, share in zip(connections, shares, strict=True)]
            for window in _alternate(streams):
                tally.add(window)
                progress(tally.rows, rows)
    finally:
        for connection in connections:
            connection.close()
    return tally


def sample(connection: sqlite3.Connection, first_id: int, last_id: int) -> list[tuple[object, ...]]:
    """The text cells of up to SAMPLE_RUNS × SAMPLE_ROWS rows in runs spread evenly over the ids."""
    step = max((last_id - first_id + 1) // SAMPLE_RUNS, SAMPLE_ROWS)
    found: list[tuple[object, ...]] = []
    for first in range(first_id, last_id + 1, step):
        found += connection.execute(statement("inspect_sample"), {"first": first, "most": SAMPLE_ROWS}).fetchall()
    return found


def _windows(connection: sqlite3.Connection, first_id: int, last_id: int, rows: int) -> Iterator[tuple[int, int]]:
    """Windows of ids (first, last) that cover all rows; where ids are sparse, each holds WINDOW_IDS rows."""
    if last_id - first_id + 1 <= max(4 * rows, WINDOW_IDS):
        for first in range(first_id, last_id + 1, WINDOW_IDS):
            yield first, min(first + WINDOW_IDS - 1, last_id)
        return
    first = first_id
    while first <= last_id:
        following = connection.execute(
            "SELECT id FROM numeros WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?", (first, WINDOW_IDS)
        ).fetchone()
        last = following[0] - 1 if following else last_id
        yield first, last
        first = last + 1


def _lane(pool: ThreadPoolExecutor, connection: sqlite3.Connection, windows: list[tuple[int, int]]) -> Iterator[Tally]:
    """The tallies of `windows` in order, one window ahead of the caller; a connection serves one call at a time."""
    if not windows:
        return
    pending = pool.submit(_count, connection, windows[0])
    for window in windows[1:]:
        done = pending.result()
        pending = pool.submit(_count, connection, window)
        yield done
    yield pending.result()


def _alternate(streams: list[Iterator[Tally]]) -> Iterator[Tally]:
    while streams:
        for stream in list(streams):
            item = next(stream, None)
            if item is None:
                streams.remove(stream)
            else:
                yield item


def _count(connection: sqlite3.Connection, window: tuple[int, int]) -> Tally:
    bounds = {"first": window[0], "last": window[1]}
    row = connection.execute(statement("inspect_totals"), bounds).fetchone()
    tally = Tally(rows=row[0])
    tally.filled.update(dict(zip(COLUMNS, row[1:], strict=False)))
    tally.flagged_valid, tally.flagged_invalid, tally.readable_dates = row[-6:-3]
    tally.ladas_compared, tally.ladas_wrong, tally.ladas_cut = row[-3:]
    for *kinds, rows in connection.execute(statement("inspect_classes"), bounds):
        for column, kind in zip(COLUMNS, kinds, strict=True):
            if kind not in (b"null", BELONGS[column].encode()):
                tally.classes[column, kind.decode()] += rows
    for spelling, rows in connection.execute(statement("inspect_states"), bounds):
        tally.states[_short(spelling)] += rows
    odd = connection.execute(statement("inspect_numbers"), bounds)
    tally.odd = [(number, kind.decode()) for number, kind in islice(odd, ODD_A_WINDOW)]
    tally.odd_rows = len(tally.odd) + sum(1 for _ in odd)
    return tally


def _short(value: object) -> bytes:
    text = value if isinstance(value, bytes) else str(value).encode()
    return text if len(text) <= LONGEST_SPELLING else text[:LONGEST_SPELLING] + "…".encode()


def _fold(counts: Counter[bytes]) -> None:
    """Keep the commonest half of too many spellings and count the others together."""
    if len(counts) <= MOST_SPELLINGS:
        return
    kept = counts.most_common(MOST_SPELLINGS // 2)
    others = counts.total() - sum(rows for _, rows in kept)
    counts.clear()
    counts.update(dict(kept))
    counts[OTHERS] += others


def statement(name: str) -> str:
    """The SQLite statement in app/ingest/sql/`name`.sql."""
    return files("app.ingest").joinpath("sql", f"{name}.sql").read_text("utf-8")
