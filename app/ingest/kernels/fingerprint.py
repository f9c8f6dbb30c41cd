"""PostgreSQL's own 64-bit text hash, so that a row can be fingerprinted on both sides and compared.

Source: hash_bytes_extended and hashtextextended of PostgreSQL 16+ (Bob Jenkins' lookup3, little-endian form), which are
stable: hash partitioning depends on them.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from app.ingest.kernels.memory import PADDING, load8
from app.ingest.kernels.pages import NULL

LOW = np.uint64(0xFFFFFFFF)
MARK_OF_NULL = 1
"""A NULL is hashed as the one-character text chr(1): `coalesce(column, chr(1))` on the other side."""


def padded(data: bytes) -> npt.NDArray[np.uint8]:
    """`data` as uint8[] with PADDING zeros behind it."""
    return np.frombuffer(data + bytes(PADDING), dtype=np.uint8)


@nb.njit(inline="always")
def _rotate(x, k):  # type: ignore[no-untyped-def]
    return np.uint32((x << np.uint32(k)) | (x >> np.uint32(32 - k)))


@nb.njit(inline="always")
def _mix(a, b, c):  # type: ignore[no-untyped-def]
    a = np.uint32(a - c) ^ _rotate(c, 4)
    c = np.uint32(c + b)
    b = np.uint32(b - a) ^ _rotate(a, 6)
    a = np.uint32(a + c)
    c = np.uint32(c - b) ^ _rotate(b, 8)
    b = np.uint32(b + a)
    a = np.uint32(a - c) ^ _rotate(c, 16)
    c = np.uint32(c + b)
    b = np.uint32(b - a) ^ _rotate(a, 19)
    a = np.uint32(a + c)
    c = np.uint32(c - b) ^ _rotate(b, 4)
    b = np.uint32(b + a)
    return a, b, c


@nb.njit(inline="always")
def _final(a, b, c):  # type: ignore[no-untyped-def]
    c = np.uint32((c ^ b) - _rotate(b, 14))
    a = np.uint32((a ^ c) - _rotate(c, 11))
    b = np.uint32((b ^ a) - _rotate(a, 25))
    c = np.uint32((c ^ b) - _rotate(b, 16))
    a = np.uint32((a ^ c) - _rotate(c, 4))
    b = np.uint32((b ^ a) - _rotate(a, 14))
    c = np.uint32((c ^ b) - _rotate(b, 24))
    return b, c


@nb.njit(cache=True, nogil=True, boundscheck=False)
def hash_text(buf, at, length, seed):  # type: ignore[no-untyped-def]
    """hashtextextended(buf[at:at+length], seed) as uint64; `seed` is uint64, `buf` has PADDING bytes to spare."""
    a = b = c = np.uint32(np.uint32(0x9E3779B9) + np.uint32(length) + np.uint32(3923095))
    if seed != np.uint64(0):
        a = np.uint32(a + np.uint32(seed >> np.uint64(32)))
        b = np.uint32(b + np.uint32(seed & LOW))
        a, b, c = _mix(a, b, c)
    left = length
    while left >= 12:
        word = load8(buf, at)
        a = np.uint32(a + np.uint32(word & LOW))
        b = np.uint32(b + np.uint32(word >> np.uint64(32)))
        c = np.uint32(c + np.uint32(load8(buf, at + 8) & LOW))
        a, b, c = _mix(a, b, c)
        at += 12
        left -= 12
    word = load8(buf, at)
    if left < 8:
        word &= (np.uint64(1) << np.uint64(8 * left)) - np.uint64(1)
    a = np.uint32(a + np.uint32(word & LOW))
    b = np.uint32(b + np.uint32(word >> np.uint64(32)))
    if left > 8:
        # The lowest byte of c is kept for the length.
        tail = load8(buf, at + 8) & ((np.uint64(1) << np.uint64(8 * (left - 8))) - np.uint64(1))
        c = np.uint32(c + np.uint32((tail << np.uint64(8)) & LOW))
    b, c = _final(a, b, c)
    return (np.uint64(b) << np.uint64(32)) | np.uint64(c)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def fingerprint_rows(buf, wanted, ids, number, columns, start, size, kind):  # type: ignore[no-untyped-def]
    """Sum, modulo 2**64, of the fingerprints of the rows where `wanted`: what contacts_fingerprint.sql sums.

    Shapes: buf uint8[]; wanted bool[n]; ids, number int64[n]; columns int64[k] (slots of the carried columns, in the
    order of the SQL); start, size int64[n, 16]; kind uint8[n, 16].
    """
    digits = np.zeros(10 + PADDING, dtype=np.uint8)
    null = np.zeros(1 + PADDING, dtype=np.uint8)
    null[0] = MARK_OF_NULL
    hashes = np.zeros(len(ids), dtype=np.uint64)
    for i in range(len(ids)):
        rest = number[i]
        for k in range(9, -1, -1):
            digits[k] = 48 + rest % 10
            rest //= 10
        hashes[i] = hash_text(digits, 0, 10, np.uint64(ids[i]))
    # Column by column: the hashes of one row depend on each other, those of neighbouring rows do not, and overlap.
    for k in range(len(columns)):
        slot = columns[k]
        for i in range(len(ids)):
            if not wanted[i]:
                continue
            if kind[i, slot] == NULL:
                hashes[i] = hash_text(null, 0, 1, hashes[i])
            else:
                hashes[i] = hash_text(buf, start[i, slot], size[i, slot], hashes[i])
    total = np.uint64(0)
    for i in range(len(ids)):
        if wanted[i]:
            total += hashes[i]
    return total


@nb.njit(cache=True, nogil=True, boundscheck=False)
def fingerprint_texts(packed, lengths, seed):  # type: ignore[no-untyped-def]
    """The fingerprint of one row whose texts lie one behind the other: packed uint8[], lengths int64[k], -1 for NULL."""
    null = np.zeros(1 + PADDING, dtype=np.uint8)
    null[0] = MARK_OF_NULL
    at = 0
    for k in range(len(lengths)):
        if lengths[k] < 0:
            seed = hash_text(null, 0, 1, seed)
        else:
            seed = hash_text(packed, at, lengths[k], seed)
            at += lengths[k]
    return seed
