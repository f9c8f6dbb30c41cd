"""numeros.db for the validator: read by SQLite's own library, never by the loader's page reader.

Blocks of cells come through ADBC (SQLite behind Arrow, about four times as fast) and, where that cannot be used, through
Python's sqlite3. Single rows and the small tables always come through sqlite3.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from app.core.errors import InvalidInput
from app.core.logs import get_logger
from app.ingest.kernels.memory import PADDING
from app.ingest.kernels.validation import CELLS
from app.ingest.rows import CARRIED
from app.ingest.source import COLUMNS, TABLES, Cell, decode_text
from app.ingest.source_connection import open_source, read_header, translate_error

BLOCK_COLUMNS = ("numero", *CARRIED, "ciudad_por_lada", "estado_cof")
"""Cells of a block in the order of the kernel; the date follows them."""

ADBC_ROWS, PLAIN_ROWS = 4096, 512
"""Rows of a block, either way; a long cell must not multiply into gigabytes."""

SCALAR_FLAG = 2
"""Added to a block's flag where the scalar rule must read the row."""

log = get_logger("validate")


@dataclass(slots=True)
class CellBlock:
    """Cells of consecutive rows, in the shapes that `kernels.validation.hash_rows` takes."""

    ids: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    buf: npt.NDArray[np.uint8]
    base: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int32]
    valid: npt.NDArray[np.uint8]


class SourceReader:
    """One reader of a numeros.db, for one thread at a time. It holds a read transaction until it is closed."""

    def __init__(self, path: Path, *, use_adbc: bool = True) -> None:
        self.path = path
        self.connection = open_source(path)
        header = read_header(path)
        self._uri = f"file://{quote(os.fsencode(path.absolute()))}?mode=ro" + "&immutable=1" * header.is_wal
        try:
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT 1 FROM numeros LIMIT 1").fetchone()
            self._affinities = {
                _text(row[1]): _affinity(_text(row[2]))
                for row in self.connection.execute("PRAGMA table_xinfo(numeros)")
            }
        except sqlite3.Error as error:
            self.connection.close()
            raise translate_error(path, error) from error
        self._row = f"SELECT {_with_classes(COLUMNS)} FROM numeros WHERE id = ?"  # noqa: S608 - constant names
        # In a UTF-16 file a cell's bytes are not the text's UTF-8: sqlite3 converts, ADBC hands the bytes out.
        self.adbc = _adbc() if use_adbc and header.encoding == "UTF-8" else None

    def close(self) -> None:
        """End the read transaction and close the file."""
        self.connection.close()

    def one(self, query: str, *values: int) -> Any:
        """The first value of a query's first row."""
        try:
            return self.connection.execute(query, values).fetchone()[0]
        except sqlite3.Error as error:
            raise translate_error(self.path, error) from error

    def cells_of(self, source_id: int) -> tuple[Cell, ...] | None:
        """The 16 cells of a row, or None when there is no such row."""
        try:
            row = self.connection.execute(self._row, (source_id,)).fetchone()
        except sqlite3.Error as error:
            raise translate_error(self.path, error) from error
        return None if row is None else _cells(row)

    def table_rows(self, table: str, columns: tuple[str, ...]) -> list[tuple[Cell, ...]]:
        """All rows of a small table, in the order of its rows."""
        if table not in TABLES:
            raise InvalidInput(f"{table} is no table of a numeros.db.", code="source_schema")
        try:
            query = f'SELECT {_with_classes(columns)} FROM "{table}" ORDER BY rowid'  # noqa: S608 - one of TABLES
            rows = self.connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise translate_error(self.path, error) from error
        return [_cells(row) for row in rows]

    def real_as_text(self, value: float) -> str:
        """A REAL as SQLite itself writes it."""
        return _text(self.connection.execute("SELECT CAST(? AS TEXT)", (value,)).fetchone()[0])

    def blocks(self, first: int, last: int) -> Iterator[CellBlock]:
        """The rows with first <= id <= last in id order, block by block.

        Raises: AppError when the file cannot be read.
        """
        if self.adbc is not None:
            try:
                for block in self._adbc_blocks(first, last):
                    yield block
                    first = int(block.ids[-1]) + 1
            except (self.adbc.Error, _arrow_error(), OSError, ValueError) as error:
                log.warning("going on without ADBC", reason=str(error).splitlines()[0][:200])
                self.adbc = None
            else:
                return
        yield from self._plain_blocks(first, last)

    def _select(self, *, as_bytes: bool) -> str:
        """Rows in a range of ids: id, the cells, the date where it is TEXT, and the flag. BLOBs sort behind all else."""
        cells = [f'CAST("{name}" AS BLOB)' if as_bytes else f'"{name}"' for name in BLOCK_COLUMNS]
        date = f"CASE WHEN fecha_migracion < x'' THEN CAST(fecha_migracion AS {'BLOB' if as_bytes else 'TEXT'}) END"
        flag = "CASE WHEN es_valido = 1 OR es_valido IS NULL THEN 0 WHEN es_valido = 0 THEN 1 ELSE 2 END"
        # A REAL is written out differently by different SQLite versions; a column of type TEXT never holds one.
        loose = [name for name in BLOCK_COLUMNS if self._affinities.get(name) != "TEXT"]
        flag += "".join(f" + {SCALAR_FLAG} * coalesce(typeof(\"{name}\") = 'real', 0)" for name in loose)
        return f"SELECT id, {', '.join(cells)}, {date}, {flag} FROM numeros WHERE id BETWEEN ? AND ?"  # noqa: S608 - constants

    def _adbc_blocks(self, first: int, last: int) -> Iterator[CellBlock]:
        # ADBC takes a column's type from its first rows, where all may be NULL: a row made of BLOBs comes first.
        blobs = ", ".join(["x''"] * CELLS)
        query = f"SELECT 0, {blobs}, 0 UNION ALL {self._select(as_bytes=True)}"
        options = {"adbc.sqlite.query.batch_rows": ADBC_ROWS}
        assert self.adbc is not None  # noqa: S101 - for the type checker: the caller looked
        with (
            closing(self.adbc.connect(self._uri, autocommit=True)) as connection,
            closing(connection.cursor(adbc_stmt_kwargs=options)) as cursor,
        ):
            cursor.execute(query, (first, last))
            for number, batch in enumerate(cursor.fetch_record_batch()):
                rows = batch.slice(1) if number == 0 else batch
                if rows.num_rows:
                    yield _checked(_from_arrow(rows), first)
                    first = int(rows.column(0)[-1].as_py()) + 1

    def _plain_blocks(self, first: int, last: int) -> Iterator[CellBlock]:
        try:
            cursor = self.connection.execute(self._select(as_bytes=False), (first, last))
            while rows := cursor.fetchmany(PLAIN_ROWS):
                block = _checked(_from_rows(rows), first)
                first = int(block.ids[-1]) + 1
                yield block
        except sqlite3.Error as error:
            raise translate_error(self.path, error) from error


def _checked(block: CellBlock, first: int) -> CellBlock:
    if block.ids[0] < first or np.any(block.ids[1:] <= block.ids[:-1]):
        raise InvalidInput(f"SQLite gave ids out of order near {block.ids[0]}.", code="source_corrupt")
    return block


def _adbc() -> Any:
    """The driver's module, or None where it or pyarrow is not installed."""
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module("adbc_driver_sqlite.dbapi")
    except ImportError as error:
        log.warning("reading without ADBC, slower", reason=str(error))
        return None


def _arrow_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("pyarrow").ArrowException
    return error


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _affinity(declared: str) -> str:
    """TEXT when the declared type gives a column that affinity, else ''. Source: sqlite.org/datatype3.html, 3.1."""
    words = declared.upper()
    return "TEXT" if "INT" not in words and any(word in words for word in ("CHAR", "CLOB", "TEXT")) else ""


def _with_classes(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}", typeof("{name}")' for name in columns)


def _cells(row: Sequence[Any]) -> tuple[Cell, ...]:
    return tuple(
        decode_text(value) if kind == b"text" and isinstance(value, bytes) else value
        for value, kind in zip(row[::2], row[1::2], strict=True)
    )


def _from_arrow(batch: Any) -> CellBlock:
    """A block out of an Arrow record batch; bytes are copied so that the kernel may look past their end."""
    rows = batch.num_rows
    offsets = np.empty((CELLS, rows + 1), dtype=np.int32)
    valid = np.full((CELLS, (rows + 7) // 8), 0xFF, dtype=np.uint8)
    pieces, base, size = [], np.zeros(CELLS, dtype=np.int64), 0
    for k in range(CELLS):
        column = batch.column(k + 1)
        bits, spots, data = column.buffers()
        spot = np.frombuffer(spots, dtype=np.int32)[column.offset : column.offset + rows + 1]
        if bits is not None and column.null_count:
            flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
            valid[k] = np.packbits(flags[column.offset : column.offset + rows], bitorder="little")
        begin, end = int(spot[0]), int(spot[-1])
        np.subtract(spot, begin, out=offsets[k])
        base[k] = size
        if end > begin:
            pieces.append(np.frombuffer(data, dtype=np.uint8)[begin:end])
        size += end - begin
    pieces.append(np.zeros(PADDING, dtype=np.uint8))
    ids, flags = (batch.column(k).to_numpy(zero_copy_only=False).astype(np.int64) for k in (0, CELLS + 1))
    return CellBlock(ids, flags, np.concatenate(pieces), base, offsets, valid)


def _from_rows(rows: Sequence[Sequence[Any]]) -> CellBlock:
    """A block out of rows of sqlite3. A cell that is neither NULL nor bytes sends its row to the scalar rule."""
    count = len(rows)
    columns = list(zip(*rows, strict=True))
    flags = np.array(columns[CELLS + 1], dtype=np.int64)
    offsets = np.zeros((CELLS, count + 1), dtype=np.int32)
    valid = np.zeros((CELLS, (count + 7) // 8), dtype=np.uint8)
    pieces, base, size = [], np.zeros(CELLS, dtype=np.int64), 0
    for k in range(CELLS):
        cells = columns[k + 1]
        for row, cell in enumerate(cells):
            if cell is not None and not isinstance(cell, bytes):
                flags[row] |= SCALAR_FLAG
        data = [cell if isinstance(cell, bytes) else b"" for cell in cells]
        valid[k] = np.packbits([cell is not None for cell in cells], bitorder="little")
        offsets[k, 1:] = np.cumsum([len(cell) for cell in data])
        base[k] = size
        pieces += data
        size += int(offsets[k, -1])
    buf = np.frombuffer(b"".join(pieces) + bytes(PADDING), dtype=np.uint8).copy()
    return CellBlock(np.array(columns[0], dtype=np.int64), flags, buf, base, offsets, valid)
