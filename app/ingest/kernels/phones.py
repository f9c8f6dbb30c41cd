"""Columnar form of the phone rules: what plain digits decide here, and everything else asks `phone_utils.normalize`."""

from __future__ import annotations

import numba as nb
import numpy as np

from app.ingest.kernels.pages import ELSEWHERE, TEXT

PLAIN, REFORMATTED, ASK = 0, 1, 2
"""`state` of a number: ten digits as they stood; ten digits after the strip step; the scalar rule must decide."""

LONGEST = 40
"""Characters beyond which a number is not read here."""

SEPARATORS = b" -.()\t\n\v\f\r"
"""Characters that change nothing: white space, and the punctuation that phonenumbers skips."""

_SKIP = np.zeros(256, dtype=np.bool_)
_SKIP[list(SEPARATORS)] = True


@nb.njit(inline="always")
def _after_prefix(digits, count, plus):  # type: ignore[no-untyped-def]
    """Index of the first of the ten national digits, or -1: +52, 52, 0052 (each with the old 1), 01, 044, 045."""
    if plus:
        if count == 12 and digits[0] == 5 and digits[1] == 2:
            return 2
        if count == 13 and digits[0] == 5 and digits[1] == 2 and digits[2] == 1:
            return 3
        return -1
    if count == 10:
        return 0
    if count == 12:
        if digits[0] == 5 and digits[1] == 2:
            return 2
        if digits[0] == 0 and digits[1] == 1:
            return 2
    elif count == 13:
        if digits[0] == 5 and digits[1] == 2 and digits[2] == 1:
            return 3
        if digits[0] == 0 and digits[1] == 4 and (digits[2] == 4 or digits[2] == 5):
            return 3
    elif count == 14:
        if digits[0] == 0 and digits[1] == 0 and digits[2] == 5 and digits[3] == 2:
            return 4
    elif count == 15 and digits[0] == 0 and digits[1] == 0 and digits[2] == 5 and digits[3] == 2 and digits[4] == 1:
        return 5
    return -1


@nb.njit(cache=True, nogil=True, boundscheck=False)
def parse_numbers(buf, rows, slot, start, size, kind, placed, valid_prefix, number, state):  # type: ignore[no-untyped-def]
    """National numbers of the rows: number int64[n] (0 where the scalar rule must decide), state uint8[n].

    Shapes: start, size int64[n, 16]; kind uint8[n, 16]; placed uint8[n]; valid_prefix bool[1000], which three leading
    digits phonenumbers calls valid. A number that this reads is valid; whatever is not is left to the scalar rule.
    """
    digits = np.empty(LONGEST, dtype=np.int64)
    for i in range(rows):
        number[i] = 0
        state[i] = ASK
        length = size[i, slot]
        if placed[i] == ELSEWHERE or kind[i, slot] != TEXT or length > LONGEST:
            continue
        count = 0
        plus = False
        readable = True
        at = start[i, slot]
        for k in range(length):
            byte = buf[at + k]
            if 48 <= byte <= 57:
                digits[count] = np.int64(byte) - 48
                count += 1
            elif byte == 43 and count == 0 and k == 0:
                plus = True
            elif not _SKIP[byte]:
                readable = False
                break
        if not readable:
            continue
        first = _after_prefix(digits, count, plus)
        if first < 0:
            continue
        if not valid_prefix[digits[first] * 100 + digits[first + 1] * 10 + digits[first + 2]]:
            continue
        value = np.int64(0)
        for k in range(first, first + 10):
            value = value * 10 + digits[k]
        number[i] = value
        state[i] = PLAIN if length == 10 and first == 0 else REFORMATTED
