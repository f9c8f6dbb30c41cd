"""Opening a source: whatever the path or the state of the file, it is read as it is or refused in one line."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.core.errors import AppError, Conflict, InvalidInput, NotFound, Unavailable
from app.ingest import source_connection
from app.ingest.source_connection import open_source, read_header


def make(path: Path, *, journal: str = "DELETE", rows: int = 50) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE numeros (id INTEGER PRIMARY KEY, numero TEXT)")
        connection.executemany("INSERT INTO numeros (numero) VALUES (?)", [(f"{k:>400}",) for k in range(rows)])
        connection.commit()
    return path


def count(path: Path) -> int:
    with closing(open_source(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM numeros").fetchone()[0])


@pytest.mark.parametrize(
    "name",
    [
        b"a b.db",
        b"a?b=1&mode=rwc.db",
        b"a#b.db",
        b"100%.db",
        b"%41.db",
        b"n\xff\xfe.db",
        "ñ😀'\".db".encode(),
        b"a\nb.db",
    ],
)
def test_any_path_is_opened(tmp_path: Path, name: bytes) -> None:
    assert count(make(tmp_path / os.fsdecode(name))) == 50


def test_a_relative_path_and_one_with_two_slashes_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "n.db")
    monkeypatch.chdir(tmp_path)
    assert count(Path("n.db")) == 50
    assert count(Path(f"/{tmp_path}/n.db")) == 50


def test_text_comes_as_bytes_and_nothing_can_be_written(tmp_path: Path) -> None:
    with closing(open_source(make(tmp_path / "n.db"))) as connection:
        assert isinstance(connection.execute("SELECT numero FROM numeros").fetchone()[0], bytes)
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("DELETE FROM numeros")


def test_a_wal_database_is_read_without_side_files(tmp_path: Path) -> None:
    path = make(tmp_path / "n.db", journal="WAL")
    before = path.read_bytes()
    assert read_header(path).is_wal
    assert count(path) == 50
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.db"]
    assert path.read_bytes() == before


def test_changes_that_wait_in_the_wal_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "n.db", journal="WAL")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("DELETE FROM numeros WHERE id = 1")
        writer.commit()
        with pytest.raises(Conflict, match="wal_checkpoint"):
            open_source(path)


def test_a_hot_journal_is_refused_and_a_spent_one_is_not(tmp_path: Path) -> None:
    path = make(tmp_path / "n.db")
    journal = tmp_path / "n.db-journal"
    journal.write_bytes(bytes(512))
    assert count(path) == 50
    journal.write_bytes(source_connection.JOURNAL_MAGIC + bytes(504))
    with pytest.raises(Conflict, match="journal"):
        open_source(path)


def test_a_locked_file_is_said_to_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_connection, "LOCK_WAIT_S", 0.05)
    path = make(tmp_path / "n.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            open_source(path)


def _no_file(_path: Path) -> None:
    """Nothing is made."""


def _directory(path: Path) -> None:
    path.mkdir()


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("id,numero\n" * 100)


def _cut(path: Path) -> None:
    make(path, rows=500)
    os.truncate(path, 50_000)


def _broken_schema(path: Path) -> None:
    make(path)
    data = bytearray(path.read_bytes())
    data[100:1000] = b"\x55" * 900
    path.write_bytes(data)


def _page_size(path: Path) -> None:
    make(path)
    data = bytearray(path.read_bytes())
    data[16:18] = b"\x00\x03"
    path.write_bytes(data)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "error", "code"),
    [
        (_no_file, NotFound, "source_not_found"),
        (_directory, InvalidInput, "source_not_a_file"),
        (_pipe, InvalidInput, "source_not_a_file"),
        (_empty, InvalidInput, "source_not_sqlite"),
        (_text, InvalidInput, "source_not_sqlite"),
        (_cut, InvalidInput, "source_corrupt"),
        (_broken_schema, InvalidInput, "source_corrupt"),
        (_page_size, InvalidInput, "source_corrupt"),
    ],
)
def test_what_is_no_sound_database_is_refused_in_one_line(
    tmp_path: Path, spoil: object, error: type[AppError], code: str
) -> None:
    path = tmp_path / "n.db"
    assert callable(spoil)
    spoil(path)
    with pytest.raises(error) as caught:
        open_source(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_a_path_through_a_file_and_one_too_long_are_answered(tmp_path: Path) -> None:
    path = make(tmp_path / "n.db")
    with pytest.raises(NotFound):
        open_source(path / "inside.db")
    with pytest.raises(AppError):
        open_source(tmp_path / ("x" * 300))


def test_header_says_encoding_and_pages(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "n.db")) as connection:
        connection.execute("PRAGMA page_size = 65536")
        connection.execute("PRAGMA encoding = 'UTF-16be'")
        connection.execute("CREATE TABLE numeros (id INTEGER PRIMARY KEY)")
    header = read_header(tmp_path / "n.db")
    assert (header.page_size, header.encoding, header.is_wal) == (65_536, "UTF-16be", False)
    assert header.page_count * header.page_size == (tmp_path / "n.db").stat().st_size
