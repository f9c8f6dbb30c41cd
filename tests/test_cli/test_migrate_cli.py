"""smsctl migrate, through real processes: what it prints where, and how it fails."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from app.core.database import connect
from tests.conftest import fresh_database
from tests.kill_support import Command, ask, environment, run
from tests.sources import make_source, numbers

KEYS = [
    "run_id", "status", "source_rows", "loaded", "duplicates", "rejected", "rejected_by_reason", "statistics_rows",
    "missing_ladas_rows", "seconds", "rows_per_second", "index_seconds", "peak_rss_mb", "fingerprint",
]  # fmt: skip
UNUSED_PORT = "postgresql://nobody:secret-word@127.0.0.1:1/nowhere"


def whole_source(path: Path) -> Path:
    rows = [{"numero": number} for number in numbers(1500)]
    return make_source(path, [*rows, {"numero": "044 5510000000"}, {"numero": "x"}, {"numero": "+1 212 555 2368"}])


def with_part(url: str, **parts: str) -> str:
    """`url` with another user, password or path."""
    split = urlsplit(url)
    user, password = parts.get("user", split.username), parts.get("password", split.password)
    address = split.netloc.rpartition("@")[2]
    return urlunsplit(split._replace(netloc=f"{user}:{password}@{address}", path=parts.get("path", split.path)))


def test_a_run_prints_one_object_and_tells_its_progress_elsewhere(tmp_path: Path, database_url: str) -> None:
    source, env = whole_source(tmp_path / "numeros.db"), environment(tmp_path / "var", DATABASE_URL=database_url)
    before = (source.read_bytes(), source.stat().st_mtime_ns)
    limited = run(tmp_path, ["migrate", "run", str(source), "--batch-size", "400", "--limit", "800", "--json"], env)
    assert limited.process.returncode == 0, limited.stderr
    assert (limited.result["status"], limited.result["source_rows"]) == ("limited", 800)
    state = run(tmp_path, ["migrate", "status", "--json"], env).result
    assert (state["status"], state["source_rows"], state["total_rows"], state["is_live"]) == (
        "limited",
        800,
        1503,
        False,
    )
    done = run(tmp_path, ["migrate", "run", str(source), "--json"], env)
    assert done.process.returncode == 0, done.stderr
    result = done.result
    assert list(result) == list(limited.result) == KEYS
    assert done.stdout.count("\n") == 1
    assert (result["status"], result["source_rows"], result["run_id"]) == ("completed", 1503, limited.result["run_id"])
    assert (result["loaded"], result["duplicates"], result["rejected"]) == (1500, 1, 2)
    assert result["rejected_by_reason"] == {"foreign": 1, "not_a_number": 1}
    assert (result["statistics_rows"], result["missing_ladas_rows"]) == (1, 1)
    assert result["rows_per_second"] > 0
    assert result["seconds"] > result["index_seconds"] > 0
    assert result["peak_rss_mb"] > 10
    assert int(result["fingerprint"], 16) > 0
    assert "Loading" in done.stderr
    assert "Traceback" not in done.stderr
    again = run(tmp_path, ["migrate", "run", str(source), "--json"], env)
    assert (again.process.returncode, again.result) == (0, result)
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    for_people = run(tmp_path, ["migrate", "run", str(source)], env)
    assert for_people.process.returncode == 0
    assert "Run 1 completed. Done: the ledger balances." in for_people.stdout
    log = [json.loads(line) for line in (tmp_path / "var" / "logs" / "migrate.jsonl").read_text().splitlines()]
    assert sum(line["rows_read"] for line in log if line["event"] == "batch") == 1503
    assert sorted(line["reason"] for line in log if line["event"] == "row") == ["duplicate", "foreign", "not_a_number"]


def test_undone_it_says_so_once_and_then_that_it_was(tmp_path: Path, database_url: str) -> None:
    source, env = whole_source(tmp_path / "numeros.db"), environment(tmp_path / "var", DATABASE_URL=database_url)
    assert run(tmp_path, ["migrate", "run", str(source), "--json"], env).process.returncode == 0
    undone = run(tmp_path, ["migrate", "rollback", "--json"], env)
    assert undone.process.returncode == 0, undone.stderr
    result = undone.result
    assert (result["run_id"], result["status"], result["contacts_removed"], result["remaining"]) == (
        1,
        "rolled_back",
        1500,
        0,
    )
    assert result["others_before"] == result["others_after"]
    refused = run(tmp_path, ["migrate", "rollback", "--json"], env)
    assert (refused.process.returncode, refused.stdout) == (4, "")
    assert "rolled back already" in refused.stderr
    assert run(tmp_path, ["migrate", "status", "--json"], env).result["status"] == "rolled_back"


def test_a_directory_that_cannot_be_written_costs_only_the_detailed_log(tmp_path: Path, database_url: str) -> None:
    source = whole_source(tmp_path / "numeros.db")
    done = run(
        tmp_path, ["migrate", "run", str(source), "--json"], environment(Path("/proc/none"), DATABASE_URL=database_url)
    )
    assert done.process.returncode == 0, done.stderr
    assert done.result["loaded"] == 1500
    assert "no detailed log" in done.stderr


def _odd_files(home: Path) -> dict[str, Path]:
    """Paths that are no numeros.db, by what is wrong with them."""
    found = {"missing": home / "nowhere.db", "directory": home, "text": home / "text.db", "empty": home / "empty.db",
             "two lines": home / "a\nb.db", "no column": home / "column.db", "cut": home / "cut.db", "whole": home / "whole.db",
             "odd name": home / os.fsdecode(b"\xff\xfe.db")}  # fmt: skip
    found["text"].write_text("id,numero\n1,5512345678\n" * 100)
    found["empty"].write_bytes(b"")
    whole_source(found["whole"])
    for name, statement in (
        ("two lines", "DROP TABLE ladas_faltantes"),
        ("no column", "ALTER TABLE numeros DROP COLUMN campo3"),
    ):
        whole_source(found[name])
        with closing(sqlite3.connect(found[name])) as connection:
            connection.execute(statement)
            connection.commit()
    found["cut"].write_bytes(found["whole"].read_bytes()[:50_000])
    found["odd name"].write_bytes(found["whole"].read_bytes())
    return found


CASES: dict[str, tuple[list[str], int, str]] = {
    # what is done: arguments ({x} a file, or a URL), exit code, words of the one line
    "missing file": (["run", "{missing}"], 3, "There is no file"),
    "directory": (["run", "{directory}"], 2, "is a directory"),
    "not sqlite": (["run", "{text}"], 2, "is not a SQLite 3 database"),
    "empty file": (["run", "{empty}"], 2, "is empty"),
    "missing table, and a name of two lines": (["run", "{two lines}"], 2, "has no table ladas_faltantes"),
    "missing column": (["run", "{no column}"], 2, "lacks campo3"),
    "cut short": (["run", "{cut}"], 2, "is cut short"),
    "a name that is not UTF-8": (["run", "{odd name}"], 2, "rename"),
    "refused port": (["run", "{whole}", "--database-url", UNUSED_PORT], 6, "refused"),
    "not a PostgreSQL URL": (["run", "{whole}", "--database-url", "mysql://a@b/c"], 2, "must look like postgresql://"),
    "no URL at all": (["run", "{whole}", "--database-url", "here"], 2, "must look like postgresql://"),
    "wrong password": (["run", "{whole}", "--database-url", "{wrong password}"], 6, "password authentication failed"),
    "no such database": (["run", "{whole}", "--database-url", "{no database}"], 6, "does not exist"),
    "backups without a place": (["run", "{whole}", "--backup-every", "10"], 2, "needs --backup-dir"),
    "no run yet": (["status", "--json"], 3, "No migration was run yet"),
    "no such run": (["rollback", "--run", "99", "--json"], 3, "There is no migration run 99"),
    "nothing to validate": (["validate", "--json"], 3, "No migration was run yet"),
    "nothing to report": (["report", "--json"], 3, "No migration was run yet"),
    "status without a schema": (["status", "--json", "--database-url", "{no schema}"], 4, "smsctl db upgrade"),
    "a database of others": (["run", "{whole}", "--database-url", "{taken}"], 4, "give it an empty one"),
    "rollback without a schema": (["rollback", "--database-url", "{no schema}"], 4, "smsctl db upgrade"),
}
USAGE: dict[str, list[str]] = {
    "limit of none": ["run", "{whole}", "--limit", "0"],
    "batch of none": ["run", "{whole}", "--batch-size", "0"],
    "negative backups": ["run", "{whole}", "--backup-every", "-1"],
    "no path": ["run"],
    "no such command": ["walk"],
}


@pytest.fixture(scope="module")
def taken_url(server_url: str) -> Iterator[str]:
    """A database with a table of somebody else's, of a name that is also ours."""
    with fresh_database(server_url, "template0") as url:
        with closing(connect(url, autocommit=True)) as session:
            session.execute("CREATE TABLE contacts (name text)")
        yield url


@pytest.fixture(scope="module")
def failures(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, module_empty_url: str, taken_url: str
) -> dict[str, Command]:
    """All failing commands, two at a time."""
    home = tmp_path_factory.mktemp("failures")
    words = {name: str(path) for name, path in _odd_files(home).items()} | {
        "wrong password": with_part(module_database_url, password="secret-word"),
        "no database": with_part(module_database_url, path="/sms_is_not_there"), "no schema": module_empty_url,
        "taken": taken_url,
    }  # fmt: skip
    env = environment(home / "var", DATABASE_URL=module_database_url)

    def fail(case: tuple[str, list[str]]) -> tuple[str, Command]:
        name, arguments = case
        scratch = home / name.replace(" ", "-").replace(",", "")
        scratch.mkdir()
        return name, run(scratch, ["migrate", *(word.format_map(words) for word in arguments)], env)

    with ThreadPoolExecutor(2) as pool:
        ended = dict(pool.map(fail, [*((name, case[0]) for name, case in CASES.items()), *USAGE.items()]))
    assert ask(module_database_url, "SELECT count(*) FROM migration_runs") == 0, "something half-done"
    return ended


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_done_is_said_in_one_line(failures: dict[str, Command], name: str) -> None:
    command, (_, code, words) = failures[name], CASES[name]
    lines = [
        line for line in command.stderr.splitlines() if not line.startswith("{") and "Hashing the source" not in line
    ]
    assert command.process.returncode == code, command.stderr
    assert len(lines) == 1, command.stderr
    assert lines[0].startswith("error (")
    assert words in lines[0]
    assert command.stdout == ""
    assert "secret-word" not in command.stderr


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_call_is_answered_with_the_usage(failures: dict[str, Command], name: str) -> None:
    command = failures[name]
    assert command.process.returncode == 2
    assert command.stdout == ""
    assert "Usage:" in command.stderr
    assert "Traceback" not in command.stderr


def test_a_home_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    source = whole_source(tmp_path / "numeros.db")
    done = run(tmp_path, ["migrate", "run", str(source)], environment(Path("/proc/none")))
    assert done.process.returncode == 6, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error (")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_role_without_rights_is_told_what_it_lacks(tmp_path: Path, database_url: str) -> None:
    """A reader of the tables may look, and not migrate."""
    source = whole_source(tmp_path / "numeros.db")
    with closing(connect(database_url, autocommit=True)) as session:
        session.execute("CREATE ROLE sms_reader_of_test LOGIN PASSWORD 'secret-word'")
        session.execute("GRANT pg_read_all_data TO sms_reader_of_test")
    try:
        url = with_part(database_url, user="sms_reader_of_test", password="secret-word")
        done = run(tmp_path, ["migrate", "run", str(source), "--json"], environment(tmp_path / "var", DATABASE_URL=url))
        assert done.process.returncode in {5, 6}, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error (")
        assert "permission denied" in last
        assert "Traceback" not in done.stderr
    finally:
        with closing(connect(database_url, autocommit=True)) as session:
            session.execute("DROP OWNED BY sms_reader_of_test")
            session.execute("DROP ROLE sms_reader_of_test")
