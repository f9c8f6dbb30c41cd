"""Writing a synthetic numeros.db: the table's pages by our own kernel, every index and the small tables by SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.ingest.source_schema import INDEXES, TABLES
from app.ingest.synthetic.dirt import Dirt, dirty_rows
from app.ingest.synthetic.numbers import number_spaces
from app.ingest.synthetic.pages import PAGE, Batch, TableWriter
from app.ingest.synthetic.records import decode, encode
from app.ingest.synthetic.rows import DAYS, MAX_RECORD, Bytes, Recipe, encode_rows
from app.ingest.synthetic.small_tables import fill_small_tables
from app.ingest.synthetic.vocabulary import vocabulary
from app.utils.numbering_plan import NumberingPlan

CHUNK: Final = 32_768
WORKERS: Final = 2
FIRST_DAY: Final = np.datetime64("2022-11-07")
# From this many rows on, some ids are missing, as where rows were deleted.
GAPS_FROM: Final = 100_000
GAP_EVERY: Final = 9_973
REINDEX: Final = (
    ("numero (unique)", "REINDEX sqlite_autoindex_numeros_1"),
    ("numero", "REINDEX idx_numeros_numero"),
    ("lada", "REINDEX idx_numeros_lada"),
    ("ciudad_por_lada", "REINDEX idx_numeros_ciudad"),
    ("municipio_cof", "REINDEX idx_numeros_municipio"),
    ("fecha_migracion", "REINDEX idx_numeros_fecha"),
)
# Called with (stage, done, total) now and then; stages are "rows" and the indexed columns.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """What to write: the same options give the same rows on every machine.

    `keep_storage_classes` leaves integers and reals in TEXT columns, where SQLite's own INSERT would have turned them
    into text; PRAGMA integrity_check then names those rows.
    """

    rows: int
    seed: int = 1
    dirty: float = 0.005
    keep_storage_classes: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and how long it took."""

    rows: int
    dirty_rows: int
    last_id: int
    table_seconds: float
    index_seconds: float


@dataclass(frozen=True, slots=True)
class _Chunk:
    batch: Batch
    prefix_counts: NDArray[np.int64]
    dirty: int


def write_database(path: Path, options: SyntheticOptions, plan: NumberingPlan, progress: Progress) -> Written:
    """Write a database of `options` at `path`, which must not exist.

    Raises: OSError, sqlite3.Error (disk full, no permission); KeyboardInterrupt when interrupted.
    """
    started = time.perf_counter()
    recipe = _recipe(options, plan)
    gaps = _id_gaps(options.rows, recipe.key)
    last_id = int(_ids(options.rows - 1, 1, gaps)[0])
    root, pages = _create_skeleton(path, last_id)
    writer = TableWriter(pages + 1)
    prefix_counts, dirty = np.zeros(1000, np.int64), 0
    with path.open("r+b") as file:
        file.seek(pages * PAGE)
        for chunk in _chunks(options, recipe, gaps):
            file.write(writer.add(chunk.batch))
            prefix_counts += chunk.prefix_counts
            dirty += chunk.dirty
            progress("rows", int(chunk.batch.ids[-1]) * options.rows // last_id, options.rows)
        rest, root_page = writer.finish()
        file.write(rest)
        file.seek((root - 1) * PAGE)
        file.write(root_page)
        file.seek(28)  # the header's count of pages
        file.write(writer.page_count.to_bytes(4, "big"))
    written = time.perf_counter()
    _build_indexes(path, prefix_counts, recipe, progress)
    return Written(options.rows, dirty, last_id, written - started, time.perf_counter() - written)


def _recipe(options: SyntheticOptions, plan: NumberingPlan) -> Recipe:
    key = int.from_bytes(sha256(str(options.seed).encode()).digest()[:8], "big") >> 1
    days = "".join(f"{FIRST_DAY + day} " for day in range(DAYS + 1))
    return Recipe(options.rows, key, number_spaces(plan), vocabulary(), np.frombuffer(days.encode(), np.uint8).copy())


def _id_gaps(rows: int, key: int) -> NDArray[np.int64]:
    """How many ids are missing before each block of GAP_EVERY rows."""
    blocks = rows // GAP_EVERY + 1
    if rows < GAPS_FROM:
        return np.zeros(blocks, np.int64)
    missing = (np.arange(blocks, dtype=np.int64) * 7 + key % 11) % 11
    missing[0] = 0
    return np.cumsum(missing)


def _ids(first_row: int, count: int, gaps: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.arange(first_row, first_row + count, dtype=np.int64)
    return rows + 1 + gaps[rows // GAP_EVERY]


def _create_skeleton(path: Path, last_id: int) -> tuple[int, int]:
    """An empty database with the schema; returns (root page of numeros, pages in the file)."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        for statement in (*TABLES, *INDEXES):
            connection.execute(statement)
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('numeros', ?)", (last_id,))
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'numeros'").fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    finally:
        connection.close()
    return int(root), int(pages)


def _chunks(options: SyntheticOptions, recipe: Recipe, gaps: NDArray[np.int64]) -> Iterator[_Chunk]:
    """The rows in order, made by WORKERS threads a few chunks ahead (the kernel releases the interpreter)."""
    dirt = Dirt(recipe, min(int(options.dirty * 2**64), 2**64 - 1), not options.keep_storage_classes)
    pending: deque[Future[_Chunk]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for first in range(0, options.rows, CHUNK):
                pending.append(pool.submit(_make_chunk, first, options, dirt, gaps))
                if len(pending) > WORKERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _make_chunk(first: int, options: SyntheticOptions, dirt: Dirt, gaps: NDArray[np.int64]) -> _Chunk:
    count = min(CHUNK, options.rows - first)
    starts, prefix_counts = np.empty(count + 1, np.int64), np.zeros(1000, np.int64)
    records = np.empty(count * MAX_RECORD, np.uint8)
    encode_rows(first, starts, records, dirt.recipe, prefix_counts)
    offsets = dirty_rows(first, count, dirt.recipe.key, np.uint64(dirt.threshold))
    records, starts, ends = _spoil(first, offsets, records[: starts[-1]], starts, dirt)
    return _Chunk(Batch(records, starts, ends, _ids(first, count, gaps)), prefix_counts, len(offsets))


def _spoil(
    first: int, offsets: NDArray[np.int64], records: Bytes, bounds: NDArray[np.int64], dirt: Dirt
) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64]]:
    """(records, starts, ends) with the dirty rows' records appended, and their bounds pointing there."""
    starts, ends = bounds[:-1].copy(), bounds[1:].copy()
    parts: list[bytes] = []
    at = len(records)
    for offset in offsets.tolist():
        clean = records[starts[offset] : ends[offset]].tobytes()
        cells = dirt.spoil(first + offset, decode(clean))
        part = encode(cells, with_affinity=dirt.with_affinity)
        starts[offset], ends[offset] = at, at + len(part)
        at += len(part)
        parts.append(part)
    if not parts:
        return records, starts, ends
    return np.concatenate([records, np.frombuffer(b"".join(parts), np.uint8)]), starts, ends


def _build_indexes(path: Path, prefix_counts: NDArray[np.int64], recipe: Recipe, progress: Progress) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("PRAGMA threads = 2")
        # Returning to Python now and then lets Ctrl-C through; SQLite then stops with SQLITE_INTERRUPT.
        connection.set_progress_handler(lambda: 0, 1_000_000)
        for step, (stage, statement) in enumerate(REINDEX):
            progress(stage, step, len(REINDEX))
            connection.execute(statement)
        progress("indexes", len(REINDEX), len(REINDEX))
        fill_small_tables(connection, prefix_counts, recipe)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise
    finally:
        connection.close()
