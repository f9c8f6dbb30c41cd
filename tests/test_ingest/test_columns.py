"""The columnar path, held against the scalar rules row by row: the same bytes, the same repairs, the same rejects."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from app.core.plan_store import packaged_plan, place_tables
from app.ingest.columns import Classification, Normaliser, fingerprint_of
from app.ingest.copy_stream import CONTACT_COLUMNS, Batch
from app.ingest.kernels import values
from app.ingest.kernels.pages import IN_PAGE
from app.ingest.kernels.seen import SeenNumbers
from app.ingest.rows import Reject, Repair, RowRules, cell_repair, reject_row
from app.ingest.source import COLUMNS, SLOT, Cell, RawText, RowBlock, Source, decode_text
from app.utils import geo_utils, phone_utils
from tests import sources
from tests.sources import make_source

RUN, OFFSET = 41, 1_000_000_007
DICE = np.random.Generator
LIMITED = {"campo1_original": 200, "nombre": 500, "direccion": 1000, "colonia": 300, "municipio_csv": 300}


@pytest.fixture(scope="module")
def tables() -> Classification:
    return Classification(packaged_plan(), place_tables())


def pick(dice: DICE, options: Sequence[object]) -> object:
    return options[int(dice.integers(len(options)))]


def _number(dice: DICE) -> object:
    national = f"{int(dice.integers(2_000_000_000, 10_000_000_000))}"
    if dice.random() < 0.6:  # a handful of values, so that many rows share one
        national = f"{pick(dice, ['55', '664', '656', '800', '900', '33', '998', '686', '500', '300'])}{int(dice.integers(40))}"
        national = national.ljust(10, "7")
    prefix = str(pick(dice, ["", "", "", "", "", "+52", "044", "01", "0052", "521", "+52 1", "\u200b", "1", "+1"]))
    odd = [national.encode(), RawText(national.encode() + b"\xff"), "x", "", "\0", float(national), national[:6]]
    return pick(dice, [*[prefix + national] * 12, national[:5] + "\u00a0" + national[5:], *odd])


def _any_cell(dice: DICE) -> object:
    raw = [b"", b"ok", b"\xff\xfe", RawText(b"MU\xd1OZ"), RawText(b"\x81"), RawText(b"\xc3")]
    texts = ["", " ", "   ", "\t", "A\0B", "\0", "MÉXICO", "\U0001f389" * 9]
    return pick(dice, [None, 0, 1, -7, 2**60, 2.5, 1e300, float("inf"), *raw, *texts])


def _text(dice: DICE, name: str) -> object:
    limit = LIMITED.get(name, 300)
    kind = dice.random()
    if kind < 0.1:
        return _any_cell(dice)
    if kind < 0.2:  # around the limit, in bytes and in characters
        return str(pick(dice, ["X", "Ñ", "\U0001f389"])) * (
            limit // int(dice.choice([1, 2, 4])) + int(dice.integers(-1, 2))
        )
    return pick(dice, [None, "", "PEÑA", "Calle 5 #10\nInt 3", "a" * int(dice.integers(1, 60))])


def _state(dice: DICE) -> object:
    if dice.random() < 0.15:
        return _any_cell(dice)
    known = [spelling for found in geo_utils.STATE_SPELLINGS.values() for spelling in found]
    many = ["BAJA CALIFORNIA", "CHIH", "SONORA", "Q ROO", "NAYARIT", "TAMAULIPAS", "DURANGO", "COAHUILA"]
    return pick(dice, [*known, *many * 12, None, None, "", "  ", "NARNIA", "X" * 120, "X" * 121, "Ñ" * 61, " JALISCO "])


def _town(dice: DICE) -> object:
    towns = [name for _, name in place_tables().zones]
    return pick(
        dice,
        [*towns[:80], "JUAREZ", "Cd. Juárez", "TIJUANA", "BAHIA DE BANDERAS", *[_text(dice, "")] * 12, " TIJUANA "],
    )


def _date(dice: DICE) -> object:
    return pick(dice, ["2025-01-27 10:30:00"] * 4 + ["2024-02-30 00:00:00", "0001-01-01 00:00:00", "2025-01-27T10:30:00Z",
                       "2025-01-27", "2025-01-27 10:30:00.123456+05:30", "0000-00-00 00:00:00", "٢٠٢٥-01-27 10:30:00", "",
                       _any_cell(dice), "2025-13-01 00:00:00", " 2025-01-27 10:30 ", "9999-12-31 23:59:59"])  # fmt: skip


def _flag(dice: DICE) -> object:
    return pick(dice, [0, 1, 1, 1, None, 2, -1, "0", "1", "no", "SÍ", "x", 0.0, 1.5, b"0", b"\x00", _any_cell(dice)])


def random_row(dice: DICE) -> dict[str, object]:
    """A row of which most cells are plain and any may be anything."""
    row: dict[str, object] = {"numero": _number(dice)}
    if dice.random() < 0.3:
        return row  # plain but for its number
    makers: dict[str, Callable[[DICE], object]] = {
        "estado_cof": _state, "municipio_cof": _town, "fecha_migracion": _date, "es_valido": _flag,
    }  # fmt: skip
    for name in COLUMNS[2:]:
        if dice.random() < 0.25:
            row[name] = makers[name](dice) if name in makers else _text(dice, name)
    return row


def write(path: Path, seed: int, rows: int) -> Path:
    dice = np.random.default_rng(seed)
    made = make_source(path, [])
    with closing(sqlite3.connect(made)) as connection:
        for _ in range(rows):
            full = {**sources.PLAIN_ROW, **random_row(dice)}
            marks = ", ".join("CAST(? AS TEXT)" if isinstance(cell, RawText) else "?" for cell in full.values())
            statement = f"INSERT OR IGNORE INTO numeros ({', '.join(full)}) VALUES ({marks})"
            connection.execute(
                statement, [bytes(cell) if isinstance(cell, RawText) else cell for cell in full.values()]
            )
        connection.commit()
    return made


def read_by_sqlite(path: Path) -> list[tuple[Cell, ...]]:
    """Every row through SQLite's own library."""
    wanted = ", ".join(
        f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in COLUMNS
    )
    found = []
    with closing(sqlite3.connect(path)) as connection:
        for row in connection.execute(f"SELECT {wanted} FROM numeros ORDER BY id"):
            cells: list[Cell] = []
            for kind, value in zip(row[::2], row[1::2], strict=True):
                cells.append(decode_text(value) if kind == "text" else value)
            found.append(tuple(cells))
    return found


class Outcome:
    """What became of a source: encoded rows by source id, and the batch."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.batch = Batch(-(2**63), 2**63 - 1)
        self.plain = 0

    def split(self, data: bytes) -> None:
        """Take encoded rows apart by the lengths of their fields."""
        at = 0
        while at < len(data):
            begin, at = at, at + 2
            assert struct.unpack_from(">h", data, begin)[0] == len(CONTACT_COLUMNS)
            for _ in CONTACT_COLUMNS:
                (size,) = struct.unpack_from(">i", data, at)
                at += 4 + max(size, 0)
            source_id = struct.unpack_from(">q", data, begin + 18)[0]
            assert source_id not in self.rows
            self.rows[source_id] = data[begin:at]
        assert at == len(data)


def columnar(path: Path, tables: Classification) -> Outcome:
    outcome = Outcome()
    with closing(Source(path)) as source:
        normaliser = Normaliser(source, tables, SeenNumbers(), run_id=RUN, id_offset=OFFSET)
        for block in source.blocks(-(2**62), 2**62, 10**9, RowBlock()):
            pieces = [bytes(piece) for piece in normaliser.process(block, outcome.batch)]
            outcome.plain += int(np.count_nonzero(block.placed[: block.rows] == IN_PAGE))
            for piece in pieces:
                outcome.split(piece)
    return outcome


def scalar(path: Path, tables: Classification) -> Outcome:
    """The same by the scalar rules alone, from cells that SQLite read."""
    outcome, seen = Outcome(), set[int]()
    with closing(Source(path)) as source:
        rules = RowRules(
            line_class=tables.line_class, ladas=dict(tables.places.ladas), zones=dict(tables.places.zones),
            real_as_text=source.real_as_text, run_id=RUN, id_offset=OFFSET,
        )  # fmt: skip
        for cells in read_by_sqlite(path):
            outcome.batch.rows_read += 1
            text = rules.number_text(cells[SLOT["numero"]])
            verdict = phone_utils.normalize(text)
            if verdict.national is None or verdict.national in seen:
                outcome.batch.rejects.append(_reject(cells, verdict))
                continue
            seen.add(verdict.national)
            row = rules.build(cells, verdict.national)
            source_id = cells[0]
            assert isinstance(source_id, int)
            outcome.rows[source_id] = row.encoded
            outcome.batch.loaded += 1
            total = fingerprint_of(source_id, verdict.national, row.carried)
            outcome.batch.fingerprint = (outcome.batch.fingerprint + total) % 2**64
            if cells[SLOT["numero"]] != str(verdict.national):
                outcome.batch.repairs.append(
                    cell_repair(source_id, "numero", "number_reformatted", cells[SLOT["numero"]])
                )
            outcome.batch.repairs.extend(row.repairs)
    return outcome


def _reject(cells: tuple[Cell, ...], verdict: phone_utils.PhoneVerdict) -> Reject:
    if verdict.national is not None:
        return reject_row(cells, "duplicate", verdict.e164, None)
    detail = f"country code {verdict.country_code}" if verdict.reason == "foreign" else None
    return reject_row(cells, verdict.reason or "", verdict.e164, detail)


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert found.rows.keys() == expected.rows.keys()
    wrong = [source_id for source_id, row in expected.rows.items() if found.rows[source_id] != row]
    assert not wrong, (found.rows[wrong[0]], expected.rows[wrong[0]])
    assert found.batch.rejects == expected.batch.rejects

    def key(it: Repair) -> tuple[int, str, str, str]:
        return (it.source_id, it.field, it.rule, it.raw)

    assert sorted(found.batch.repairs, key=key) == sorted(expected.batch.repairs, key=key)
    assert (found.batch.rows_read, found.batch.loaded) == (expected.batch.rows_read, expected.batch.loaded)
    assert found.batch.fingerprint == expected.batch.fingerprint


@pytest.mark.parametrize("seed", range(6))
def test_the_columns_encode_each_row_as_the_scalar_rules_do(tmp_path: Path, tables: Classification, seed: int) -> None:
    path = write(tmp_path / "n.db", seed, 2500)
    found = columnar(path, tables)
    assert_same(found, scalar(path, tables))
    # The test is worth something only while both ways and every verdict are walked.
    assert 0.2 * len(found.rows) < found.plain < 0.95 * found.batch.rows_read
    assert {reject.reason for reject in found.batch.rejects} >= {"duplicate", "foreign", "too_short", "not_a_number"}


def test_full_dictionaries_change_nothing_but_the_way(
    tmp_path: Path, tables: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "n.db", 99, 1500)
    whole = columnar(path, tables)
    monkeypatch.setattr(values, "MOST_KEYS", 5)
    bounded = columnar(path, tables)
    assert bounded.plain < whole.plain
    assert_same(bounded, whole)


def test_a_plain_row_stays_on_the_fast_path(tmp_path: Path, tables: Classification) -> None:
    path = make_source(tmp_path / "n.db", [{"numero": f"55{k:08d}"} for k in range(5000)])
    found = columnar(path, tables)
    assert found.plain == 5000
    assert_same(found, scalar(path, tables))
