"""Encode rows as PostgreSQL's binary COPY format, straight from the cells of the source.

Source: COPY, section 'Binary Format': per row an int16 count of fields, per field an int32 length (-1 for NULL) and the
bytes, all big-endian. What many rows share (a state's code and name, a line type and its operator …) is encoded once
and copied whole.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from app.ingest.kernels.cells import NO_DATE
from app.ingest.kernels.memory import PADDING, copy_bytes, prefetch, store8_big_endian
from app.ingest.kernels.pages import NULL
from app.utils.geo_utils import CITY_INFERRED
from app.utils.numbering_plan import find_range

FIELDS = 28
"""Columns of CONTACT_COLUMNS in `app.ingest.target`, in this order."""

AHEAD = 16
LONGEST_ROW = 8_000
"""No row that is encoded here is longer: the limits of its texts add up to less."""


@nb.njit(inline="always")
def _put4(out, p, value):  # type: ignore[no-untyped-def]
    store8_big_endian(out, p, np.int64(value) << 32)
    return p + 4


@nb.njit(inline="always")
def _put8(out, p, value):  # type: ignore[no-untyped-def]
    """An int64 field: its length, 8, and its bytes."""
    store8_big_endian(out, p, np.int64(8) << 32)
    store8_big_endian(out, p + 4, value)
    return p + 12


@nb.njit(inline="always")
def _put_cell(out, p, buf, start, size, kind, i, slot):  # type: ignore[no-untyped-def]
    """A text field with the cell's bytes, or NULL."""
    if kind[i, slot] == NULL:
        store8_big_endian(out, p, np.int64(-1))
        return p + 4
    length = size[i, slot]
    store8_big_endian(out, p, length << 32)
    copy_bytes(out, p + 4, buf, start[i, slot], length)
    return p + 4 + length


@nb.njit(inline="always")
def _put_shared(out, p, pool, spots, spot):  # type: ignore[no-untyped-def]
    """Fields that were encoded beforehand."""
    length = spots[spot, 1]
    copy_bytes(out, p, pool, spots[spot, 0], length)
    return p + length


@nb.njit(cache=True, nogil=True, boundscheck=False)
def plan_classes(number, blocks, first, last, class_of_range, class_of_lead, plan_class):  # type: ignore[no-untyped-def]
    """Fill plan_class int32[n]: the class (line type and operator) of each number, by its range or its service prefix.

    Shapes: number int64[n] (0 for none); blocks, first, last as in NumberingPlan; class_of_range int32[ranges + 1], the
    last one for numbers that no range holds; class_of_lead int32[1000], -1 where the range decides.
    """
    for i in range(len(number)):
        if i + AHEAD < len(number):
            prefetch(blocks, number[i + AHEAD] // 10_000)
        forced = class_of_lead[number[i] // 10_000_000]
        plan_class[i] = forced if forced >= 0 else class_of_range[find_range(blocks, first, last, number[i])]


@nb.njit(cache=True, nogil=True, boundscheck=False)
def encode_rows(  # type: ignore[no-untyped-def]
    buf,
    begin,
    rows,
    wanted,
    ids,
    number,
    moment,
    flagged,
    state,
    zone,
    inferred,
    plan_class,
    start,
    size,
    kind,
    slots,
    id_offset,
    run_id,
    class_mobile,
    class_assigned,
    pool,
    spots,
    tables,
    out,
):
    """Encode the rows from `begin` on where `wanted` into out uint8[]; returns (bytes written, next row).

    Stops before a row that might not fit. Shapes: slots int64[10], the cells in the order of their fields: phone_original,
    full_name, address, neighborhood, municipality, city, campo3, municipio_csv, estado_sep, municipio_sep; plan_class
    int32[n], class of line type and operator; pool uint8[] holds the shared fields, spots int64[m, 2] their (position,
    length), tables int64[6] where in spots begin: states, ladas by lead, cities by lead, classes, verdicts, zones.
    """
    p = 0
    digits = np.zeros(10 + PADDING, dtype=np.uint8)
    digits[:3] = (43, 53, 50)
    for i in range(begin, rows):
        if not wanted[i]:
            continue
        if p + LONGEST_ROW > len(out):
            return p, i
        store8_big_endian(out, p, np.int64(FIELDS) << 48)
        p += 2
        p = _put8(out, p, ids[i] + id_offset)
        p = _put8(out, p, ids[i])
        p = _put4(out, _put4(out, p, 4), run_id)
        p = _put4(out, p, -1) if moment[i] == NO_DATE else _put8(out, p, moment[i])
        its_class = plan_class[i]
        marks = np.int64(inferred[i])
        # int16 inferred, then is_mobile and is_valid, each with its length before it.
        store8_big_endian(out, p, (np.int64(2) << 32) | (marks << 16))
        p = _put4(out, p + 6, 1)
        out[p] = class_mobile[its_class]
        p = _put4(out, p + 1, 1)
        out[p] = class_assigned[its_class] and not flagged[i]
        p += 1
        rest = number[i]
        lead = rest // 10_000_000
        for k in range(12, 2, -1):
            digits[k] = 48 + rest % 10
            rest //= 10
        p = _put4(out, p, 13)
        copy_bytes(out, p, digits, 0, 13)
        p = _put4(out, p + 13, 10)
        copy_bytes(out, p, digits, 3, 10)
        p += 10
        for t in range(5):
            p = _put_cell(out, p, buf, start, size, kind, i, slots[t])
        p = _put_shared(out, p, pool, spots, tables[0] + state[i])
        p = _put_shared(out, p, pool, spots, tables[1] + lead)
        if marks & CITY_INFERRED:
            p = _put_shared(out, p, pool, spots, tables[2] + lead)
        else:
            p = _put_cell(out, p, buf, start, size, kind, i, slots[5])
        p = _put_shared(out, p, pool, spots, tables[3] + its_class)
        p = _put_shared(out, p, pool, spots, tables[4] + (0 if class_assigned[its_class] else 1) + 2 * flagged[i])
        p = _put_shared(out, p, pool, spots, tables[5] + 1 + zone[i])
        for t in range(6, 10):
            p = _put_cell(out, p, buf, start, size, kind, i, slots[t])
    return p, rows
