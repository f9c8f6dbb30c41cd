"""A small dictionary from the bytes of a cell to a number, which learns: the answer of the scalar rule is asked once."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from app.ingest.kernels.fingerprint import hash_text, padded

UNKNOWN = -2
"""Answer for bytes that were never taught."""

CAPACITY = 1 << 17
MOST_KEYS = CAPACITY // 2
MOST_BYTES = 1 << 22


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _slot_of(buf, at, length, seed, entries, pool):  # type: ignore[no-untyped-def]
    """Index in `entries` of the key, or of the free place where it belongs."""
    slot = np.int64(hash_text(buf, at, length, np.uint64(seed + 1)) & np.uint64(CAPACITY - 1))
    while entries[slot, 0] >= 0:
        if entries[slot, 1] == length and entries[slot, 2] == seed:
            same = True
            where = entries[slot, 0]
            for k in range(length):
                if pool[where + k] != buf[at + k]:
                    same = False
                    break
            if same:
                return slot
        slot = (slot + 1) & (CAPACITY - 1)
    return slot


@nb.njit(cache=True, nogil=True, boundscheck=False)
def find_value(buf, at, length, seed, entries, pool):  # type: ignore[no-untyped-def]
    """The value taught for (seed, buf[at:at+length]), or UNKNOWN."""
    slot = _slot_of(buf, at, length, seed, entries, pool)
    return entries[slot, 3] if entries[slot, 0] >= 0 else np.int64(UNKNOWN)


class LearnedValues:
    """Bytes → small integer, exact (keys are compared, not only hashed), bounded to MOST_KEYS keys.

    `entries` int64[CAPACITY, 4] holds (position in pool or -1, length, seed, value); `pool` uint8[MOST_BYTES].
    """

    def __init__(self) -> None:
        self.entries: npt.NDArray[np.int64] = np.full((CAPACITY, 4), -1, dtype=np.int64)
        self.pool: npt.NDArray[np.uint8] = np.zeros(MOST_BYTES, dtype=np.uint8)
        self._keys = 0
        self._bytes = 0

    def teach(self, key: bytes, value: int, seed: int = 0) -> None:
        """Remember `value` for `key`; once full, nothing more is learned and the scalar rule is asked every time."""
        if self._keys >= MOST_KEYS or self._bytes + len(key) > MOST_BYTES:
            return
        buf = padded(key)
        slot = int(_slot_of(buf, 0, len(key), seed, self.entries, self.pool))
        if self.entries[slot, 0] < 0:
            self.pool[self._bytes : self._bytes + len(key)] = buf[: len(key)]
            self.entries[slot] = (self._bytes, len(key), seed, value)
            self._keys += 1
            self._bytes += len(key)
