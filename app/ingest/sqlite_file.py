"""The pages of a SQLite file: its header, the leaves of one table, and runs of them in memory.

A reader of our own because it is the difference between a third and all of the speed of COPY (docs/benchmarks.md). It reads
only what is plain; what is not (overflow pages, columns added later) it leaves to SQLite, and `migrate validate` reads
everything once more through SQLite's own library and compares.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.core.errors import InvalidInput, Unavailable
from app.ingest.kernels.memory import PADDING
from app.ingest.kernels.pages import LEAF_TABLE, interior_children
from app.ingest.source_connection import SourceHeader

INTERIOR_TABLE = 0x05
LARGEST_KEY = np.iinfo(np.int64).max
HASH_CHUNK = 1 << 22
WIDEST_GAP = 4
"""Pages between two leaves that are read along with them rather than skipped by another call."""


def corrupt(path: Path, where: str) -> InvalidInput:
    """The error for a file whose structure contradicts itself."""
    return InvalidInput(
        f"{path} is damaged ({where}). Check it with `sqlite3 FILE 'PRAGMA integrity_check'`, restore a copy, "
        "or salvage it with `sqlite3 FILE .recover`; what was loaded stays, and the run goes on with a whole file.",
        code="source_corrupt",
    )


@dataclass(frozen=True, slots=True)
class PageRun:
    """Leaf pages in memory. Shapes: buffer uint8[bytes]; page_at int64[pages], offsets in buffer in key order."""

    buffer: npt.NDArray[np.uint8]
    page_at: npt.NDArray[np.int64]
    pages: npt.NDArray[np.int64]


class SqliteFile:
    """One table of a SQLite file, opened read-only, as leaf pages in key order.

    Keep it open as long as SQLite's lock on the file matters: closing any descriptor of a file gives up every POSIX lock
    that the process has on it.
    """

    def __init__(self, path: Path, root_page: int, header: SourceHeader) -> None:
        self.path = path
        self.page_size = header.page_size
        self.usable = header.page_size - header.reserved_bytes
        self._fd = os.open(path, os.O_RDONLY)
        self._page_count = os.fstat(self._fd).st_size // self.page_size
        with ExitStack() as undo:
            undo.callback(self.close)
            self.leaves, self.largest_keys = self._find_leaves(root_page)
            undo.pop_all()

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def is_still_at_its_path(self) -> bool:
        """False when another file was put in its place meanwhile."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        mine = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def sha256(self) -> str:
        """SHA-256 of all bytes of the file as it is now, in hexadecimal. Raises: Unavailable when it cannot be read."""
        digest = hashlib.sha256()
        chunk, offset = bytearray(HASH_CHUNK), 0
        try:
            while got := os.preadv(self._fd, [chunk], offset):
                digest.update(memoryview(chunk)[:got])
                offset += got
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror}.", code="source_unreadable") from error
        return digest.hexdigest()

    def _page(self, number: int) -> npt.NDArray[np.uint8]:
        if not 1 <= number <= self._page_count:
            raise corrupt(self.path, f"page {number} of {self._page_count}")
        page = np.empty(self.page_size, dtype=np.uint8)
        self._read_into(page.data, (number - 1) * self.page_size)
        return page

    def _read_into(self, target: memoryview, offset: int) -> None:
        try:
            while len(target):
                got = os.preadv(self._fd, [target], offset)
                if not got:
                    raise corrupt(self.path, f"it ends inside a page at byte {offset}")
                target, offset = target[got:], offset + got
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror}.", code="source_unreadable") from error

    def _find_leaves(self, root_page: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Leaf page numbers int64[n] in key order and the largest key int64[n] each may hold."""
        level = np.array([root_page], dtype=np.int64)
        keys = np.array([LARGEST_KEY], dtype=np.int64)
        seen = 0
        while True:
            kind = int(self._page(int(level[0]))[100 if level[0] == 1 else 0])
            if kind == LEAF_TABLE:
                if np.any(np.diff(keys) < 0):
                    raise corrupt(self.path, "the keys of its pages are out of order")
                return level, keys
            if kind != INTERIOR_TABLE:
                raise corrupt(self.path, f"page {level[0]} is of kind {kind}")
            seen += len(level)
            level, keys = self._descend(level, keys, self._page_count - seen)

    def _descend(
        self, level: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], most: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The level below, of at most `most` pages: more than the file has means that some are met twice."""
        room = self.usable // 6 + 1
        children, child_keys = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        below: list[npt.NDArray[np.int64]] = []
        below_keys: list[npt.NDArray[np.int64]] = []
        for number, bound in zip(level.tolist(), keys.tolist(), strict=True):
            page, head = self._page(number), 100 if number == 1 else 0
            if page[head] != INTERIOR_TABLE:
                raise corrupt(self.path, f"page {number} is of kind {page[head]}")
            count = interior_children(page, head, self.usable, children, child_keys)
            if count < 1:
                raise corrupt(self.path, f"page {number}")
            most -= count
            if most < 0:
                raise corrupt(self.path, "its pages point at each other in a circle")
            child_keys[count - 1] = bound
            below.append(children[:count].copy())
            below_keys.append(child_keys[:count].copy())
        return np.concatenate(below), np.concatenate(below_keys)

    def leaf_of(self, key: int) -> int:
        """Index in `leaves` of the leaf that holds `key`, or would."""
        return int(np.searchsorted(self.largest_keys, key, side="left"))

    def read_leaves(self, first: int, count: int) -> PageRun:
        """Leaves `first` to `first + count` in memory; neighbours in the file come with one call."""
        pages = self.leaves[first : first + count]
        if len(pages) and (pages.min() < 1 or pages.max() > self._page_count):
            raise corrupt(self.path, f"a leaf beyond its {self._page_count} pages")
        order = np.argsort(pages, kind="stable")
        in_file = pages[order]
        breaks = np.flatnonzero(np.diff(in_file) > WIDEST_GAP) + 1
        size = self.page_size
        runs = [
            (int(in_file[begin]), int(in_file[end - 1]) - int(in_file[begin]) + 1, begin, end)
            for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(in_file)], strict=True)
        ]
        buffer = np.empty(sum(length for _, length, _, _ in runs) * size + PADDING, dtype=np.uint8)
        page_at = np.empty(len(pages), dtype=np.int64)
        base = 0
        for low, length, begin, end in runs:
            self._read_into(buffer.data[base : base + length * size], (low - 1) * size)
            page_at[order[begin:end]] = base + (in_file[begin:end] - low) * size
            base += length * size
        return PageRun(buffer, page_at, pages)
