"""The synthetic numeros.db: exact schema, the same rows from the same seed, sound to SQLite, and dirty as asked."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import AppError, Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from app.core.plan_store import packaged_plan
from app.ingest.source_schema import INDEXES, TABLES
from app.ingest.synthetic import GeneratedFile, SyntheticOptions, generate, writer
from app.ingest.synthetic.pages import LOCK_PAGE, PAGE, Batch, TableWriter
from app.ingest.synthetic.records import Cell, RawText, encode
from app.utils.numbering_plan import MOBILE
from app.utils.phone_utils import normalize


def make(path: Path, rows: int, *, seed: int = 5, dirty: float = 0.2, keep: bool = False) -> GeneratedFile:
    options = SyntheticOptions(rows=rows, seed=seed, dirty=dirty, keep_storage_classes=keep)
    return generate(path, options, packaged_plan())


def content_hash(path: Path) -> str:
    """Over every cell of the three tables, with its storage class and raw bytes."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda data: b"text:" + data
        for table in ("numeros", "estadisticas_migracion", "ladas_faltantes"):
            for row in connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid"):
                digest.update(repr(row).encode())
    return digest.hexdigest()


def rows_of(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return connection.execute(statement).fetchall()


@pytest.fixture(scope="module")
def filthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 rows, all of them dirty."""
    path = tmp_path_factory.mktemp("filthy") / "numeros.db"
    make(path, 4_000, dirty=1.0)
    return path


def test_schema_is_the_real_one_to_the_letter(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 10)
    statements = rows_of(tmp_path / "n.db", "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    found = {text.decode() for (text,) in statements if isinstance(text, bytes)}
    assert found - {"CREATE TABLE sqlite_sequence(name,seq)"} == {*TABLES, *INDEXES}


def test_same_options_give_the_same_rows_and_other_seeds_do_not(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make(tmp_path / name, 3_000, seed=seed)
        hashes.append(content_hash(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def test_rows_are_those_of_every_machine(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 500, seed=11)
    assert content_hash(tmp_path / "n.db") == PINNED, "if the generator was changed on purpose, pin the new hash"


def test_rows_do_not_depend_on_how_the_work_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a", 3_000)
    monkeypatch.setattr(writer, "CHUNK", 77)
    make(tmp_path / "b", 3_000)
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


@pytest.mark.parametrize(("rows", "dirty"), [(1, 0.0), (2, 1.0), (13, 0.5), (14, 0.0), (4_100, 0.0), (9_000, 1.0)])
def test_sqlite_finds_the_file_sound(tmp_path: Path, rows: int, dirty: float) -> None:
    made = make(tmp_path / "n.db", rows, dirty=dirty)
    assert rows_of(tmp_path / "n.db", "PRAGMA integrity_check") == [(b"ok",)]
    assert rows_of(tmp_path / "n.db", "SELECT count(*), max(id) FROM numeros") == [(rows, made.last_id)]
    assert rows_of(tmp_path / "n.db", "SELECT seq FROM sqlite_sequence WHERE name = 'numeros'") == [(made.last_id,)]
    assert rows_of(tmp_path / "n.db", "PRAGMA page_count") == [(made.bytes // PAGE,)]


def test_the_page_that_sqlite_locks_stays_empty() -> None:
    record = encode(["x" * 9_000], with_affinity=True)
    records = np.frombuffer(record * 6, np.uint8)
    starts = np.arange(6, dtype=np.int64) * len(record)
    table = TableWriter(LOCK_PAGE - 3)
    pages = bytes(table.add(Batch(records, starts, starts + len(record), np.arange(1, 7, dtype=np.int64))))
    rest, root = table.finish()
    written = pages + rest
    assert written[3 * PAGE : 4 * PAGE] == bytes(PAGE)
    assert len(written) // PAGE == table.page_count - (LOCK_PAGE - 4)
    assert LOCK_PAGE.to_bytes(4, "big") not in {written[at : at + 4] for at in range(0, len(written), PAGE)}
    assert root[0] == 5


def test_large_files_have_gaps_in_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GAPS_FROM", 1_000)
    monkeypatch.setattr(writer, "GAP_EVERY", 100)
    made = make(tmp_path / "n.db", 2_000, dirty=0.0)
    assert made.last_id > 2_000
    assert rows_of(tmp_path / "n.db", "PRAGMA integrity_check") == [(b"ok",)]


def test_clean_rows_hold_assigned_numbers_mostly_mobile(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 20_000, dirty=0.0)
    plan = packaged_plan()
    numbers = np.array([int(row[0]) for row in rows_of(tmp_path / "n.db", "SELECT numero FROM numeros")], np.int64)  # type: ignore[call-overload]
    ranges = plan.classify(numbers)
    assert len(np.unique(numbers)) == 20_000
    assert (ranges >= 0).all()
    assert 0.83 < (plan.line_type[ranges] == MOBILE).mean() < 0.87
    assert len(np.unique(plan.operator[ranges])) > 10


def test_clean_rows_look_like_the_real_file(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    make(path, 20_000, dirty=0.0)
    ((name, address),) = rows_of(path, "SELECT avg(length(nombre)), avg(length(direccion)) FROM numeros")
    assert 24 < float(name) < 30  # type: ignore[arg-type]
    assert 33 < float(address) < 42  # type: ignore[arg-type]
    assert rows_of(path, "SELECT count(DISTINCT estado_cof) FROM numeros") == [(96,)]
    assert rows_of(path, "SELECT count(*) > 5000 FROM numeros WHERE estado_cof IS NULL") == [(1,)]
    wrong = rows_of(
        path, "SELECT count(*) FROM numeros WHERE lada IN ('551', '552', '553') AND ciudad_por_lada IS NULL"
    )
    assert int(wrong[0][0]) > 100  # type: ignore[call-overload]
    bad_dates = "SELECT count(*) FROM numeros WHERE datetime(fecha_migracion) IS NOT fecha_migracion"
    assert rows_of(path, bad_dates) == [(0,)]
    assert rows_of(path, "SELECT count(DISTINCT date(fecha_migracion)) FROM numeros") == [(6,)]


def test_small_tables_are_as_the_real_program_left_them(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 36_000, dirty=0.0)
    ((kind, cell, valid, missing),) = rows_of(
        tmp_path / "n.db",
        "SELECT typeof(total_con_ciudad), total_con_ciudad, total_validos, ladas_faltantes FROM estadisticas_migracion",
    )
    assert (kind, valid, missing) == (b"blob", 36_000, 186)
    assert isinstance(cell, bytes)
    with_city = rows_of(tmp_path / "n.db", "SELECT count(ciudad_por_lada) FROM numeros")
    assert [(int.from_bytes(cell, "little"),)] == with_city
    assert rows_of(tmp_path / "n.db", "SELECT count(*) FROM ladas_faltantes") == [(186,)]


def test_every_kind_of_dirt_is_there(filthy: Path) -> None:
    reasons = set()
    for number, kind in rows_of(filthy, "SELECT numero, typeof(numero) FROM numeros"):
        assert isinstance(number, bytes)
        reasons.add("blob" if kind == b"blob" else normalize(number.decode()).reason)
    assert reasons == {None, "blob", "empty", "not_a_number", "too_short", "too_long", "invalid", "foreign"}
    cells = [cell for row in rows_of(filthy, "SELECT * FROM numeros") for cell in row if isinstance(cell, bytes)]
    joined = b"\xff".join(cells)
    for sign in (b"\0", b"\t", b"\n", b"\\", "\u200b".encode(), "Ñ".encode("cp1252"), "😀".encode()):
        assert sign in joined
    assert max(map(len, cells)) > 70_000
    for column, kinds in (
        ("es_valido", {b"text", b"real", b"blob", b"null"}),
        ("fecha_migracion", {b"integer", b"real"}),
    ):
        assert {row[0] for row in rows_of(filthy, f"SELECT DISTINCT typeof({column}) FROM numeros")} >= kinds


def test_collisions_stand_before_and_after_their_number(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 5_000, dirty=0.3)
    first: dict[str, tuple[int, bool]] = {}
    orders = set()
    for row_id, number in rows_of(tmp_path / "n.db", "SELECT id, numero FROM numeros WHERE typeof(numero) = 'text'"):
        assert isinstance(row_id, int)
        assert isinstance(number, bytes)
        e164 = normalize(number.decode()).e164
        is_plain = len(number) == 10 and number.isdigit()
        if e164 in first:
            orders.add((first[e164][1], is_plain))
        elif e164:
            first[e164] = (row_id, is_plain)
    assert orders >= {(True, False), (False, True)}


def test_share_of_dirt_is_what_was_asked(tmp_path: Path) -> None:
    assert make(tmp_path / "a", 3_000, dirty=0.0).dirty_rows == 0
    assert 500 < make(tmp_path / "b", 3_000, dirty=0.2).dirty_rows < 700
    assert make(tmp_path / "c", 3_000, dirty=1.0).dirty_rows == 3_000


def test_storage_classes_can_be_kept_where_text_belongs(tmp_path: Path) -> None:
    make(tmp_path / "n.db", 4_000, dirty=1.0, keep=True)
    kinds = {row[0] for row in rows_of(tmp_path / "n.db", "SELECT DISTINCT typeof(direccion) FROM numeros")}
    assert kinds == {b"null", b"text", b"blob", b"integer", b"real"}


CELLS = st.lists(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5_000),
    min_size=1,
)


@given(CELLS)
@settings(max_examples=150, deadline=None)
def test_records_are_read_by_sqlite_as_they_were_written(cells: list[Cell]) -> None:
    record = encode(list(cells), with_affinity=False)
    batch = Batch(np.frombuffer(record, np.uint8), np.array([0]), np.array([len(record)]), np.array([7]))
    table = TableWriter(3)
    pages = bytes(table.add(batch))
    rest, root = table.finish()
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY, {', '.join(f'c{index}' for index in range(len(cells)))})"
        )
        head = bytearray(empty.serialize()[:PAGE])
    head[28:32] = table.page_count.to_bytes(4, "big")
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(bytes(head) + root + pages + rest)
        assert copy.execute("SELECT * FROM t").fetchall() == [(7, *cells)]
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_raw_text_stays_text() -> None:
    assert encode([RawText(b"\xff")], with_affinity=True) == bytes([3, 0, 15, 0xFF])


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    path.write_bytes(b"precious")
    with pytest.raises(Conflict, match="--force"):
        make(path, 5)
    assert path.read_bytes() == b"precious"
    (tmp_path / "n.db-wal").write_bytes(b"of the old file")
    generate(path, SyntheticOptions(rows=5), packaged_plan(), force=True)
    assert rows_of(path, "SELECT count(*) FROM numeros") == [(5,)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.db"]


@pytest.mark.parametrize(
    ("name", "rows", "dirty", "error"),
    [
        ("n.db", 0, 0.1, InvalidInput),
        ("n.db", 10**9, 0.1, InvalidInput),
        ("n.db", 5, 1.5, InvalidInput),
        ("n.db", 5, float("nan"), InvalidInput),
        ("absent/n.db", 5, 0.1, NotFound),
        ("", 5, 0.1, InvalidInput),
        ("x" * 300, 5, 0.1, InvalidInput),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, name: str, rows: int, dirty: float, error: type[AppError]
) -> None:
    with pytest.raises(error) as caught:
        make(tmp_path / name, rows, dirty=dirty)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_refused() -> None:
    with pytest.raises((Forbidden, Unavailable, NotFound)):
        make(Path("/proc/numeros.db"), 5)


def test_too_little_space_is_seen_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10_000))
    with pytest.raises(Unavailable, match="GB free"):
        make(tmp_path / "n.db", 1_000)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    with (tmp_path / "n.db.partial").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another run"):
            make(tmp_path / "n.db", 5)
    assert (tmp_path / "n.db.partial").exists()


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "n.db.partial").write_bytes(b"x" * 100_000)
    make(tmp_path / "n.db", 5)
    assert rows_of(tmp_path / "n.db", "PRAGMA integrity_check") == [(b"ok",)]


PINNED = "bd75fdb4817549328168f275f69fa1b45d093b000f781612f067c4d9d9357578"
