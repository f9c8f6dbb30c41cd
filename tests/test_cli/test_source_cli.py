"""smsctl source, through real processes: what it prints, how it fails, and what it leaves behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-c", "from app.cli import main; main()", "source")
GENERATED = {"path", "bytes", "rows", "dirty_rows", "last_id", "table_seconds", "index_seconds", "seconds"}
INSPECTED = {"path", "file_bytes", "schema", "small_tables", "rows", "mapping", "estimate", "attention"}


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DATABASE_ADMIN_URL")}
    return kept | {"SMS_DATA_DIR": str(home / "var"), "COLUMNS": "140"}


def smsctl(home: Path, *arguments: str | bytes | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(home), capture_output=True, text=True, check=False, timeout=180
    )


def limited(home: Path, *arguments: str | Path, file_bytes: int) -> subprocess.CompletedProcess[str]:
    """The same where no file may grow beyond `file_bytes`: how a full disk looks to the program."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        preexec_fn=limit,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("source")
    path = home / "numeros.db"
    done = smsctl(home, "generate", path, "--rows", "3000", "--seed", "4", "--dirty", "0.1")
    assert done.returncode == 0, done.stderr
    assert "3,000 rows" in done.stdout
    return path


def test_generate_prints_one_object(tmp_path: Path) -> None:
    done = smsctl(tmp_path, "generate", tmp_path / "n.db", "--rows", "200", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made.keys() == GENERATED
    assert (made["rows"], made["bytes"]) == (200, (tmp_path / "n.db").stat().st_size)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.db"]


def test_generate_again_needs_force(source: Path) -> None:
    before = source.read_bytes()
    refused = smsctl(source.parent, "generate", source, "--rows", "3000", "--seed", "4", "--dirty", "0.1")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert len(refused.stderr.strip().splitlines()) <= 2
    assert "--force" in refused.stderr
    assert source.read_bytes() == before
    forced = smsctl(source.parent, "generate", source, "--rows", "3000", "--seed", "4", "--dirty", "0.1", "--force")
    assert forced.returncode == 0


@pytest.mark.parametrize("arguments", [("--rows", "0"), ("--rows", "-3"), ("--rows", "many"), ("--dirty", "2")])
def test_generate_refuses_what_it_cannot_do(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = smsctl(tmp_path, "generate", tmp_path / "n.db", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    done = limited(tmp_path, "generate", tmp_path / "n.db", "--rows", "50000", file_bytes=2_000_000)
    assert (done.returncode, done.stdout) == (6, "")
    assert "disk_full" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kill
@pytest.mark.parametrize("megabytes", [1, 300])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, megabytes: int) -> None:
    """Ctrl-C while rows are written (1 MB is there), and while indexes are built (after the table's 300 MB)."""
    partial = tmp_path / "n.db.partial"
    arguments = ("generate", tmp_path / "n.db", "--rows", "1500000")
    with subprocess.Popen([*COMMAND, *arguments], env=environment(tmp_path), stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (partial.exists() and partial.stat().st_size >= megabytes << 20):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_inspect_prints_one_object(source: Path) -> None:
    before = source.read_bytes()
    done = smsctl(source.parent, "inspect", source, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= INSPECTED
    assert found["rows"]["rows"] == 3_000
    assert {column["column"] for column in found["rows"]["columns"]} >= {"numero", "campo3", "fecha_migracion"}
    assert source.read_bytes() == before
    assert sorted(entry.name for entry in source.parent.iterdir()) == ["numeros.db"]


def test_inspect_for_a_person_tells_the_whole_story(source: Path) -> None:
    done = smsctl(source.parent, "inspect", source)
    assert done.returncode == 0, done.stderr
    for expected in (
        "3,000 rows", "exactly as expected", "phone_national", "municipio_sep", "dddddddddd", "DISTRITO FEDERAL",
        "330,000 rows/s", "Needs attention", "smsctl migrate run",
    ):  # fmt: skip
        assert expected in done.stdout
    assert "\x1b" not in done.stdout


def test_inspect_of_another_schema_shows_it_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE numeros (id INTEGER PRIMARY KEY, telefono TEXT)")
    done = smsctl(tmp_path, "inspect", path)
    assert done.returncode == 2
    assert "telefono" in done.stdout
    assert "numeros.numero is missing" in done.stdout
    assert "source_schema" in done.stderr


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(None, 3, "source_not_found"), (b"", 2, "not a SQLite"), (b"x" * 5_000, 2, "not a SQLite")],
)
def test_inspect_of_what_is_no_database(tmp_path: Path, content: bytes | None, code: int, said: str) -> None:
    path = tmp_path / "n.db"
    if content is not None:
        path.write_bytes(content)
    done = smsctl(tmp_path, "inspect", path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())


def test_inspect_takes_a_path_that_is_not_utf8(source: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/n\xff?#%.db"
    Path(os.fsdecode(odd)).write_bytes(source.read_bytes())
    for extra in ((), ("--json",)):
        done = smsctl(tmp_path, "inspect", odd, *extra)
        assert done.returncode == 0, done.stderr
        assert "\\xff" in done.stdout
