"""Decode leaf pages of a SQLite table into columns of cell positions.

Source: the SQLite file format (database file format document, sections 1.6 B-tree pages and 2.1 record format).
Every offset that the file states is checked against its page before it is used: a corrupt file ends in a code, never in
memory that is not ours.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

NULL, INTEGER, REAL, TEXT, BLOB = range(5)
"""Kinds of a cell, as in `kind`."""

OK, CORRUPT = 0, 1
"""Outcome of `decode_leaves`."""

IN_PAGE, ELSEWHERE, UNUSUAL = range(3)
"""`placed` of a row: whole in its page and plain; to be read through SQLite (overflow pages, columns added later); whole in
its page, with a cell that only the scalar rule reads."""

LEAF_TABLE = 0x0D
SERIAL_SIZE: npt.NDArray[np.int64] = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0], dtype=np.int64)


@nb.njit(inline="always")
def read_varint(buf, at, end):  # type: ignore[no-untyped-def]
    """(value, position after it); position -1 when the varint would pass `end`."""
    value = np.int64(0)
    for k in range(9):
        if at >= end:
            return value, np.int64(-1)
        byte = np.int64(buf[at])
        at += 1
        if k == 8:
            return (value << 8) | byte, at
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at
    return value, at


@nb.njit(cache=True, nogil=True, boundscheck=False)
def decode_leaves(  # type: ignore[no-untyped-def]
    buf, page_at, page_size, usable, cursor, first_id, upto_id, max_rows, slot_of_column, ids, start, size, kind, placed
):
    """Fill the row arrays from the pages at `page_at` in `buf`, from `cursor` on; returns (rows, state).

    Shapes: page_at int64[pages] (offset of each page in buf); cursor int64[2] = (page, cell), moved forward;
    slot_of_column int64[table columns] (canonical column, or -1); ids int64[rows]; start, size int64[rows, 16]
    (position in buf, bytes); kind uint8[rows, 16]; placed uint8[rows]. Rows outside first_id <= id <= upto_id are passed
    over. state is OK or CORRUPT (then cursor names the page and cell).
    """
    rows = 0
    columns = len(slot_of_column)
    slots = start.shape[1]
    longest_local = usable - 35
    while cursor[0] < len(page_at):
        base = page_at[cursor[0]]
        end = base + usable
        if buf[base] != LEAF_TABLE:
            return rows, CORRUPT
        cells = (np.int64(buf[base + 3]) << 8) | np.int64(buf[base + 4])
        if 8 + 2 * cells > usable:
            return rows, CORRUPT
        while cursor[1] < cells:
            if rows == max_rows:
                return rows, OK
            pointer = base + 8 + 2 * cursor[1]
            at = base + ((np.int64(buf[pointer]) << 8) | np.int64(buf[pointer + 1]))
            if at < base + 8 + 2 * cells or at >= end:
                return rows, CORRUPT
            payload, at = read_varint(buf, at, end)
            if at < 0 or payload < 0:
                return rows, CORRUPT
            row_id, at = read_varint(buf, at, end)
            if at < 0:
                return rows, CORRUPT
            if row_id < first_id:
                cursor[1] += 1
                continue
            if row_id > upto_id:
                cursor[0] = len(page_at)
                return rows, OK
            ids[rows] = row_id
            placed[rows] = IN_PAGE
            for c in range(slots):
                kind[rows, c] = NULL
                size[rows, c] = 0
                start[rows, c] = at
            if payload > longest_local:
                placed[rows] = ELSEWHERE
                rows += 1
                cursor[1] += 1
                continue
            if at + payload > end:
                return rows, CORRUPT
            record_end = at + payload
            header_start = at
            header, at = read_varint(buf, at, record_end)
            if at < 0 or header < 1 or header_start + header > record_end:
                return rows, CORRUPT
            header_end = header_start + header
            body = header_end
            seen_columns = 0
            while at < header_end:
                if buf[at] < 0x80:
                    serial = np.int64(buf[at])
                    at += 1
                else:
                    serial, at = read_varint(buf, at, header_end)
                    if at < 0 or serial < 0:
                        return rows, CORRUPT
                if serial < 12:
                    length = SERIAL_SIZE[serial]
                else:
                    length = (serial - 12) >> 1
                if body + length > record_end:
                    return rows, CORRUPT
                if seen_columns < columns:
                    slot = slot_of_column[seen_columns]
                    if slot >= 0:
                        start[rows, slot] = body
                        size[rows, slot] = length
                        if serial >= 12:
                            kind[rows, slot] = TEXT if serial & 1 else BLOB
                        elif serial == 0:
                            kind[rows, slot] = NULL
                        elif serial == 7:
                            kind[rows, slot] = REAL
                        else:
                            kind[rows, slot] = INTEGER
                            if serial == 8 or serial == 9:
                                size[rows, slot] = 8 - serial  # 0 or -1: the constants 0 and 1, which take no byte
                body += length
                seen_columns += 1
            if seen_columns < columns:
                placed[rows] = ELSEWHERE
            rows += 1
            cursor[1] += 1
        cursor[0] += 1
        cursor[1] = 0
    return rows, OK


@nb.njit(cache=True, nogil=True, boundscheck=False)
def interior_children(page, header_at, usable, children, keys):  # type: ignore[no-untyped-def]
    """Child pages and their largest row ids of one interior table page; returns their count, or -1 when corrupt.

    Shapes: page uint8[page size]; children, keys int64[at least usable // 6 + 1]. The last child has no key of its own
    and gets the largest int64.
    """
    cells = (np.int64(page[header_at + 3]) << 8) | np.int64(page[header_at + 4])
    if header_at + 12 + 2 * cells > usable or cells + 1 > len(children):
        return -1
    for i in range(cells):
        pointer = header_at + 12 + 2 * i
        at = (np.int64(page[pointer]) << 8) | np.int64(page[pointer + 1])
        if at < header_at + 12 or at + 5 > usable:
            return -1
        child = np.int64(0)
        for k in range(4):
            child = (child << 8) | np.int64(page[at + k])
        key, after = read_varint(page, at + 4, usable)
        if after < 0:
            return -1
        children[i] = child
        keys[i] = key
    last = np.int64(0)
    for k in range(4):
        last = (last << 8) | np.int64(page[header_at + 8 + k])
    children[cells] = last
    keys[cells] = np.iinfo(np.int64).max
    return cells + 1
