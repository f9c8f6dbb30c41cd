"""The columnar path of a block of rows: normalise numbers, attach the plan, attach the place, split, encode.

What every row needs is done by kernels over whole columns; what only unusual rows need is done one row at a time by
`app.ingest.rows`. Rows are taken strictly in id order by one thread, which is why the lowest id of equal numbers wins.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from app.core.plan_store import PlaceTables
from app.ingest.copy_stream import Batch, Encoded
from app.ingest.kernels.cells import inspect_rows
from app.ingest.kernels.copy_rows import encode_rows, plan_classes
from app.ingest.kernels.fingerprint import fingerprint_rows, fingerprint_texts, padded
from app.ingest.kernels.pages import IN_PAGE, UNUSUAL
from app.ingest.kernels.phones import ASK, PLAIN, parse_numbers
from app.ingest.kernels.places import NO_STATE, NO_ZONE, UNRECOGNISED, attach_places
from app.ingest.kernels.seen import SeenNumbers
from app.ingest.kernels.values import LearnedValues
from app.ingest.rows import (
    CARRIED,
    SOURCE_NAME,
    TEXT_LIMITS,
    LineClass,
    Reject,
    RowRules,
    cell_repair,
    invalid_reason,
    reject_row,
    text_field,
)
from app.ingest.source import BLOCK_ROWS, SLOT, RowBlock, Source
from app.utils import geo_utils, phone_utils
from app.utils.geo_tables import STATES_OF_MANY_ZONES
from app.utils.numbering_plan import GEOGRAPHIC, LINE_TYPES, MOBILE, NON_GEOGRAPHIC, UNASSIGNED, NumberingPlan

OUT_BYTES = BLOCK_ROWS * 512
FIELD_SLOTS = np.array(
    [SLOT[name] for name in (
        "campo1_original", "nombre", "direccion", "colonia", "municipio_cof", "ciudad_por_lada", "campo3", "municipio_csv",
        "estado_sep", "municipio_sep",
    )], dtype=np.int64,
)  # fmt: skip
CARRIED_SLOTS = np.array([SLOT[name] for name in CARRIED], dtype=np.int64)
TEXT_NAMES = (*TEXT_LIMITS, "estado_cof")
TEXT_SLOTS = np.array([SLOT[name] for name in TEXT_NAMES], dtype=np.int64)
TEXT_BYTES = np.array([TEXT_LIMITS.get(name, geo_utils.LONGEST_STATE) for name in TEXT_NAMES], dtype=np.int64)
PLACE_SLOTS = np.array([SLOT[name] for name in ("estado_cof", "ciudad_por_lada", "municipio_cof")], dtype=np.int64)
UNCERTAIN = 1000
"""Added to the zone that is taught for a municipality which the table does not know."""

STATES = tuple(geo_utils.STATE_NAMES)


class SharedFields:
    """Fields that many rows share, encoded once: pool uint8[], spots int64[m, 2] (position, length), tables int64[6]."""

    def __init__(self, groups: list[list[bytes]]) -> None:
        joined = [encoded for group in groups for encoded in group]
        lengths = np.array([len(encoded) for encoded in joined], dtype=np.int64)
        self.pool = padded(b"".join(joined))
        self.spots = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
        sizes = [len(group) for group in groups]
        self.tables = np.cumsum([0, *sizes[:-1]]).astype(np.int64)


class Classification:
    """The numbering plan and the tables of places in the shapes that the kernels read."""

    def __init__(self, plan: NumberingPlan, places: PlaceTables) -> None:
        self.plan = plan
        self.places = places
        self.zone_names = sorted({*geo_utils.STATE_TIME_ZONES.values(), *places.zones.values(),
                                  *(place.time_zone for place in places.ladas.values())})  # fmt: skip
        self._zone_index = {name: index for index, name in enumerate(self.zone_names)}
        self._index_classes()
        self._index_leads()
        self.shared = SharedFields(self._groups())

    def _index_classes(self) -> None:
        plan = self.plan
        keys = plan.line_type.astype(np.int64) * (len(plan.operators) + 1) + plan.operator
        unique, of_range = np.unique(keys, return_inverse=True)
        self.classes = [
            LineClass(LINE_TYPES[key // (len(plan.operators) + 1)], plan.operators[key % (len(plan.operators) + 1)],
                      key // (len(plan.operators) + 1) == MOBILE, True)
            for key in unique.tolist()
        ]  # fmt: skip
        services = {code: len(self.classes) + k for k, code in enumerate(range(2, UNASSIGNED + 1))}
        # Services (800, 900 …) are not in the public file of ranges, and are numbers of the plan all the same.
        self.classes += [LineClass(LINE_TYPES[code], None, False, code != UNASSIGNED) for code in services]
        self.class_of_range = np.append(of_range, services[UNASSIGNED]).astype(np.int32)
        self.class_of_lead = np.array(
            [-1 if code == GEOGRAPHIC else services[int(code)] for code in NON_GEOGRAPHIC], dtype=np.int32
        )
        self.class_mobile = np.array([line.is_mobile for line in self.classes], dtype=np.bool_)
        self.class_assigned = np.array([line.is_assigned for line in self.classes], dtype=np.bool_)

    def _index_leads(self) -> None:
        self.lead_place = [
            geo_utils.place_of_lada(self.places.ladas, phone_utils.lada_of(lead * 10**7)) if lead >= 200 else None
            for lead in range(1000)
        ]
        self.lead_state = np.array(
            [STATES.index(place.state_code) if place else NO_STATE for place in self.lead_place], dtype=np.int16
        )
        self.lead_zone = np.array(
            [self._zone_index[place.time_zone] if place else NO_ZONE for place in self.lead_place], dtype=np.int16
        )
        self.lead_city = np.array([place is not None for place in self.lead_place], dtype=np.bool_)
        many = STATES_OF_MANY_ZONES
        usual = [self._zone_index[geo_utils.STATE_TIME_ZONES[code]] for code in STATES]
        self.common_zone = np.array([*usual, NO_ZONE, NO_ZONE], dtype=np.int16)
        self.zone_of_state = np.array(
            [*(NO_ZONE if code in many else zone for code, zone in zip(STATES, usual, strict=True)), NO_ZONE, NO_ZONE],
            dtype=np.int16,
        )

    def _groups(self) -> list[list[bytes]]:
        states = [text_field(code) + text_field(geo_utils.STATE_NAMES[code]) for code in STATES]
        ladas = [text_field(phone_utils.lada_of(lead * 10**7)) for lead in range(1000)]
        cities = [text_field(place.city if place else None) for place in self.lead_place]
        lines = [text_field(line.line_type) + text_field(line.operator) for line in self.classes]
        verdicts = []
        for is_flagged in (False, True):
            for is_assigned in (True, False):
                reason = invalid_reason(is_assigned=is_assigned, is_flagged=is_flagged)
                verdicts.append(text_field(reason) + text_field("INVALID" if reason else "ACTIVE"))
        zones = [text_field(name) + text_field(SOURCE_NAME) for name in (None, *self.zone_names)]
        return [[*states, text_field(None) * 2], ladas, cities, lines, verdicts, zones]

    def line_class(self, number: int) -> LineClass:
        """What the plan says of one number: the scalar form of `plan_classes`."""
        forced = int(self.class_of_lead[number // 10**7])
        return self.classes[forced if forced >= 0 else int(self.class_of_range[self.plan.find(number)])]

    def zone_value(self, state: str, municipality: str) -> int:
        """What `attach_places` is taught for a municipality: its zone, plus UNCERTAIN where the table lacks it."""
        zone, is_certain = geo_utils.time_zone(self.places.zones, state, municipality)
        return self._zone_index[zone] + (0 if is_certain else UNCERTAIN)


class BlockColumns:
    """The columns that are made of a block; used again for the next. One value a row, BLOCK_ROWS rows."""

    def __init__(self) -> None:
        self.number: npt.NDArray[np.int64] = np.zeros(BLOCK_ROWS, dtype=np.int64)
        self.number_state: npt.NDArray[np.uint8] = np.zeros(BLOCK_ROWS, dtype=np.uint8)
        self.moment: npt.NDArray[np.int64] = np.zeros(BLOCK_ROWS, dtype=np.int64)
        self.flagged: npt.NDArray[np.uint8] = np.zeros(BLOCK_ROWS, dtype=np.uint8)
        self.state: npt.NDArray[np.int16] = np.zeros(BLOCK_ROWS, dtype=np.int16)
        self.zone: npt.NDArray[np.int16] = np.zeros(BLOCK_ROWS, dtype=np.int16)
        self.inferred: npt.NDArray[np.int16] = np.zeros(BLOCK_ROWS, dtype=np.int16)
        self.ask: npt.NDArray[np.uint8] = np.zeros(BLOCK_ROWS, dtype=np.uint8)
        self.plan_class: npt.NDArray[np.int32] = np.zeros(BLOCK_ROWS, dtype=np.int32)


class Normaliser:
    """Turns decoded blocks into encoded rows, rejects and repairs, in id order."""

    def __init__(
        self, source: Source, tables: Classification, seen: SeenNumbers, *, run_id: int, id_offset: int
    ) -> None:
        self._source = source
        self._tables = tables
        self._seen = seen
        self._run_id = run_id
        self._id_offset = id_offset
        self._columns = BlockColumns()
        self._spellings, self._towns = LearnedValues(), LearnedValues()
        self._valid_prefix = np.frombuffer(phone_utils.VALID_PREFIX, dtype=np.bool_)
        self._rules = RowRules(
            line_class=tables.line_class, ladas=dict(tables.places.ladas), zones=dict(tables.places.zones),
            real_as_text=source.real_as_text, run_id=run_id, id_offset=id_offset,
        )  # fmt: skip

    def process(self, block: RowBlock, batch: Batch) -> Iterator[Encoded]:
        """Encoded rows of the block, in pieces; counts, fingerprint, rejects and repairs are added to `batch`."""
        columns = self._columns
        reasons = self._normalise(block)
        self._attach_plan(block)
        self._attach_place(block)
        rows = block.rows
        first = self._seen.add(columns.number[:rows])
        self._split(block, batch, first, reasons)
        plain = first & (block.placed[:rows] == IN_PAGE)
        batch.rows_read += rows
        batch.loaded += int(np.count_nonzero(first))
        total = fingerprint_rows(
            block.buffer, plain, block.ids[:rows], columns.number, CARRIED_SLOTS, block.start, block.size, block.kind
        )
        batch.fingerprint = (batch.fingerprint + int(total)) % 2**64
        yield from self._encode(block, plain)
        for row in np.flatnonzero(first & ~plain).tolist():
            yield self._unusual(block, batch, row)

    def _normalise(self, block: RowBlock) -> dict[int, phone_utils.PhoneVerdict]:
        """Numbers of the block; returns the verdict of each row that the scalar rule refused."""
        columns = self._columns
        parse_numbers(
            block.buffer, block.rows, SLOT["numero"], block.start, block.size, block.kind, block.placed,
            self._valid_prefix, columns.number, columns.number_state,
        )  # fmt: skip
        inspect_rows(
            block.buffer, block.rows, TEXT_SLOTS, TEXT_BYTES, SLOT["es_valido"], SLOT["fecha_migracion"], block.start,
            block.size, block.kind, block.placed, columns.moment, columns.flagged,
        )  # fmt: skip
        refused: dict[int, phone_utils.PhoneVerdict] = {}
        for row in np.flatnonzero(columns.number_state[: block.rows] == ASK).tolist():
            cell = self._source.cell(block, row, SLOT["numero"])
            verdict = phone_utils.normalize(self._rules.number_text(cell))
            if verdict.national is None:
                refused[row] = verdict
                continue
            columns.number[row] = verdict.national
            if cell == f"{verdict.national:010d}":  # read elsewhere (a long row), and as plain as any
                columns.number_state[row] = PLAIN
        return refused

    def _attach_plan(self, block: RowBlock) -> None:
        tables, columns = self._tables, self._columns
        plan_classes(
            columns.number[: block.rows], tables.plan.blocks, tables.plan.first, tables.plan.last,
            tables.class_of_range, tables.class_of_lead, columns.plan_class,
        )  # fmt: skip

    def _attach_place(self, block: RowBlock) -> None:
        """State, zone and what was inferred; spellings that no row had before are asked of the scalar rule once."""
        tables, columns = self._tables, self._columns
        for attempt in range(3):
            asked = attach_places(
                block.buffer, block.rows, block.start, block.size, block.kind, block.placed, columns.number, PLACE_SLOTS,
                self._spellings.entries, self._spellings.pool, self._towns.entries, self._towns.pool,
                tables.lead_state, tables.lead_zone, tables.lead_city, tables.zone_of_state, tables.common_zone,
                columns.state, columns.zone, columns.inferred, columns.ask,
            )  # fmt: skip
            if not asked:
                return
            for row in np.flatnonzero(columns.ask[: block.rows]).tolist():
                if attempt == 2:  # the dictionary is full: this row goes by the scalar rule
                    block.placed[row] = UNUSUAL
                else:
                    self._teach(block, row)

    def _teach(self, block: RowBlock, row: int) -> None:
        spelling = block.cell(row, SLOT["estado_cof"])
        if not isinstance(spelling, str):
            raise TypeError("a plain row's text cells are text")
        state = geo_utils.state_code(spelling)
        if self._columns.ask[row] == 1:
            self._spellings.teach(spelling.encode(), UNRECOGNISED if state is None else STATES.index(state))
            return
        town = block.cell(row, SLOT["municipio_cof"])
        if not isinstance(town, str) or state is None:
            raise TypeError("a plain row's text cells are text")
        self._towns.teach(town.encode(), self._tables.zone_value(state, town), STATES.index(state))

    def _split(
        self, block: RowBlock, batch: Batch, first: npt.NDArray[np.bool_], refused: dict[int, phone_utils.PhoneVerdict]
    ) -> None:
        columns = self._columns
        for row in np.flatnonzero(~first).tolist():
            batch.rejects.append(self._reject(block, row, refused.get(row)))
        changed = first & (columns.number_state[: block.rows] != PLAIN)
        for row in np.flatnonzero(changed).tolist():
            written = self._source.cell(block, row, SLOT["numero"])
            if written == f"{columns.number[row]:010d}":
                continue  # asked of the scalar rule for where it lies, not for what it is
            batch.repairs.append(cell_repair(int(block.ids[row]), "numero", "number_reformatted", written))

    def _reject(self, block: RowBlock, row: int, verdict: phone_utils.PhoneVerdict | None) -> Reject:
        cells = self._source.cells(block, row)
        if verdict is None:
            return reject_row(cells, "duplicate", f"+52{self._columns.number[row]:010d}", None)
        detail = f"country code {verdict.country_code}" if verdict.reason == "foreign" else None
        return reject_row(cells, verdict.reason or "invalid", verdict.e164, detail)

    def _encode(self, block: RowBlock, wanted: npt.NDArray[np.bool_]) -> Iterator[Encoded]:
        tables, columns, row = self._tables, self._columns, 0
        while row < block.rows:
            out = np.empty(OUT_BYTES, dtype=np.uint8)
            size, row = encode_rows(
                block.buffer, row, block.rows, wanted, block.ids, columns.number, columns.moment, columns.flagged,
                columns.state, columns.zone, columns.inferred, columns.plan_class, block.start, block.size, block.kind,
                FIELD_SLOTS, self._id_offset, self._run_id, tables.class_mobile, tables.class_assigned,
                tables.shared.pool, tables.shared.spots, tables.shared.tables, out,
            )  # fmt: skip
            yield out[:size].data

    def _unusual(self, block: RowBlock, batch: Batch, row: int) -> bytes:
        scalar = self._rules.build(self._source.cells(block, row), int(self._columns.number[row]))
        batch.repairs.extend(scalar.repairs)
        total = fingerprint_of(int(block.ids[row]), int(self._columns.number[row]), scalar.carried)
        batch.fingerprint = (batch.fingerprint + total) % 2**64
        return scalar.encoded


def fingerprint_of(source_id: int, number: int, carried: tuple[str | None, ...]) -> int:
    """The fingerprint of one row, 0 ≤ value < 2**64: the scalar form of `fingerprint_rows`."""
    texts = [None if text is None else text.encode() for text in (f"{number:010d}", *carried)]
    lengths = np.array([-1 if text is None else len(text) for text in texts], dtype=np.int64)
    packed = padded(b"".join(text for text in texts if text))
    return int(fingerprint_texts(packed, lengths, np.uint64(source_id % 2**64)))
