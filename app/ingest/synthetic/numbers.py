"""Phone numbers that belong to rows: each row has its own, drawn from the assigned ranges by a permutation.

A row's number is a pure function of (seed, row), so that no table of used numbers is needed: row i takes place
permute(i) among all mobile (or fixed, or never assigned) numbers, and a permutation repeats nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from app.utils.numbering_plan import FIXED, MOBILE, NumberingPlan

MOBILE_PERCENT = 85


class NumberSpace(NamedTuple):
    """Some numbers, contiguous pieces in order: `first` and `before` (numbers in earlier pieces), int64[pieces]."""

    first: NDArray[np.int64]
    before: NDArray[np.int64]
    size: int
    half_bits: int


class NumberSpaces(NamedTuple):
    """Where rows draw from."""

    mobile: NumberSpace
    fixed: NumberSpace
    unassigned: NumberSpace


def number_spaces(plan: NumberingPlan) -> NumberSpaces:
    """The mobile, the fixed and the never assigned numbers of `plan`; the last lie between ranges of one LADA."""
    first, last, line_type = plan.first, plan.last, plan.line_type
    mobile, fixed = line_type == MOBILE, line_type == FIXED
    same_lada = first[1:] // 10_000_000 == last[:-1] // 10_000_000
    gap = same_lada & (first[1:] > last[:-1] + 1)
    return NumberSpaces(
        _space(first[mobile], last[mobile]),
        _space(first[fixed], last[fixed]),
        _space(last[:-1][gap] + 1, first[1:][gap] - 1),
    )


def _space(first: NDArray[np.int64], last: NDArray[np.int64]) -> NumberSpace:
    joined = np.flatnonzero(first[1:] == last[:-1] + 1) + 1
    starts = np.delete(first, joined)
    ends = np.delete(last, joined - 1)
    counts = ends - starts + 1
    before = np.concatenate([[0], np.cumsum(counts)])
    size = int(before[-1])
    return NumberSpace(starts, before[:-1].astype(np.int64), size, max((size.bit_length() + 1) // 2, 1))


@njit(cache=True, nogil=True)
def mix(key: int, row: int, salt: int) -> np.uint64:
    """64 random-looking bits of (seed's key, row, salt): the finaliser of splitmix64."""
    z = np.uint64(key) ^ (
        np.uint64(row) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt) * np.uint64(0xD1B54A32D192ED03)
    )
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _permute(index: int, size: int, half_bits: int, key: int) -> int:
    """A bijection of 0..size-1: four Feistel rounds, repeated while they land outside (cycle walking)."""
    bits = np.uint64(half_bits)
    mask = (np.uint64(1) << bits) - np.uint64(1)
    value = np.uint64(index)
    while True:
        left, right = value >> bits, value & mask
        for salt in range(4):
            left, right = right, left ^ (mix(key, np.int64(right), 900 + salt) & mask)
        value = (left << bits) | right
        if value < np.uint64(size):
            return int(np.int64(value))


@njit(cache=True, nogil=True)
def number_in(space: NumberSpace, row: int, key: int) -> int:
    """The number of `space` that is row `row`'s and nobody else's; `row` below `space.size`."""
    index = _permute(row, space.size, space.half_bits, key)
    piece = np.searchsorted(space.before, index, side="right") - 1
    return int(space.first[piece] + index - space.before[piece])


@njit(cache=True, nogil=True)
def row_number(spaces: NumberSpaces, row: int, key: int) -> int:
    """The assigned ten-digit number of a row: mobile for MOBILE_PERCENT of them."""
    if mix(key, row, 99) % np.uint64(100) < np.uint64(MOBILE_PERCENT):
        return int(number_in(spaces.mobile, row, key))
    return int(number_in(spaces.fixed, row, key))
