"""The page reader against SQLite's own library: the same rows from any file, and an error, never worse, from a damaged one."""

from __future__ import annotations

import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from app.core.errors import AppError, Conflict, InvalidInput, Unavailable
from app.core.plan_store import packaged_plan, place_tables
from app.ingest import source as source_module
from app.ingest import source_connection
from app.ingest.columns import Classification, Normaliser
from app.ingest.copy_stream import Batch
from app.ingest.kernels.pages import ELSEWHERE
from app.ingest.kernels.seen import SeenNumbers
from app.ingest.source import COLUMNS, Cell, RawText, RowBlock, Source, decode_text
from app.ingest.sqlite_file import SqliteFile
from tests.sources import make_source, numbers

LOWEST, HIGHEST = -(2**63), 2**63 - 1
OTHERS = "CREATE TABLE estadisticas_migracion (x); CREATE TABLE ladas_faltantes (x);"
FUZZ_CASES = 420
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a random file is made."""

    page_size: int
    reserved: int
    rows: int
    ids: str
    longest: int
    auto_vacuum: int
    delete: float
    vacuum: bool
    late_columns: int


def random_shape(dice: random.Random) -> Shape:
    page_size = dice.choice([512, 1024, 4096, 8192, 65536])
    return Shape(
        page_size=page_size, reserved=dice.choice([0, 0, 0, 1, 16, 32]), rows=dice.choice([0, 1, 2, 30, 150, 400]),
        ids=dice.choice(["dense", "gaps", "negative", "huge", "edges"]),
        longest=dice.choice([5, 40, page_size // 16, page_size // 4]), auto_vacuum=dice.choice([0, 0, 1, 2]),
        delete=dice.choice([0.0, 0.0, 0.3, 0.9, 1.0]), vacuum=dice.random() < 0.3, late_columns=dice.choice([0, 0, 1, 3, 14]),
    )  # fmt: skip


def random_ids(dice: random.Random, shape: Shape) -> list[int]:
    count = shape.rows
    if shape.ids == "dense":
        return list(range(1, count + 1))
    if shape.ids == "gaps":
        return dice.sample(range(1, 50 * count + 2), count)
    if shape.ids == "negative":
        return dice.sample(range(-10 * count, 10 * count + 1), count)
    if shape.ids == "huge":
        return [dice.randrange(-(2**62), 2**62) for _ in range(count)]
    edges = [LOWEST, LOWEST + 1, -(2**31), -1, 0, 1, 127, 128, 2**14, 2**32, 2**56 - 1, 2**56, HIGHEST - 1, HIGHEST]
    return (edges + dice.sample(range(200, 10 * count + 300), count))[:count]


def random_cell(dice: random.Random, longest: int) -> object:
    size = dice.choice([0, 1, 5, longest, dice.randrange(longest + 1), dice.randrange(4 * longest + 1)])
    return dice.choice([
        None, 0, 1, -1, 2, dice.randrange(-(2**8), 2**8), dice.randrange(-(2**16), 2**16), dice.randrange(-(2**24), 2**24),
        dice.randrange(-(2**48), 2**48), dice.randrange(LOWEST, HIGHEST), dice.random() * 10 ** dice.randrange(-300, 300),
        math.inf, -0.0, 3.0, "x" * size, "Ñ" * (size // 2), "5512345678", dice.randbytes(size), b"",
        RawText(dice.randbytes(size)), RawText("ñ".encode() + b"\xff"), "a\0b",
    ])  # fmt: skip


def _empty_file(path: Path, shape: Shape) -> None:
    """A file of one page whose header keeps bytes of every page for others, which no pragma can ask for."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {shape.page_size}")
        connection.execute(f"PRAGMA auto_vacuum = {shape.auto_vacuum}")
        connection.execute("PRAGMA user_version = 1")
    if shape.reserved and not shape.auto_vacuum:
        data = bytearray(path.read_bytes())
        data[20] = shape.reserved
        data[105:107] = (shape.page_size - shape.reserved).to_bytes(2, "big")
        path.write_bytes(data)


def _insert(
    connection: sqlite3.Connection, dice: random.Random, shape: Shape, ids: list[int], names: list[str]
) -> None:
    for source_id in ids:
        cells = [random_cell(dice, shape.longest) for _ in names]
        marks = ", ".join("CAST(? AS TEXT)" if isinstance(cell, RawText) else "?" for cell in cells)
        connection.execute(
            f"INSERT OR IGNORE INTO numeros (id, {', '.join(names)}) VALUES (?, {marks})",
            [source_id, *(bytes(cell) if isinstance(cell, RawText) else cell for cell in cells)],
        )


def random_file(path: Path, dice: random.Random, shape: Shape) -> Path:
    """A numeros.db with columns in any order and cells of any class, some rows older than some columns."""
    _empty_file(path, shape)
    names = list(COLUMNS[1:])
    dice.shuffle(names)
    early, late = names[: len(names) - shape.late_columns], names[len(names) - shape.late_columns :]
    place = dice.randrange(len(early) + 1)
    columns = [*early[:place], "id INTEGER PRIMARY KEY", *early[place:]]
    ids = random_ids(dice, shape)
    cut = dice.randrange(len(ids) + 1) if shape.late_columns else len(ids)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE numeros ({', '.join(columns)}); {OTHERS}")
        _insert(connection, dice, shape, ids[:cut], early)
        for name in late:
            default = dice.choice(
                ["", " DEFAULT 7", " DEFAULT 'ñ'", " DEFAULT NULL", " DEFAULT 1.5", " DEFAULT x'00ff'"]
            )
            connection.execute(f"ALTER TABLE numeros ADD COLUMN {name}{default}")
        _insert(connection, dice, shape, ids[cut:], names)
        if shape.delete:
            gone = [(source_id,) for source_id in ids if dice.random() < shape.delete]
            connection.executemany("DELETE FROM numeros WHERE id = ?", gone)
        connection.commit()
        if shape.vacuum:
            connection.execute("VACUUM")
    return path


def read_by_sqlite(path: Path) -> list[tuple[Cell, ...]]:
    pairs = ", ".join(
        f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in COLUMNS
    )
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"SELECT {pairs} FROM numeros ORDER BY id").fetchall()
    return [
        tuple(decode_text(cell) if kind == "text" else cell for kind, cell in zip(row[::2], row[1::2], strict=True))
        for row in rows
    ]


def read_by_pages(
    source: Source, after: int = LOWEST - 1, upto: int = HIGHEST, most: int = 10**9
) -> Iterator[tuple[Cell, ...]]:
    for block in source.blocks(after, upto, most, RowBlock()):
        assert block.rows > 0
        for row in range(block.rows):
            yield source.cells(block, row)


def exact(rows: list[tuple[Cell, ...]]) -> list[tuple[tuple[type, object], ...]]:
    """Cells with their types, and floats by their bits: -0.0 is not 0.0."""
    return [tuple((type(cell), cell.hex() if isinstance(cell, float) else cell) for cell in row) for row in rows]


@pytest.mark.parametrize("seed", range(45))
def test_any_table_is_read_as_sqlite_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    if seed % 2:  # many blocks and many runs of pages, whatever the size
        monkeypatch.setattr(source_module, "BLOCK_ROWS", 7)
        monkeypatch.setattr(source_module, "BLOCK_PAGES", 3)
    shape = random_shape(dice)
    path = random_file(tmp_path / "n.db", dice, shape)
    expected = read_by_sqlite(path)
    ids = [row[0] for row in expected if isinstance(row[0], int)]
    with closing(Source(path)) as source:
        facts = source.facts()
        assert (facts.rows, facts.first_id, facts.last_id) == (len(ids), min(ids, default=0), max(ids, default=0)), (
            shape
        )
        assert exact(list(read_by_pages(source))) == exact(expected), shape
        for _ in range(8):
            bounds = [LOWEST, HIGHEST, *ids, *(dice.choice(ids or [0]) + dice.randrange(-3, 4) for _ in range(4))]
            after, upto = (max(LOWEST, min(HIGHEST, dice.choice(bounds))) for _ in range(2))
            most = dice.choice([1, 2, 7, 8, 50, 10**9])
            wanted = [row for row in expected if isinstance(row[0], int) and after < row[0] <= upto][:most]
            assert exact(list(read_by_pages(source, after, upto, most))) == exact(wanted), (shape, after, upto, most)


def test_rows_of_several_pages_and_of_older_schemas_are_left_to_sqlite(tmp_path: Path) -> None:
    dice = random.Random(5)
    shape = Shape(512, 0, 60, "dense", 600, 0, 0.0, False, 2)
    path = random_file(tmp_path / "n.db", dice, shape)
    with closing(Source(path)) as source:
        placed = [int(kind) for block in source.blocks(0, 60, 60, RowBlock()) for kind in block.placed[: block.rows]]
    assert placed.count(ELSEWHERE) > 30


def test_a_key_that_is_not_the_row_id_is_refused(tmp_path: Path) -> None:
    names = ", ".join(COLUMNS[1:])
    for number, key in enumerate(["id INT PRIMARY KEY", "id INTEGER PRIMARY KEY DESC", "id TEXT PRIMARY KEY"]):
        for suffix in ("", " WITHOUT ROWID"):
            path = tmp_path / f"{number}{suffix}.db"
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(f"CREATE TABLE numeros ({key}, {names}){suffix}; {OTHERS}")
                connection.execute("INSERT INTO numeros (id, numero) VALUES (77, '5512345678')")
                connection.commit()
            with pytest.raises(InvalidInput, match="INTEGER PRIMARY KEY"):
                Source(path)


def test_while_it_is_open_nobody_changes_the_file(tmp_path: Path) -> None:
    path = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(50)])
    writer = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0); c.execute('DELETE FROM numeros'); c.commit()"
    )
    command = [sys.executable, "-c", writer, str(path)]  # a process of its own: locks do not hold within one
    with closing(Source(path)) as source:
        before = source.facts()
        list(read_by_pages(source))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "database is locked" in done.stderr
        assert source.facts() == before
    assert subprocess.run(command, check=False).returncode == 0


def test_a_file_that_is_being_written_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_connection, "LOCK_WAIT_S", 0.1)
    path = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(5)])
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked by another program"):
            Source(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO numeros (numero) VALUES ('5599999999')")
        with pytest.raises(Conflict, match="wal_checkpoint"):
            Source(path)
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with closing(Source(path)) as source:
        assert len(list(read_by_pages(source))) == 6


def multi_level(path: Path) -> tuple[bytearray, int]:
    """A file of 512-byte pages whose table is three levels deep, and its root page."""
    make_source(path, [{"numero": number} for number in numbers(900)], page_size=512)
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'numeros'").fetchone()[0]
    return bytearray(path.read_bytes()), root


def refused(path: Path, data: bytes | bytearray) -> str:
    """The refusal of a damaged file: by Source, or while its rows are read."""
    path.write_bytes(data)
    with pytest.raises(AppError) as found, closing(Source(path)) as source:
        list(read_by_pages(source))
    assert "\n" not in str(found.value)
    return str(found.value)


def test_pages_that_point_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    data, root = multi_level(path)
    at = (root - 1) * 512
    assert data[at] == 5
    children = int.from_bytes(data[at + 3 : at + 5], "big")
    for depth in range(1, children + 1):
        broken = bytearray(data)
        for cell in range(depth):
            pointer = at + int.from_bytes(data[at + 12 + 2 * cell : at + 14 + 2 * cell], "big")
            broken[pointer : pointer + 4] = root.to_bytes(4, "big")
        broken[at + 8 : at + 12] = root.to_bytes(4, "big")
        assert refused(path, broken)


def test_a_circle_is_noticed_by_the_page_reader_itself(tmp_path: Path) -> None:
    """SQLite's own check comes first in Source; what is behind it must not hang or grow without bound either."""
    path = tmp_path / "n.db"
    data, root = multi_level(path)
    at = (root - 1) * 512
    for cell in range(int.from_bytes(data[at + 3 : at + 5], "big")):
        pointer = at + int.from_bytes(data[at + 12 + 2 * cell : at + 14 + 2 * cell], "big")
        data[pointer : pointer + 4] = root.to_bytes(4, "big")
    data[at + 8 : at + 12] = root.to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="circle"):
        SqliteFile(path, root, source_connection.read_header(path))


def test_keys_of_pages_out_of_order_are_noticed(tmp_path: Path) -> None:
    """A wrong key in an inner page would make the reader begin at the wrong leaf, and rows would be missing."""
    path = tmp_path / "n.db"
    data, root = multi_level(path)
    at = (root - 1) * 512
    pointer = at + int.from_bytes(data[at + 12 : at + 14], "big")
    data[pointer + 4 : pointer + 6] = b"\x8f\x7f"  # the first key, far beyond the second
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="damaged"), closing(Source(path)) as source:
        list(read_by_pages(source))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "n.db"
    data, _ = multi_level(path)
    assert "corrupt" in refused(path, data[: int(len(data) * share)])
    whole_pages = data[: int(len(data) * share) // 512 * 512]
    whole_pages[28:32] = (len(whole_pages) // 512).to_bytes(4, "big")  # as if it had been written so
    refused(path, whole_pages)


def damage(dice: random.Random, data: bytearray, page_size: int) -> None:
    """Flip bytes where they hurt: headers of the file and of pages, cell pointers, records, anywhere."""
    for _ in range(dice.choice([1, 1, 2, 5, 30])):
        page = dice.randrange(len(data) // page_size) * page_size
        begin, length = dice.choice(
            [(0, 100), (page, 12), (page, 60), (page + page_size - 300, 300), (page, page_size)]
        )
        at = begin + dice.randrange(length)
        data[at] = dice.choice([data[at] ^ (1 << dice.randrange(8)), dice.randrange(256), 0xFF, 0x80, 0])


def normalised(source: Source, tables: Classification) -> int:
    """Take all rows through the kernels of the load; returns how many there were."""
    batch = Batch(LOWEST, HIGHEST)
    normaliser = Normaliser(source, tables, SeenNumbers(), run_id=1, id_offset=0)
    for block in source.blocks(-(2**62), 2**62, 10**6, RowBlock()):
        assert sum(len(piece) for piece in normaliser.process(block, batch)) < 10**9
    return batch.rows_read


def fuzz(directory: str, cases: int, first: int, *, normalise: bool) -> None:
    """Read damaged files one after the other: rows or an AppError each. Runs in a process of its own."""
    path = Path(directory) / "damaged.db"
    tables = Classification(packaged_plan(), place_tables()) if normalise else None
    originals = [Path(directory) / f"{number}.db" for number in range(4)]
    for case in range(first, first + cases):
        dice = random.Random(case)
        original = originals[case % len(originals)]
        data = bytearray(original.read_bytes())
        damage(dice, data, int.from_bytes(data[16:18], "big"))
        path.write_bytes(data)
        print(f"case {case}", end=" ", flush=True)
        try:
            with closing(Source(path)) as source:
                source.facts()
                rows = len(list(read_by_pages(source))) if tables is None else normalised(source, tables)
            print(f"read {rows}", flush=True)
        except AppError as error:
            print(error.code, str(error).count("\n"), flush=True)


@pytest.mark.parametrize("checked", [True, False], ids=["bounds checked", "as compiled"])
def test_damaged_files_are_read_or_refused_and_never_crash(tmp_path: Path, checked: bool) -> None:
    dice = random.Random(11)
    make_source(tmp_path / "0.db", [{"numero": number} for number in numbers(60)], page_size=512)
    make_source(tmp_path / "1.db", [{"numero": number} for number in numbers(120)], page_size=1024)
    random_file(tmp_path / "2.db", dice, Shape(1024, 0, 80, "gaps", 60, 0, 0.2, False, 2))
    random_file(tmp_path / "3.db", dice, Shape(4096, 0, 100, "negative", 100, 1, 0.0, False, 0))
    environment = dict(os.environ)
    if checked:
        environment |= {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    arguments = f"{str(tmp_path)!r}, {FUZZ_CASES}, {FUZZ_CASES * checked}, normalise={not checked}"
    code = f"from tests.test_ingest.test_page_reader import fuzz; fuzz({arguments})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (lines[-1:], done.stderr)
    assert len(lines) == FUZZ_CASES
    assert sum(" read " in line for line in lines) > FUZZ_CASES / 10
    assert sum("corrupt 0" in line for line in lines) > FUZZ_CASES / 10
    shutil.rmtree(tmp_path / "numba", ignore_errors=True)


def test_the_arrays_of_a_block_hold_what_the_kernels_write() -> None:
    """A position in a run of the widest pages must fit the type it is kept in."""
    block = RowBlock()
    widest = source_module.BLOCK_PAGES * 65536 * 5
    assert np.iinfo(block.start.dtype).max > widest
