"""What a stranger with bad intentions found in the migration, each as it was found."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.core.database import connect
from app.ingest.source import Source
from tests.kill_support import ask, environment, run
from tests.sources import make_source, numbers

PAGE = 4096
LEAF = 0x0D


def source_of(path: Path, rows: int = 300) -> Path:
    return make_source(path, [{"numero": number} for number in numbers(rows)])


def with_a_row_less(path: Path) -> Path:
    """The table loses a row that the index of numero still has: what a torn write leaves."""
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'numeros'").fetchone()[0]
    data = bytearray(path.read_bytes())
    at = (root - 1) * PAGE
    while data[at] != LEAF:  # down the leftmost branch of the table
        pointer = int.from_bytes(data[at + 12 : at + 14], "big")
        at = (int.from_bytes(data[at + pointer : at + pointer + 4], "big") - 1) * PAGE
    cells = int.from_bytes(data[at + 3 : at + 5], "big")
    data[at + 3 : at + 5] = (cells - 1).to_bytes(2, "big")
    path.write_bytes(data)
    return path


def test_source_whose_table_lacks_rows_is_corrupt_and_not_waited_for(tmp_path: Path, database_url: str) -> None:
    source = with_a_row_less(source_of(tmp_path / "numeros.db"))
    done = run(
        tmp_path, ["migrate", "run", str(source), "--json"], environment(tmp_path / "var", DATABASE_URL=database_url)
    )
    assert done.process.returncode != 0
    assert "(source_corrupt)" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_commit_of_a_writer_in_wal_mode_is_a_change(tmp_path: Path) -> None:
    """A reader's lock keeps no writer out there, and the file itself stays as it was."""
    path = source_of(tmp_path / "numeros.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    with closing(Source(path)) as source, closing(sqlite3.connect(path)) as writer:
        facts = source.facts()
        assert source.is_unchanged(facts)
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE numeros SET nombre = 'SOMEBODY ELSE' WHERE id = 7")
        writer.commit()
        assert not source.is_unchanged(facts)


def test_inspect_of_a_source_that_cannot_be_moved_fails(tmp_path: Path) -> None:
    source = source_of(tmp_path / "numeros.db")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("DROP TABLE ladas_faltantes")
    done = run(tmp_path, ["source", "inspect", str(source)], environment(tmp_path / "var"))
    assert done.process.returncode == 2
    assert "(source_schema)" in done.stderr


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_date_beyond_the_calendar_in_a_small_table_is_null(tmp_path: Path, database_url: str, moment: str) -> None:
    source = source_of(tmp_path / "numeros.db")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute(
            "INSERT INTO estadisticas_migracion (fecha_migracion, tiempo_procesamiento_segundos) VALUES (?, ?)",
            (moment, float("inf")),
        )
    env = environment(tmp_path / "var", DATABASE_URL=database_url)
    done = run(tmp_path, ["migrate", "run", str(source), "--json"], env)
    assert done.process.returncode == 0, done.stderr
    query = "SELECT count(*) FROM source_statistics WHERE recorded_at IS NULL AND processing_seconds IS NULL"
    assert ask(database_url, query) == 1
    report = run(tmp_path, ["migrate", "report"], env)
    assert report.process.returncode == 0, report.stderr


def test_run_whose_contacts_opted_out_is_not_undone(tmp_path: Path, database_url: str) -> None:
    env = environment(tmp_path / "var", DATABASE_URL=database_url)
    assert run(tmp_path, ["migrate", "run", str(source_of(tmp_path / "numeros.db"))], env).process.returncode == 0
    with connect(database_url, autocommit=True) as session:
        session.execute("UPDATE contacts SET opt_out_at = now() WHERE source_id = 12")
    undone = run(tmp_path, ["migrate", "rollback", "--json"], env)
    assert undone.process.returncode == 4
    assert "(run_in_use)" in undone.stderr
    assert ask(database_url, "SELECT count(*) FROM contacts") == 300


def test_database_with_a_table_of_others_is_left_as_it_was(tmp_path: Path, empty_database_url: str) -> None:
    with connect(empty_database_url, autocommit=True) as session:
        session.execute("CREATE TABLE campaigns (x int)")
    done = run(tmp_path, ["db", "upgrade"], environment(tmp_path / "var", DATABASE_URL=empty_database_url))
    assert done.process.returncode == 4
    assert "(schema_taken)" in done.stderr
    assert ask(empty_database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1


@pytest.mark.parametrize("url", ["postgresql://u:SECRETPW@[::1/x", "postgresql://u:SECRETPW%ZZ@localhost/x"])
def test_a_url_that_cannot_be_read_is_not_quoted(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, ["migrate", "status"], environment(tmp_path / "var", DATABASE_URL=url))
    assert done.process.returncode == 2
    assert "(database_url)" in done.stderr
    assert "SECRETPW" not in done.stderr


@pytest.mark.parametrize(("name", "value"), [("SMS_MIGRATION__STREAMS", "99"), ("SMS_LOG__LEVEL", "x")])
def test_a_setting_that_cannot_be_used_is_one_line(tmp_path: Path, name: str, value: str) -> None:
    done = run(tmp_path, ["numbering", "lookup", "5512345678"], environment(tmp_path / "var", **{name: value}))
    assert done.process.returncode == 2
    assert done.stderr.count("\n") == 1
    assert name.removeprefix("SMS_") in done.stderr


def test_settings_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    odd = tmp_path / "odd.env"
    odd.write_bytes(b"\xff\xfe\x00\x81")
    done = run(tmp_path, ["numbering", "lookup", "1"], environment(tmp_path / "var", SMS_ENV_FILE=str(odd)))
    assert done.process.returncode == 2
    assert "Traceback" not in done.stderr


def test_report_replaces_no_device_and_no_link(tmp_path: Path, database_url: str) -> None:
    env = environment(tmp_path / "var", DATABASE_URL=database_url)
    assert run(tmp_path, ["migrate", "run", str(source_of(tmp_path / "numeros.db"))], env).process.returncode == 0
    link, real, pipe = tmp_path / "link.md", tmp_path / "real.md", tmp_path / "pipe"
    link.symlink_to(real)
    os.mkfifo(pipe)
    assert run(tmp_path, ["migrate", "report", "--output", str(link)], env).process.returncode == 0
    assert link.is_symlink()
    assert real.read_text().startswith("# Migration report")
    refused = run(tmp_path, ["migrate", "report", "--output", str(pipe)], env)
    assert refused.process.returncode == 5
    assert pipe.is_fifo()
