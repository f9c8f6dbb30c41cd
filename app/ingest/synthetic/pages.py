"""Pages of one table's b-tree, written in the order of the row ids, as a bulk load writes them: every leaf full.

The leaves stream out as they fill; overflow chains of long rows stand before the leaf that refers to them; the
interior levels follow when all rows are in. Indexes are left to SQLite's own REINDEX.
Source: https://www.sqlite.org/fileformat2.html, "B-tree Pages" and "Cell Payload Overflow Pages".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
PAGE: Final = 4096
LOCK_PAGE: Final = (1 << 30) // PAGE + 1
MAX_LOCAL: Final = PAGE - 35
MIN_LOCAL: Final = (PAGE - 12) * 32 // 255 - 23
OVERFLOW_CONTENT: Final = PAGE - 4
LEAF, INTERIOR = 13, 5
LEAF_HEADER, INTERIOR_HEADER = 8, 12


class Batch(NamedTuple):
    """Rows to store: record r is records[starts[r]:ends[r]] and belongs to ids[r], ascending."""

    records: Bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ids: NDArray[np.int64]


class Completed(NamedTuple):
    """Room for what a batch completes: pages, and number and last id of the leaves among them."""

    pages: Bytes
    leaf_numbers: NDArray[np.int64]
    leaf_last_ids: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _put_varint(buffer: Bytes, at: int, value: int) -> int:
    """A SQLite varint of a value below 2**56."""
    size = 1
    while value >> (7 * size):
        size += 1
    for place in range(size):
        more = 128 if place < size - 1 else 0
        buffer[at + place] = more | ((value >> (7 * (size - 1 - place))) & 127)
    return at + size


@njit(cache=True, nogil=True)
def _put_big_endian(buffer: Bytes, at: int, value: int, width: int) -> None:
    for place in range(width):
        buffer[at + place] = (value >> (8 * (width - 1 - place))) & 255


@njit(cache=True, nogil=True)
def _page_after(number: int) -> int:
    """The next page that may be used: the one that holds the byte SQLite locks (offset 1 GiB) stays empty."""
    return number + 2 if number + 1 == LOCK_PAGE else number + 1


@njit(cache=True, nogil=True)
def _spill(payload: Bytes, local: int, out: Bytes, offset: int, number: int) -> int:
    """Write payload[local:] as a chain of overflow pages from page `number` on; returns the page after them.

    Page n stands in `out` at (n - offset) * PAGE.
    """
    start = local
    while start < payload.shape[0]:
        end = min(start + PAGE - 4, payload.shape[0])
        base = (number - offset) * PAGE
        number = _page_after(number)
        _put_big_endian(out, base, number if end < payload.shape[0] else 0, 4)
        out[base + 4 : base + 4 + end - start] = payload[start:end]
        start = end
    return number


@njit(cache=True, nogil=True)
def _local_bytes(size: int) -> int:
    """How much of a payload stays in its leaf."""
    if size <= MAX_LOCAL:
        return size
    local = MIN_LOCAL + (size - MIN_LOCAL) % (PAGE - 4)
    return int(local) if local <= MAX_LOCAL else MIN_LOCAL


@njit(cache=True, nogil=True)
def _close_leaf(leaf: Bytes, cells: int, content: int) -> None:
    leaf[0] = LEAF
    _put_big_endian(leaf, 1, 0, 2)
    _put_big_endian(leaf, 3, cells, 2)
    _put_big_endian(leaf, 5, content, 2)
    leaf[7] = 0


@njit(cache=True, nogil=True)
def fill_leaves(leaf: Bytes, state: NDArray[np.int64], batch: Batch, completed: Completed) -> int:
    """Put a batch into the open `leaf`; returns how many leaves it completed.

    `state`: cells in the leaf, where its content starts, the last id in it, the next page's number; kept between calls.
    Page n is put into `completed.pages`, which must be zero, at (n - the first call's next page) * PAGE.
    """
    cell = np.empty(32, np.uint8)
    offset, leaves = state[3], 0
    for index in range(batch.ids.shape[0]):
        payload = batch.records[batch.starts[index] : batch.ends[index]]
        local = _local_bytes(payload.shape[0])
        head = _put_varint(cell, 0, payload.shape[0])
        head = _put_varint(cell, head, batch.ids[index])
        size = head + local + (4 if local < payload.shape[0] else 0)
        if LEAF_HEADER + 2 * (state[0] + 1) + size > state[1]:
            _close_leaf(leaf, state[0], state[1])
            base = (state[3] - offset) * PAGE
            completed.pages[base : base + PAGE] = leaf
            completed.leaf_numbers[leaves], completed.leaf_last_ids[leaves] = state[3], state[2]
            leaves += 1
            state[0], state[1], state[3] = 0, PAGE, _page_after(state[3])
            leaf[:] = 0
        at = state[1] - size
        leaf[at : at + head] = cell[:head]
        leaf[at + head : at + head + local] = payload[:local]
        if local < payload.shape[0]:
            _put_big_endian(leaf, at + head + local, state[3], 4)
            state[3] = _spill(payload, local, completed.pages, offset, state[3])
        _put_big_endian(leaf, LEAF_HEADER + 2 * state[0], at, 2)
        state[0], state[1], state[2] = state[0] + 1, at, batch.ids[index]
    return leaves


@njit(cache=True, nogil=True)
def _interior_page(page: Bytes, children: NDArray[np.int64], last_ids: NDArray[np.int64]) -> None:
    """An interior page over `children`; the last child is its right-most pointer and needs no key."""
    page[:] = 0
    cells = children.shape[0] - 1
    content = PAGE
    cell = np.empty(16, np.uint8)
    for index in range(cells):
        _put_big_endian(cell, 0, children[index], 4)
        size = _put_varint(cell, 4, last_ids[index])
        content -= size
        page[content : content + size] = cell[:size]
        _put_big_endian(page, INTERIOR_HEADER + 2 * index, content, 2)
    page[0] = INTERIOR
    _put_big_endian(page, 3, cells, 2)
    _put_big_endian(page, 5, content, 2)
    _put_big_endian(page, 8, children[cells], 4)


# A cell of an interior page is at most 4 + 9 bytes and its pointer 2: so many children always fit.
FAN_OUT: Final = (PAGE - INTERIOR_HEADER) // 15


@dataclass(slots=True)
class TableWriter:
    """Turns batches of records into pages; the caller writes what `add` and `finish` return, in order."""

    next_page: int
    _leaf: Bytes = field(default_factory=lambda: np.zeros(PAGE, np.uint8))
    _state: NDArray[np.int64] = field(init=False)
    _numbers: list[NDArray[np.int64]] = field(default_factory=list)
    _last_ids: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._state = np.array([0, PAGE, 0, self.next_page], np.int64)

    def add(self, batch: Batch) -> memoryview:
        """The pages that these rows complete."""
        lengths = batch.ends - batch.starts
        spilled = int((lengths[lengths > MAX_LOCAL] // OVERFLOW_CONTENT + 1).sum())
        most = int(np.minimum(lengths + 12, PAGE).sum()) // (PAGE // 4) + spilled + 4
        completed = Completed(np.zeros(most * PAGE, np.uint8), np.empty(most, np.int64), np.empty(most, np.int64))
        before = int(self._state[3])
        leaves = fill_leaves(self._leaf, self._state, batch, completed)
        self._numbers.append(completed.leaf_numbers[:leaves].copy())
        self._last_ids.append(completed.leaf_last_ids[:leaves].copy())
        return completed.pages[: (int(self._state[3]) - before) * PAGE].data

    def finish(self) -> tuple[bytes, bytes]:
        """(the remaining pages, the root's own page, which stands elsewhere). No row may follow."""
        _close_leaf(self._leaf, int(self._state[0]), int(self._state[1]))
        numbers = np.concatenate([*self._numbers, np.empty(0, np.int64)])
        last_ids = np.concatenate([*self._last_ids, np.empty(0, np.int64)])
        if len(numbers) == 0 and int(self._state[3]) == self.next_page:
            return b"", self._leaf.tobytes()
        pages: list[bytes] = []
        numbers = np.append(numbers, self._place(self._leaf, pages))
        last_ids = np.append(last_ids, self._state[2])
        while len(numbers) > FAN_OUT:
            numbers, last_ids = self._level(numbers, last_ids, pages)
        root = np.empty(PAGE, np.uint8)
        _interior_page(root, numbers, last_ids)
        return b"".join(pages), root.tobytes()

    def _level(
        self, numbers: NDArray[np.int64], last_ids: NDArray[np.int64], pages: list[bytes]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The interior pages over these children, put into `pages`; and their numbers and last ids."""
        parents, parent_ids = [], []
        for children, keys in zip(_parts(numbers), _parts(last_ids), strict=True):
            page = np.empty(PAGE, np.uint8)
            _interior_page(page, children, keys)
            parents.append(self._place(page, pages))
            parent_ids.append(int(keys[-1]))
        return np.array(parents, np.int64), np.array(parent_ids, np.int64)

    def _place(self, page: Bytes, pages: list[bytes]) -> int:
        number = int(self._state[3])
        self._state[3] = _page_after(number)
        pages.append(page.tobytes() + bytes(PAGE * (int(self._state[3]) - number - 1)))
        return number

    @property
    def page_count(self) -> int:
        """Pages of the file so far, those before this table's included."""
        return int(self._state[3]) - 1


def _parts(column: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """`column` in as many equal parts as FAN_OUT asks for; none has fewer than two."""
    return np.array_split(column, -(-len(column) // FAN_OUT))
