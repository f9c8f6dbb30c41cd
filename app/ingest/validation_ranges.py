"""Ranges of source ids: how they are cut, which are not equal on both sides, and which rows that lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import Connection

from app.ingest import validation_target
from app.ingest.validation_scan import LISTED, IdRange, RangeOutcome, RowDifference, Scanner
from app.ingest.validation_target import NOTHING, RangeSums, TargetSums

SUBJECT_NAMES = ("content", "dates", "cities", "states", "source_flags")
MOST_RANGES = 400
FEWEST_RANGES = 64
SMALLEST_RANGE = 10_000
DRILLED = 8
"""Ranges whose rows are looked for; those beyond are named without."""

LOWEST, HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class RangeMismatch:
    """A range that is not equal on both sides: in which subjects, how many rows are off, and up to 20 of them."""

    first_id: int
    last_id: int
    source_rows: int
    target_rows: int
    subjects: tuple[str, ...]
    rows_off: int | None = None
    rows: tuple[RowDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A range with its sums on both sides."""

    id_range: IdRange
    source: RangeSums
    target: RangeSums

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects that differ."""
        sides = zip(self.source.counts, self.source.totals, self.target.counts, self.target.totals, strict=True)
        return tuple(
            name for name, (n, total, m, other) in zip(SUBJECT_NAMES, sides, strict=True) if (n, total) != (m, other)
        )


def id_ranges(committed: Sequence[tuple[int, int]], *, is_whole: bool) -> tuple[IdRange, ...]:
    """The committed batches cut or joined into about FEWEST_RANGES to MOST_RANGES ranges that leave no id out.

    With `is_whole` all rows of the source count, whether a batch covers them or not; else those of the batches only.
    """
    spans = list(committed) or [(0, 0)]
    if len(spans) < FEWEST_RANGES:
        parts = -(-FEWEST_RANGES // len(spans))
        spans = [piece for span in spans for piece in _cut(*span, parts)]
    joined = -(-len(spans) // MOST_RANGES)
    groups = [spans[k : k + joined] for k in range(0, len(spans), joined)]
    ranges = []
    for k, group in enumerate(groups):
        pieces = tuple(group) if committed else ()
        if is_whole:
            begin = LOWEST if k == 0 else group[0][0]
            pieces = ((begin, groups[k + 1][0][0] - 1 if k + 1 < len(groups) else HIGHEST),)
        ranges.append(IdRange(k + 1, group[0][0], group[-1][1], pieces))
    return tuple(ranges)


def _cut(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    width = max(-(-(last - first + 1) // parts), SMALLEST_RANGE)
    return [(begin, min(begin + width - 1, last)) for begin in range(first, last + 1, width)]


def thresholds(ranges: Sequence[IdRange]) -> list[int]:
    """First ids of the ranges, the lowest id that there is for the first: every contact falls into one."""
    return [LOWEST, *(it.first_id for it in ranges[1:])]


def find_mismatches(outcomes: Sequence[RangeOutcome], target: TargetSums) -> tuple[Mismatch, ...]:
    """The ranges whose sums differ, in the order of ids."""
    pairs = [(it, target.by_range.get(it.id_range.index, NOTHING)) for it in outcomes]
    off = [Mismatch(it.id_range, it.sums, found) for it, found in pairs if it.sums != found]
    return tuple(sorted(off, key=lambda it: it.id_range.index))


def name_rows(
    session: Connection, scanner: Scanner, run_id: int, ranges: Sequence[IdRange], mismatches: Sequence[Mismatch]
) -> tuple[RangeMismatch, ...]:
    """Each mismatch with the rows that it lies in; one more scan of contacts for the first DRILLED of them."""
    if not mismatches:
        return ()
    drilled = mismatches[:DRILLED]
    indexes = [it.id_range.index for it in drilled]
    found = validation_target.row_hashes(session, run_id, thresholds(ranges), indexes)
    of_row = np.searchsorted(np.array(thresholds(ranges), dtype=np.int64), found.ids, side="right")
    named = []
    for it in drilled:
        here = of_row == it.id_range.index
        rows = _differences(scanner, it.id_range, found.ids[here], found.hashes[here])
        first = [scanner.difference(source_id, kind) for source_id, kind in rows[:LISTED]]
        named.append(_mismatch(it, len(rows), tuple(first)))
    return (*named, *(_mismatch(it, None, ()) for it in mismatches[DRILLED:]))


def _mismatch(it: Mismatch, rows_off: int | None, rows: tuple[RowDifference, ...]) -> RangeMismatch:
    return RangeMismatch(
        it.id_range.first_id, it.id_range.last_id, it.source.rows, it.target.rows, it.subjects, rows_off, rows
    )


def _differences(
    scanner: Scanner, id_range: IdRange, target_ids: np.ndarray[tuple[int], np.dtype[np.int64]],
    target_hashes: np.ndarray[tuple[int, int], np.dtype[np.uint64]],
) -> list[tuple[int, str]]:  # fmt: skip
    """(source id, kind) of the rows of a range that are not equal on both sides, ascending."""
    source_ids, source_hashes = scanner.rows_of(id_range)
    unique, first, count = np.unique(target_ids, return_index=True, return_counts=True)
    in_both, at_source, at_target = np.intersect1d(source_ids, unique, assume_unique=True, return_indices=True)
    differs = in_both[(source_hashes[at_source] != target_hashes[first[at_target]]).any(axis=1)]
    extra = np.union1d(np.setdiff1d(unique, source_ids), unique[count > 1])
    named = [(int(source_id), "missing") for source_id in np.setdiff1d(source_ids, unique)]
    named += [(int(source_id), "extra") for source_id in extra]
    named += [(int(source_id), "differs") for source_id in differs if source_id not in extra]
    return sorted(named)
