"""One hash per row and subject, from cells that SQLite's own library read, in the form that validate_ranges.sql sums.

Five subjects, each with its hash modulo 2**64, or 0 where a row has nothing of the kind:
CONTENT (number and the columns carried unchanged), DATE, CITY (where the source gives one), STATE (where its spelling is
known), FLAG (marked invalid by the source). All but the last are seeded by the source id, so that a cell that moved to
another row is seen.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from app.ingest.kernels.cells import NO_DATE, is_clean_utf8, parse_moment
from app.ingest.kernels.fingerprint import LOW, MARK_OF_NULL, _final, _mix, hash_text
from app.ingest.kernels.memory import PADDING
from app.ingest.kernels.places import UNRECOGNISED, is_blank
from app.ingest.kernels.values import UNKNOWN, find_value

CONTENT, DATE, CITY, STATE, FLAG = range(5)
SUBJECTS = 5
FLAG_SEED = 1
"""Seed of the hash of a flagged row's id."""

REJECTED, HASHED, SCALAR = range(3)
"""`outcome` of a row: not loaded by the ledger's word; hashed here; left to the scalar rules."""

NUMBER, FIRST_CARRIED, CITY_CELL, STATE_CELL, DATE_CELL = 0, 1, 10, 11, 12
CELLS = 13
"""Cells of a row: numero, the nine carried columns, city, state, date."""

DIGITS = 10
DATE_BYTES = 19
FROM_1970_TO_2000 = 946_684_800_000_000
MICROSECONDS = 1_000_000.0


@nb.njit(cache=True, nogil=True, boundscheck=False)
def hash_int8(value, seed):  # type: ignore[no-untyped-def]
    """hashint8extended(value, seed) as uint64; value int64, seed uint64.

    Source: hashfunc.c and hash_bytes_uint32_extended of PostgreSQL 16+.
    """
    low, high = np.uint32(value & 0xFFFFFFFF), np.uint32((value >> 32) & 0xFFFFFFFF)
    low ^= high if value >= 0 else np.uint32(~high)
    a = b = c = np.uint32(np.uint32(0x9E3779B9) + np.uint32(4) + np.uint32(3923095))
    if seed != np.uint64(0):
        a = np.uint32(a + np.uint32(seed >> np.uint64(32)))
        b = np.uint32(b + np.uint32(seed & LOW))
        a, b, c = _mix(a, b, c)
    a = np.uint32(a + low)
    b, c = _final(a, b, c)
    return (np.uint64(b) << np.uint64(32)) | np.uint64(c)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def hash_moment(moment, seed):  # type: ignore[no-untyped-def]
    """Hash of an instant, microseconds since 1970-01-01 UTC, by the floating-point steps that date_part('epoch') takes."""
    epoch = np.float64(moment) / MICROSECONDS
    return hash_int8(np.int64(np.floor(epoch * MICROSECONDS)), seed)


@nb.njit(inline="always")
def _are_digits(buf, at, length):  # type: ignore[no-untyped-def]
    if length != DIGITS:
        return False
    for k in range(at, at + DIGITS):  # noqa: SIM110 - a loop is what compiles
        if buf[k] < 48 or buf[k] > 57:
            return False
    return True


@nb.njit(cache=True, nogil=True, boundscheck=False)
def hash_rows(  # type: ignore[no-untyped-def]
    buf, base, offsets, valid, ids, flags, begin, rejected, rejected_at, limits, codes, spellings, pool, outcome, hashes
):
    """Fill outcome uint8[n] and hashes uint64[n, SUBJECTS] from row `begin` on; returns (row, rejected_at).

    Stops at a row whose spelling of the state was never taught (row < n): teach it and call again from there.
    Shapes: buf uint8[]; base int64[CELLS] (where a cell column begins in buf); offsets int32[CELLS, n + 1]; valid
    uint8[CELLS, bytes] (a bit per row, lowest first); ids int64[n] ascending; flags int64[n] (0, 1 marked invalid, above:
    scalar); rejected int64[] ascending, read from index rejected_at on; limits int64[CELLS] bytes; codes uint8[32, 8 +
    PADDING] (length, then the state's code); spellings and pool as in LearnedValues.
    """
    null = np.zeros(1 + PADDING, dtype=np.uint8)
    null[0] = MARK_OF_NULL
    for i in range(begin, len(ids)):
        for subject in range(SUBJECTS):
            hashes[i, subject] = 0
        while rejected_at < len(rejected) and rejected[rejected_at] < ids[i]:
            rejected_at += 1
        if rejected_at < len(rejected) and rejected[rejected_at] == ids[i]:
            outcome[i] = REJECTED
            continue
        outcome[i] = SCALAR
        seed = np.uint64(ids[i])
        at = base[NUMBER] + offsets[NUMBER, i]
        if flags[i] > 1 or not _are_digits(buf, at, offsets[NUMBER, i + 1] - offsets[NUMBER, i]):
            continue
        content = hash_text(buf, at, DIGITS, seed)
        is_plain = True
        for k in range(FIRST_CARRIED, STATE_CELL + 1):
            if not (valid[k, i >> 3] >> (i & 7)) & 1:
                if k < CITY_CELL:
                    content = hash_text(null, 0, 1, content)
                continue
            at = base[k] + offsets[k, i]
            size = offsets[k, i + 1] - offsets[k, i]
            if size > limits[k] or not is_clean_utf8(buf, at, size):
                is_plain = False
                break
            if k < CITY_CELL:
                content = hash_text(buf, at, size, content)
            elif is_blank(buf, at, size):
                continue
            elif k == CITY_CELL:
                hashes[i, CITY] = hash_text(buf, at, size, seed)
            else:
                state = find_value(buf, at, size, 0, spellings, pool)
                if state == UNKNOWN:
                    return i, rejected_at
                if state != UNRECOGNISED:
                    hashes[i, STATE] = hash_text(codes[state], 8, np.int64(codes[state, 0]), seed)
        if is_plain and (valid[DATE_CELL, i >> 3] >> (i & 7)) & 1:
            moment = NO_DATE
            if offsets[DATE_CELL, i + 1] - offsets[DATE_CELL, i] == DATE_BYTES:
                moment = parse_moment(buf, base[DATE_CELL] + offsets[DATE_CELL, i])
            is_plain = moment != NO_DATE
            if is_plain:
                hashes[i, DATE] = hash_moment(moment + FROM_1970_TO_2000, seed)
        if is_plain:
            hashes[i, CONTENT] = content
            hashes[i, FLAG] = hash_int8(ids[i], np.uint64(FLAG_SEED)) if flags[i] == 1 else np.uint64(0)
            outcome[i] = HASHED
    return len(ids), rejected_at
