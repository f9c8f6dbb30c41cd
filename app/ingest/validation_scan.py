"""The source side of the proof: every row of a range hashed, and the changed and the sampled ones worked out once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psycopg import Connection

from app.core.database import connect
from app.core.errors import Broken
from app.core.plan_store import place_tables
from app.ingest.kernels.fingerprint import padded
from app.ingest.kernels.places import UNRECOGNISED
from app.ingest.kernels.validation import REJECTED, SCALAR, STATE_CELL, SUBJECTS, hash_rows
from app.ingest.kernels.values import LearnedValues
from app.ingest.rows import TEXT_LIMITS
from app.ingest.source import Cell
from app.ingest.validation_rules import ContactRules, PlanRanges
from app.ingest.validation_source import BLOCK_COLUMNS, CellBlock, SourceReader
from app.ingest.validation_target import RangeSums, contacts_by_id
from app.utils import geo_utils

STATES = tuple(geo_utils.STATE_NAMES)
LIMITS = np.array(
    [TEXT_LIMITS.get(name, geo_utils.LONGEST_STATE) for name in (*BLOCK_COLUMNS, "fecha_migracion")], dtype=np.int64
)
CODES = np.stack([padded(bytes([len(code), *bytes(7)]) + code.encode().ljust(8, b"\0")) for code in STATES])
LISTED = 20
"""Rows that are named one by one; beyond, they are counted."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """A range of source ids, inclusive. `index` is its place among the thresholds, from 1; `pieces` are the parts of it that
    the run has committed, inclusive."""

    index: int
    first_id: int
    last_id: int
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that is not as it must be. Kinds: missing, extra, differs, refused (its number is no valid Mexican one)."""

    source_id: int
    kind: str
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Opinions:
    """Rows that were worked out once more and compared field by field."""

    compared: int = 0
    off: int = 0
    listed: list[RowDifference] = field(default_factory=list)

    def add(self, difference: RowDifference | None) -> None:
        """Count one comparison; `difference` when it did not hold."""
        self.compared += 1
        if difference is not None:
            self.off += 1
            if len(self.listed) < LISTED:
                self.listed.append(difference)

    def merge(self, other: Opinions) -> None:
        """Take in what another thread found."""
        self.compared += other.compared
        self.off += other.off
        self.listed = sorted([*self.listed, *other.listed], key=lambda it: it.source_id)[:LISTED]


@dataclass(slots=True)
class RangeOutcome:
    """What the source says of a range. `read` counts its rows, `rejected` those of them that the ledger keeps aside."""

    id_range: IdRange
    sums: RangeSums
    read: int
    rejected: int
    changed: Opinions
    sampled: Opinions


@dataclass(frozen=True, slots=True)
class ScanContext:
    """What all threads of a validation share. `share`: of the rows that are sampled, 0 to 1."""

    path: Path
    url: str
    id_offset: int
    rejected: npt.NDArray[np.int64]
    plans: tuple[PlanRanges, ...]
    seed: int
    share: float
    use_adbc: bool = True


@dataclass(frozen=True, slots=True)
class _Pending:
    cells: tuple[Cell, ...]
    national: str
    is_changed: bool


class Scanner:
    """Reads ranges of the source in one thread, with a reader and a session of its own."""

    def __init__(self, context: ScanContext) -> None:
        self._context = context
        self.reader = SourceReader(context.path, use_adbc=context.use_adbc)
        self.session: Connection = connect(context.url, autocommit=True, application_name="smsctl validate")
        self.rules = ContactRules(context.plans, place_tables(), self.reader.real_as_text, context.id_offset)
        self._spellings = LearnedValues()
        self._limit = np.uint64(min(int(context.share * 2**64), 2**64 - 1))

    def close(self) -> None:
        """Give up reader and session."""
        self.reader.close()
        self.session.close()

    def scan(self, id_range: IdRange) -> RangeOutcome:
        """Sums of a range; its changed and sampled rows compared with the contacts they became."""
        counts, totals = np.zeros(SUBJECTS, dtype=np.int64), np.zeros(SUBJECTS, dtype=np.uint64)
        outcome = RangeOutcome(id_range, RangeSums(0, (), ()), 0, 0, Opinions(), Opinions())
        pending: list[_Pending] = []
        for block, states, hashes in hashed_blocks(self.reader, id_range, self._context.rejected, self._spellings):
            self._settle(block, states, hashes, outcome, pending)
            counts += np.count_nonzero(hashes, axis=0)
            totals += hashes.sum(axis=0, dtype=np.uint64)
            outcome.read += len(block.ids)
            outcome.rejected += int(np.count_nonzero(states == REJECTED))
        self._compare(pending, outcome)
        rows = outcome.read - outcome.rejected
        outcome.sums = RangeSums(rows, (rows, *counts[1:].tolist()), tuple(totals.tolist()))
        return outcome

    def rows_of(self, id_range: IdRange) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """(ids int64[n], hashes uint64[n, SUBJECTS]) of the rows of a range that must be contacts."""
        ids, found = [np.zeros(0, dtype=np.int64)], [np.zeros((0, SUBJECTS), dtype=np.uint64)]
        for block, states, hashes in hashed_blocks(self.reader, id_range, self._context.rejected, self._spellings):
            for row in np.flatnonzero(states == SCALAR).tolist():
                self._by_rules(int(block.ids[row]), hashes[row])
            wanted = states != REJECTED
            ids.append(block.ids[wanted])
            found.append(hashes[wanted])
        return np.concatenate(ids), np.concatenate(found)

    def difference(self, source_id: int, kind: str) -> RowDifference:
        """A row named as differing, with the fields that do."""
        cells = self.reader.cells_of(source_id) if kind == "differs" else None
        national = self.rules.national(cells) if cells else None
        if cells is None or national is None:
            return RowDifference(source_id, kind)
        stored = contacts_by_id(self.session, [source_id + self._context.id_offset])
        expected = self.rules.expect(cells, national)
        fields = [expected.differing(contact) for contact in stored.values()]
        return RowDifference(source_id, kind, fields[0] if fields else ("id",))

    def _by_rules(self, source_id: int, hashes: npt.NDArray[np.uint64]) -> None:
        """Hashes of a row by the scalar rules; left alone when its number is not one that could have been loaded."""
        cells = self.reader.cells_of(source_id)
        national = self.rules.national(cells) if cells else None
        if cells and national:
            hashes[:] = self.rules.hashes(cells, national)

    def _settle(
        self, block: CellBlock, states: npt.NDArray[np.uint8], hashes: npt.NDArray[np.uint64], outcome: RangeOutcome,
        pending: list[_Pending],
    ) -> None:  # fmt: skip
        """Hash what was left to the scalar rules, and put aside which rows are compared field by field."""
        chosen = (states != REJECTED) & (_mixed(block.ids, self._context.seed) <= self._limit)
        for row in np.flatnonzero((states == SCALAR) | chosen).tolist():
            source_id = int(block.ids[row])
            cells = self.reader.cells_of(source_id)
            if cells is None:
                raise Broken(f"SQLite gave row {source_id} in a scan and not by its id.", code="source_row")
            is_changed = not self.rules.is_as_written(cells)
            national = self.rules.opinion(cells) if is_changed or chosen[row] else self.rules.national(cells)
            if national is None:
                (outcome.changed if is_changed else outcome.sampled).add(
                    RowDifference(source_id, "refused", ("numero",))
                )
                continue
            if states[row] == SCALAR:
                hashes[row] = self.rules.hashes(cells, national)
            if is_changed or chosen[row]:
                pending.append(_Pending(cells, national, is_changed))

    def _compare(self, pending: Sequence[_Pending], outcome: RangeOutcome) -> None:
        offset = self._context.id_offset
        stored = contacts_by_id(self.session, [_id(it.cells) + offset for it in pending])
        for it in pending:
            source_id = _id(it.cells)
            contact = stored.get(source_id + offset)
            difference = None
            if contact is None:
                difference = RowDifference(source_id, "missing")
            elif fields := self.rules.expect(it.cells, it.national).differing(contact):
                difference = RowDifference(source_id, "differs", fields)
            (outcome.changed if it.is_changed else outcome.sampled).add(difference)


def hashed_blocks(
    reader: SourceReader, id_range: IdRange, rejected: npt.NDArray[np.int64], spellings: LearnedValues
) -> Iterator[tuple[CellBlock, npt.NDArray[np.uint8], npt.NDArray[np.uint64]]]:
    """Blocks of a range, the outcome of each row and its hashes. Shapes: uint8[n], uint64[n, SUBJECTS], all 0 but where the
    outcome is HASHED. `spellings` learns the states that it meets.
    """
    for first, last in id_range.pieces:
        at = int(np.searchsorted(rejected, first))
        for block in reader.blocks(first, last):
            states = np.empty(len(block.ids), dtype=np.uint8)
            hashes = np.empty((len(block.ids), SUBJECTS), dtype=np.uint64)
            row, taught = 0, -1
            while row < len(block.ids):
                row, at = hash_rows(
                    block.buf, block.base, block.offsets, block.valid, block.ids, block.flags, row, rejected, at, LIMITS,
                    CODES, spellings.entries, spellings.pool, states, hashes,
                )  # fmt: skip
                if row == taught:  # the dictionary is full: this row goes by the scalar rule
                    states[row], row = SCALAR, row + 1
                elif row < len(block.ids):
                    _teach(block, row, spellings)
                    taught = row
            hashes[states == SCALAR] = 0
            yield block, states, hashes


def _teach(block: CellBlock, row: int, spellings: LearnedValues) -> None:
    begin, end = block.base[STATE_CELL] + block.offsets[STATE_CELL, row : row + 2]
    spelling = block.buf[begin:end].tobytes()
    state = geo_utils.state_code(spelling.decode())
    spellings.teach(spelling, UNRECOGNISED if state is None else STATES.index(state))


def _id(cells: Sequence[Cell]) -> int:
    if not isinstance(cells[0], int):
        raise TypeError("a row id is an integer")
    return cells[0]


def _mixed(ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A pseudo-random uint64 per id, by the finaliser of splitmix64."""
    x = ids.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
