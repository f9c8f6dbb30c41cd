"""SQLite records, one at a time in plain Python: for the few rows that the dirt changes."""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

Cell: TypeAlias = "int | float | str | bytes | RawText | None"
TEXT_COLUMNS: Final = 13  # numero … ciudad_por_lada have TEXT affinity; es_valido and fecha_migracion NUMERIC
_INTEGER_BYTES: Final = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8))


class RawText(bytes):
    """Bytes to be stored as TEXT although they are not valid UTF-8."""

    __slots__ = ()


def decode(record: bytes) -> list[Cell]:
    """The cells after id of a record that `rows.encode_rows` made (NULL, 0, 1 and text only)."""
    header_size, at = _varint(record, 0)
    at += 1  # id
    body = header_size
    cells: list[Cell] = []
    while at < header_size:
        serial, at = _varint(record, at)
        size = (serial - 13) // 2 if serial >= 13 else 0
        cells.append(record[body : body + size].decode() if size else {0: None, 8: 0, 9: 1}[serial])
        body += size
    return cells


def encode(cells: list[Cell], *, with_affinity: bool) -> bytes:
    """A record of a NULL (id) and `cells`; with affinity they are stored as SQLite itself would have stored them."""
    if with_affinity:
        cells = [_with_affinity(cell, is_text=index < TEXT_COLUMNS) for index, cell in enumerate(cells)]
    parts = [_serial(cell) for cell in cells]
    types = b"\x00" + b"".join(_put_varint(serial) for serial, _ in parts)
    size = len(types) + 1
    if size > 127:
        size += 1
    return _put_varint(size) + types + b"".join(body for _, body in parts)


def _with_affinity(cell: Cell, *, is_text: bool) -> Cell:
    if is_text:
        return str(cell) if isinstance(cell, int | float) else cell
    if isinstance(cell, str):
        try:
            cell = float(cell)
        except ValueError:
            return cell
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _serial(cell: Cell) -> tuple[int, bytes]:
    if cell is None:
        return 0, b""
    if isinstance(cell, int):
        return _integer(cell)
    if isinstance(cell, float):
        return 7, struct.pack(">d", cell)
    if isinstance(cell, str | RawText):
        body = cell.encode("utf-8", "surrogatepass") if isinstance(cell, str) else bytes(cell)
        return 13 + 2 * len(body), body
    return 12 + 2 * len(cell), cell


def _integer(value: int) -> tuple[int, bytes]:
    if value in (0, 1):
        return 8 + value, b""
    for serial, size in _INTEGER_BYTES:
        if -(1 << (8 * size - 1)) <= value < 1 << (8 * size - 1):
            return serial, value.to_bytes(size, "big", signed=True)
    msg = f"{value} does not fit into 64 bits"
    raise OverflowError(msg)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    while True:
        byte = data[at]
        at += 1
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at


def _put_varint(value: int) -> bytes:
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127 | 128)
    return bytes(reversed(parts))
