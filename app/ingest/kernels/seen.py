"""Which numbers have been seen: a bitmap over all ten-digit numbers, in pages that exist only where numbers do.

One bit a number costs 1.25 GB flat. Mexico's billion assigned numbers lie in about 125,000 of the 1.2 million pages of
8,192 numbers, so the pages in use take about 130 MB for the whole source.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from app.ingest.kernels.memory import prefetch

NUMBERS_A_PAGE = 8192
WORDS_A_PAGE = NUMBERS_A_PAGE // 64
AHEAD = 12
PAGES = 10_000_000_000 // NUMBERS_A_PAGE + 1


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _mark(numbers, directory, words, used, first):  # type: ignore[no-untyped-def]
    """Set the bits of `numbers`; first[i] tells whether numbers[i] was new. Returns the pages used; 0 is passed over."""
    for i in range(len(numbers)):
        # The bits lie all over memory: ask for those of the rows to come while this one is looked at.
        if i + 2 * AHEAD < len(numbers):
            prefetch(directory, numbers[i + 2 * AHEAD] // NUMBERS_A_PAGE)
        if i + AHEAD < len(numbers):
            coming = numbers[i + AHEAD]
            its_slot = directory[coming // NUMBERS_A_PAGE]
            if its_slot >= 0:
                prefetch(words, its_slot * WORDS_A_PAGE + ((coming % NUMBERS_A_PAGE) >> 6))
        number = numbers[i]
        first[i] = False
        if number <= 0:
            continue
        page = number // NUMBERS_A_PAGE
        slot = directory[page]
        if slot < 0:
            slot = used
            directory[page] = slot
            used += 1
        inside = number - page * NUMBERS_A_PAGE
        word = slot * WORDS_A_PAGE + (inside >> 6)
        bit = np.uint64(1) << np.uint64(inside & 63)
        if not words[word] & bit:
            words[word] |= bit
            first[i] = True
    return used


class SeenNumbers:
    """The set of national numbers met so far. Not thread-safe: one thread decides which row is first."""

    def __init__(self) -> None:
        self._directory: npt.NDArray[np.int32] = np.full(PAGES, -1, dtype=np.int32)
        # zeros() only reserves addresses: memory comes as pages are taken, one behind the other.
        self._words: npt.NDArray[np.uint64] = np.zeros(WORDS_A_PAGE * PAGES, dtype=np.uint64)
        self._used = 0

    def add(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Add ten-digit `numbers` int64[n] in order; returns bool[n], True where the number was not there before.

        Zeros stand for 'no number': they are never added and answer False.
        """
        first = np.zeros(len(numbers), dtype=np.bool_)
        self._used = _mark(numbers, self._directory, self._words, self._used, first)
        return first
