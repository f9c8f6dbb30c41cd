"""numeros.db as the loader sees it: proven fit to be read, hashed, and handed out as blocks of decoded rows."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.core.errors import InvalidInput
from app.ingest.kernels.pages import ELSEWHERE, INTEGER, NULL, OK, REAL, TEXT, decode_leaves
from app.ingest.source_connection import SQLITE_ERRORS, open_source, read_header, translate_error
from app.ingest.sqlite_file import PageRun, SqliteFile, corrupt

COLUMNS = (
    "id", "numero", "campo1_original", "nombre", "campo3", "direccion", "colonia", "municipio_csv", "estado_sep",
    "municipio_sep", "estado_cof", "municipio_cof", "lada", "ciudad_por_lada", "es_valido", "fecha_migracion",
)  # fmt: skip
"""The columns of `numeros`; a column's place here is its slot in every array."""

SLOT = {name: slot for slot, name in enumerate(COLUMNS)}
TABLES = ("numeros", "estadisticas_migracion", "ladas_faltantes")
BLOCK_ROWS = 4096
"""Rows decoded at a time: their positions and cells stay in the processor's cache."""

BLOCK_PAGES = 384
Cell = None | int | float | str | bytes
"""A cell as Python holds it; str is valid UTF-8 TEXT, bytes a BLOB, and TEXT that is not UTF-8 is `RawText`."""


class RawText(bytes):
    """TEXT whose bytes are not valid UTF-8."""


class RowBlock:
    """Decoded rows. Shapes: ids int64[n]; start, size int64[n, 16] (position in `buffer`, bytes); kind uint8[n, 16]; placed
    uint8[n]. The arrays are used again for the next block."""

    def __init__(self) -> None:
        self.buffer = np.zeros(0, dtype=np.uint8)
        self.rows = 0
        self.ids = np.zeros(BLOCK_ROWS, dtype=np.int64)
        self.start = np.zeros((BLOCK_ROWS, len(COLUMNS)), dtype=np.int64)
        self.size = np.zeros((BLOCK_ROWS, len(COLUMNS)), dtype=np.int64)
        self.kind = np.zeros((BLOCK_ROWS, len(COLUMNS)), dtype=np.uint8)
        self.placed = np.zeros(BLOCK_ROWS, dtype=np.uint8)

    def cell(self, row: int, slot: int) -> Cell:
        """The cell as Python holds it, from the page it lies in."""
        what, at, size = int(self.kind[row, slot]), int(self.start[row, slot]), int(self.size[row, slot])
        if what == NULL:
            return None
        if what == INTEGER and size <= 0:
            return -size
        return decode_cell(what, self.buffer[at : at + size].tobytes())

    def cells(self, row: int) -> tuple[Cell, ...]:
        """All 16 cells of a row that lies whole in its page."""
        starts, sizes, kinds = self.start[row].tolist(), self.size[row].tolist(), self.kind[row].tolist()
        base = min(starts)
        data = self.buffer[base : max(map(int.__add__, starts, sizes))].tobytes()
        values: list[Cell] = [int(self.ids[row])]
        for what, at, size in zip(kinds[1:], starts[1:], sizes[1:], strict=True):
            if what == NULL:
                values.append(None)
            elif what == INTEGER and size <= 0:
                values.append(-size)
            else:
                values.append(decode_cell(what, data[at - base : at - base + size]))
        return tuple(values)


def decode_cell(what: int, data: bytes) -> Cell:
    """A cell of a kind that has bytes, as Python holds it."""
    if what == TEXT:
        return decode_text(data)
    if what == INTEGER:
        return int.from_bytes(data, "big", signed=True)
    return float(struct.unpack(">d", data)[0]) if what == REAL else data


def decode_text(data: bytes) -> Cell:
    """TEXT as str where its bytes are valid UTF-8, else as RawText."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return RawText(data)


def _select(table: str, columns: tuple[str, ...]) -> str:
    """Each column of `columns` (names of our own, never the user's) and its storage class."""
    pairs = ", ".join(f'"{name}", typeof("{name}")' for name in columns)
    return " ".join(("SELECT", pairs, "FROM", table))


def _typed(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Cells from (value, typeof) pairs of a connection that gives TEXT as bytes."""
    return tuple(
        decode_text(value) if kind == b"text" and isinstance(value, bytes) else value
        for value, kind in zip(row[::2], row[1::2], strict=True)
    )


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What identifies a source: the hash of its bytes, and the rows it holds. Units: size in bytes."""

    sha256: str
    size: int
    rows: int
    first_id: int
    last_id: int


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Not for a file that a Source holds open: see `Source.sha256`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Source:
    """An opened numeros.db. It is read-only, and holds a shared lock so that no writer changes it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_header(path)
        self._is_utf8 = header.encoding == "UTF-8"
        self.connection = open_source(path)
        with ExitStack() as undo:
            undo.callback(self.connection.close)
            # A read transaction left open: writers can prepare, and cannot commit under our reader. From here on the file
            # is opened once more only, by SqliteFile: closing any descriptor of it would drop the lock.
            try:
                self.connection.execute("BEGIN")
                self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except SQLITE_ERRORS as error:
                raise translate_error(path, error) from error
            self._slot_of_column, root_page = self._check_schema()
            self._file = SqliteFile(path, root_page, header)
            undo.pop_all()
        self._select = _select("numeros", COLUMNS)

    def close(self) -> None:
        """Give up the lock and the file."""
        self.connection.close()
        self._file.close()

    def _check_schema(self) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
        try:
            return self._read_schema()
        except SQLITE_ERRORS as error:
            raise translate_error(self.path, error) from error

    def _read_schema(self) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
        found = {
            bytes(name).decode("utf-8", "replace"): int(root)
            for name, root in self.connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")
        }
        missing = [table for table in TABLES if table not in found]
        if missing:
            raise InvalidInput(
                f"{self.path} has no table {', '.join(missing)}: it is not a numeros.db. "
                "`smsctl source inspect` shows what it holds.",
                code="source_schema",
            )
        columns = [
            bytes(row[1]).decode("utf-8", "replace") for row in self.connection.execute("PRAGMA table_xinfo(numeros)")
        ]
        absent, unknown = set(COLUMNS) - set(columns), set(columns) - set(COLUMNS)
        if absent or unknown:
            what = [f"lacks {', '.join(sorted(absent))}"] * bool(absent)
            what += [f"has {', '.join(sorted(unknown))}, which no mapping keeps"] * bool(unknown)
            raise InvalidInput(
                f"Table numeros of {self.path} {' and '.join(what)}. `smsctl source inspect` shows the schema expected.",
                code="source_schema",
            )
        self._check_key()
        return np.array([SLOT[name] for name in columns], dtype=np.int64), found["numeros"]

    def _check_key(self) -> None:
        """Raises: InvalidInput unless id is the row id itself, which pages are ordered by."""
        primary = [bytes(row[1]) for row in self.connection.execute("PRAGMA table_xinfo(numeros)") if row[5]]
        # INTEGER PRIMARY KEY needs no index; INT, DESC and WITHOUT ROWID do: then id and row id are two things.
        has_index = any(row[3] == b"pk" for row in self.connection.execute("PRAGMA index_list(numeros)"))
        if primary != [b"id"] or has_index:
            raise InvalidInput("Column id of numeros must be its INTEGER PRIMARY KEY.", code="source_schema")

    def sha256(self) -> str:
        """SHA-256 of the file as it is now, in hexadecimal. Reads all of it, and keeps the lock on it."""
        return self._file.sha256()

    def facts(self) -> SourceFacts:
        """Hash, size and row count of the file as it is now. Reads all of it."""
        try:
            rows = self.connection.execute("SELECT count(*) FROM numeros").fetchone()[0]
            first, last = self.connection.execute(
                "SELECT (SELECT min(id) FROM numeros), (SELECT max(id) FROM numeros)"
            ).fetchone()
        except SQLITE_ERRORS as error:
            raise translate_error(self.path, error) from error
        return SourceFacts(self.sha256(), self.path.stat().st_size, rows, first or 0, last or 0)

    def is_unchanged(self, facts: SourceFacts) -> bool:
        """Whether the file at its path is the one that was opened, with the bytes it had. Reads all of it.

        In WAL mode a writer is not kept out, and what it commits lies in the log beside the file.
        """
        log = self.path.with_name(self.path.name + "-wal")
        is_logged = log.exists() and log.stat().st_size > 0
        return not is_logged and self._file.is_still_at_its_path() and self._file.sha256() == facts.sha256

    def blocks(self, after_id: int, upto_id: int, most_rows: int, block: RowBlock) -> Iterator[RowBlock]:
        """The rows with after_id < id <= upto_id in id order, at most `most_rows`, block by block in `block`.

        Raises: InvalidInput (source_corrupt) where the file contradicts itself.
        """
        if after_id >= upto_id:
            return
        leaf = self._file.leaf_of(after_id + 1)
        left = most_rows
        while left > 0 and leaf < len(self._file.leaves):
            run = self._file.read_leaves(leaf, BLOCK_PAGES)
            leaf += BLOCK_PAGES
            cursor = np.zeros(2, dtype=np.int64)
            while left > 0 and after_id < upto_id and cursor[0] < len(run.page_at):
                self._decode(run, cursor, after_id + 1, upto_id, min(left, BLOCK_ROWS), block)
                left -= block.rows
                if block.rows:
                    after_id = int(block.ids[block.rows - 1])
                    yield block
            if after_id >= upto_id or (len(run.page_at) and self._file.largest_keys[leaf - BLOCK_PAGES] > upto_id):
                return

    def _decode(
        self, run: PageRun, cursor: np.ndarray[tuple[int], np.dtype[np.int64]], first_id: int, upto_id: int, most: int,
        block: RowBlock,
    ) -> None:  # fmt: skip
        block.buffer = run.buffer
        block.rows, state = decode_leaves(
            run.buffer, run.page_at, self._file.page_size, self._file.usable, cursor, first_id, upto_id, most,
            self._slot_of_column, block.ids, block.start, block.size, block.kind, block.placed,
        )  # fmt: skip
        if state != OK:
            raise corrupt(self.path, f"page {run.pages[cursor[0]]}, cell {cursor[1]}")
        if not self._is_utf8:
            block.placed[: block.rows] = ELSEWHERE
        if block.rows and (block.ids[0] < first_id or np.any(np.diff(block.ids[: block.rows]) <= 0)):
            raise corrupt(self.path, f"row ids out of order near {block.ids[0]}")

    def cells(self, block: RowBlock, row: int) -> tuple[Cell, ...]:
        """The 16 cells of a row: from its page, or through SQLite where the page does not hold it whole."""
        if block.placed[row] != ELSEWHERE:
            return block.cells(row)
        return self.cells_of(int(block.ids[row]))

    def cell(self, block: RowBlock, row: int, slot: int) -> Cell:
        """One cell of a row: from its page, or through SQLite where the page does not hold it whole."""
        if block.placed[row] != ELSEWHERE:
            return block.cell(row, slot)
        return self.cells_of(int(block.ids[row]))[slot]

    def cells_of(self, source_id: int) -> tuple[Cell, ...]:
        """The 16 cells of the row `source_id`, through SQLite's own library.

        Raises: InvalidInput (source_corrupt) when the row that its page names cannot be found.
        """
        try:
            found = self.connection.execute(self._select + " WHERE id = ?", (source_id,)).fetchone()
        except SQLITE_ERRORS as error:
            raise translate_error(self.path, error) from error
        if found is None:
            raise corrupt(self.path, f"row {source_id} is in its page and not in its table")
        return _typed(found)

    def table_rows(self, table: str, columns: tuple[str, ...]) -> list[tuple[Cell, ...]]:
        """All rows of a small table, in the order of its rows. Raises: InvalidInput when a column is missing."""
        try:
            rows = self.connection.execute(_select(table, columns) + " ORDER BY rowid").fetchall()
        except sqlite3.OperationalError as error:
            if "no such column" not in str(error):
                raise translate_error(self.path, error) from error
            raise InvalidInput(
                f"Table {table} of {self.path} is not as expected: {error}.", code="source_schema"
            ) from error
        except SQLITE_ERRORS as error:
            raise translate_error(self.path, error) from error
        return [_typed(row) for row in rows]

    def real_as_text(self, value: float) -> str:
        """A REAL as SQLite itself writes it."""
        return bytes(self.connection.execute("SELECT CAST(? AS TEXT)", (value,)).fetchone()[0]).decode()
