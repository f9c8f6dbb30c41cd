"""Which rows are plain enough to be encoded as they stand, and their dates and flags."""

from __future__ import annotations

import numba as nb
import numpy as np

from app.ingest.kernels.memory import load8
from app.ingest.kernels.pages import IN_PAGE, INTEGER, NULL, TEXT, UNUSUAL

NO_DATE = np.iinfo(np.int64).min
"""`moment` of a row without a date."""

ONES = np.uint64(0x0101010101010101)
HIGHS = np.uint64(0x8080808080808080)
MICROSECONDS_A_DAY = 86_400_000_000
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def is_clean_utf8(buf, at, length):  # type: ignore[no-untyped-def]
    """True when the bytes are well-formed UTF-8 (RFC 3629) without a NUL."""
    end = at + length
    joined, zeros = np.uint64(0), np.uint64(0)
    for k in range(at, end, 8):
        word = load8(buf, k)
        if end - k < 8:
            # Bytes behind the cell count as 1: neither NUL nor beyond ASCII.
            keep = (np.uint64(1) << np.uint64(8 * (end - k))) - np.uint64(1)
            word = (word & keep) | (ONES & ~keep)
        joined |= word
        zeros |= (word - ONES) & ~word
    # Exact for words without a high bit; with one, the loop below looks at every byte.
    if not joined & HIGHS:
        return not zeros & HIGHS
    while at < end:
        lead = buf[at]
        at += 1
        if lead < 0x80:
            if lead == 0:
                return False
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if at + more > end or not low <= buf[at] <= high:
            return False
        for k in range(at + 1, at + more):
            if not 0x80 <= buf[k] <= 0xBF:
                return False
        at += more
    return True


@nb.njit(inline="always")
def _is_plain_ascii(buf, at, length):  # type: ignore[no-untyped-def]
    """True when the bytes are ASCII without a NUL; False may only mean: look closer."""
    end = at + length
    bad = np.uint64(0)
    for k in range(at, end - 7, 8):
        word = load8(buf, k)
        bad |= word | (word - ONES)
    rest = (end - at) & 7
    if rest:
        keep = (np.uint64(1) << np.uint64(8 * rest)) - np.uint64(1)
        word = (load8(buf, end - rest) & keep) | (ONES & ~keep)
        bad |= word | (word - ONES)
    return not bad & HIGHS


@nb.njit(inline="always")
def _two(buf, at):  # type: ignore[no-untyped-def]
    """The number that two ASCII digits spell, or a large negative one."""
    a = np.int64(buf[at]) - 48
    b = np.int64(buf[at + 1]) - 48
    if a < 0 or a > 9 or b < 0 or b > 9:
        return np.int64(-10_000)
    return a * 10 + b


@nb.njit(cache=True, nogil=True, boundscheck=False)
def parse_moment(buf, at):  # type: ignore[no-untyped-def]
    """Microseconds since 2000-01-01 UTC of the 19 bytes 'YYYY-MM-DD HH:MM:SS' at `at`, or NO_DATE."""
    year = _two(buf, at) * 100 + _two(buf, at + 2)
    month = _two(buf, at + 5)
    day = _two(buf, at + 8)
    hour = _two(buf, at + 11)
    minute = _two(buf, at + 14)
    second = _two(buf, at + 17)
    dashes = (
        buf[at + 4] == 45 and buf[at + 7] == 45 and buf[at + 10] == 32 and buf[at + 13] == 58 and buf[at + 16] == 58
    )
    if not dashes or year < 1 or month < 1 or month > 12 or day < 1 or hour < 0 or minute < 0 or second < 0:
        return NO_DATE
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    longest = _MONTH_DAYS[month - 1] + (1 if month == 2 and leap else 0)
    if day > longest or hour > 23 or minute > 59 or second > 59:
        return NO_DATE
    # Days of the civil calendar, counted from March so that the leap day is the last of its year.
    shifted = year - (1 if month <= 2 else 0)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 730_425
    return days * MICROSECONDS_A_DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000


@nb.njit(cache=True, nogil=True, boundscheck=False)
def inspect_rows(  # type: ignore[no-untyped-def]
    buf, rows, texts, limits, flag_slot, date_slot, start, size, kind, placed, moment, flagged
):
    """Mark rows that need the scalar rule as UNUSUAL, and read dates and validity flags of the others.

    Shapes: texts int64[k] slots and limits int64[k] bytes of the text columns; moment int64[n] (microseconds since
    2000-01-01 UTC, NO_DATE for NULL); flagged uint8[n], 1 where es_valido is 0.
    """
    for i in range(rows):
        moment[i] = NO_DATE
        flagged[i] = 0
        if placed[i] != IN_PAGE:
            continue
        # The cells of a row lie one behind the other: most rows are settled by one look at all of them.
        begin, end = start[i, 1], start[i, 1]
        for slot in range(1, start.shape[1]):
            begin = min(begin, start[i, slot])
            end = max(end, start[i, slot] + size[i, slot])
        is_ascii = _is_plain_ascii(buf, begin, end - begin)
        for t in range(len(texts)):
            slot = texts[t]
            what = kind[i, slot]
            if what == NULL:
                continue
            if what != TEXT or size[i, slot] > limits[t]:
                placed[i] = UNUSUAL
                break
            if not is_ascii and not is_clean_utf8(buf, start[i, slot], size[i, slot]):
                placed[i] = UNUSUAL
                break
        if kind[i, date_slot] == TEXT and size[i, date_slot] == 19:
            moment[i] = parse_moment(buf, start[i, date_slot])
            if moment[i] == NO_DATE:
                placed[i] = UNUSUAL
        elif kind[i, date_slot] != NULL:
            placed[i] = UNUSUAL
        if kind[i, flag_slot] == INTEGER and size[i, flag_slot] <= 0:
            flagged[i] = size[i, flag_slot] == 0
        elif kind[i, flag_slot] != NULL:
            placed[i] = UNUSUAL
