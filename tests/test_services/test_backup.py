"""Backups for real: taken of a running server, damaged, killed, put together, and a server started on the result."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from app.core.config import PROJECT_ROOT, EmbeddedSettings, Settings
from app.core.errors import AppError, Broken, Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from app.embedded.postgres import ensure_postgres, postgres_bin, postgres_run_as
from app.embedded.servers import stop_all
from app.services import (
    backup_catalog,
    backup_restore,
    backup_service,
    pg_tools,
    schema_service,
    source_backup,
    tuning_service,
)
from app.services.backup_catalog import Backup
from app.services.backup_service import create_full, create_incremental, list_backups, migration_hook
from app.services.pg_tools import PgTools
from app.services.source_backup import source_copy
from tests.sources import make_source

pytestmark = pytest.mark.kill
NEW_RUN = (
    "INSERT INTO migration_runs (source_path, source_sha256, source_bytes, source_rows, contact_id_offset, status,"
    " stage, batch_size) VALUES ('/numeros.db', %s, 1, 1, 0, 'rolled_back', 'load', 1) RETURNING id"
)
CREATE = """
import sys
from pathlib import Path
from app.services.backup_service import create_full
from app.services.pg_tools import PgTools
create_full(sys.argv[1], Path(sys.argv[2]), PgTools(Path(sys.argv[3])))
"""


@dataclass(frozen=True)
class Server:
    """A small server of these tests' own."""

    url: str
    tools: PgTools
    settings: Settings


class Run(NamedTuple):
    """What a backup has to know of a migration's run."""

    id: int
    source_sha256: str


def scratch() -> str | None:
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 3 << 30 else None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    place = Path(tempfile.mkdtemp(prefix="backup ñ '", dir=scratch()))
    place.chmod(0o755)
    settings = Settings(_env_file=None, data_dir=place / "var", embedded=EmbeddedSettings(shared_buffers="64MB"))
    url = ensure_postgres(settings)
    schema_service.upgrade(url)
    query(url, "CREATE TABLE kept (moment text)")
    tools = PgTools(postgres_bin(settings, "pg_basebackup").parent, dict(postgres_run_as(settings)))
    yield Server(url, tools, settings)
    stop_all(settings, purge=True)
    shutil.rmtree(place)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's account can enter, with a name that a shell would trip over."""
    directory = Path(tempfile.mkdtemp(prefix="kept $HOME \"'", dir=scratch()))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def query(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def new_run(server: Server, source: Path) -> Run:
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return Run(query(server.url, NEW_RUN, sha256)[0][0], sha256)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def largest(backup: Backup) -> Path:
    files = [path for path in (Path(backup.path) / "data" / "base").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def test_chain_is_put_together_and_a_server_runs_on_it(server: Server, place: Path) -> None:
    query(server.url, "INSERT INTO kept VALUES ('before')")
    tuning_service.keep_wal_summaries(server.url)
    full = create_full(server.url, place / "kept", server.tools, "before the rows")
    query(server.url, "INSERT INTO kept SELECT 'between' FROM generate_series(1, 5000)")
    first = create_incremental(server.url, place / "kept", server.tools, full)
    query(server.url, "INSERT INTO kept VALUES ('at the end')")
    second = create_incremental(server.url, place / "kept", server.tools, first)
    query(server.url, "INSERT INTO kept VALUES ('too late')")

    assert [(it.kind, it.parent_id, it.state) for it in (full, first, second)] == [
        ("full", None, "verified"),
        ("incremental", full.id, "verified"),
        ("incremental", first.id, "verified"),
    ]
    assert (first.bytes or 0) < (full.bytes or 0)
    assert full.seconds is not None
    assert full.seconds > 0

    other = Settings(_env_file=None, data_dir=place / "other", embedded=server.settings.embedded)
    (other.data_dir / "postgres").mkdir(parents=True)
    shutil.copytree(server.settings.data_dir / "secrets", other.data_dir / "secrets")
    path = backup_restore.find_directory(str(second.id), place / "kept")
    restored = backup_restore.restore_chain(path, other.data_dir / "postgres" / "data", server.tools)
    assert restored.chain == (full.id, first.id, second.id)
    try:
        url = ensure_postgres(other)
        found = dict(query(url, "SELECT moment, count(*) FROM kept GROUP BY 1"))
        assert found == {"before": 1, "between": 5000, "at the end": 1}
        # its own row was written before it was complete: the next backup puts it right
        assert query(url, "SELECT state FROM backups WHERE id = %s", second.id) == [("running",)]
        create_full(url, place / "again", server.tools)
        assert query(url, "SELECT state FROM backups WHERE id = %s", second.id) == [("verified",)]
        tuning_service.restore(url)
        assert query(url, "SHOW summarize_wal") == [("off",)]
    finally:
        stop_all(other, purge=True)


def test_full_backup_restores_alone_into_an_empty_directory(server: Server, place: Path) -> None:
    full = create_full(server.url, place / "kept", server.tools)
    target = place / "new"
    target.mkdir()
    restored = backup_restore.restore_chain(Path(full.path), target, server.tools)
    user = server.tools.run_as.get("user", os.geteuid())
    assert (restored.chain, restored.owner, target.stat().st_mode & 0o777) == ((full.id,), user, 0o700)
    assert {path.stat().st_uid for path in target.rglob("*")} == {user}
    assert not list(place.glob("*.partial"))
    with pytest.raises(Conflict, match="not empty"):
        backup_restore.restore_chain(Path(full.path), target, server.tools)
    (place / "other.partial").mkdir()
    with pytest.raises(Conflict, match="killed"):
        backup_restore.restore_chain(Path(full.path), place / "other", server.tools)
    assert (place / "other.partial").is_dir()
    with pytest.raises(NotFound, match="make it first"):
        backup_restore.restore_chain(Path(full.path), place / "no" / "where", server.tools)


def test_one_flipped_byte_is_found_marked_and_never_restored(server: Server, place: Path) -> None:
    tuning_service.keep_wal_summaries(server.url)
    full = create_full(server.url, place, server.tools)
    later = create_incremental(server.url, place, server.tools, full)
    verdicts = backup_restore.verify(Path(later.path), server.tools, server.url)
    assert [(it.id, it.reason) for it in verdicts] == [(full.id, None), (later.id, None)]
    flip(largest(full), 4096)
    verdicts = backup_restore.verify(Path(later.path), server.tools, server.url)
    assert "checksum" in (verdicts[0].reason or "")
    assert verdicts[1].reason is None
    states = {it.id: (it.state, it.error) for it in list_backups(server.url)}
    assert states[full.id][0] == "failed"
    assert "damaged" in (states[full.id][1] or "")
    assert states[later.id][0] == "verified"
    with pytest.raises(Broken, match="damaged"):
        backup_restore.restore_chain(Path(later.path), place / "new", server.tools)
    assert not (place / "new").exists()
    with pytest.raises(Conflict, match="failed"):
        backup_restore.find_directory(str(full.id), place, server.url)
    with pytest.raises(InvalidInput, match="nothing can build on it"):
        create_incremental(
            server.url, place, server.tools, next(b for b in list_backups(server.url) if b.id == full.id)
        )


def test_flipped_byte_in_the_log_is_found(server: Server, place: Path) -> None:
    full = create_full(server.url, place, server.tools)
    segment = min((Path(full.path) / "data" / "pg_wal").glob("0000*"))
    flip(segment, 64)
    assert [bool(it.reason) for it in backup_restore.verify(Path(full.path), server.tools)] == [True]


def test_all_are_verified_and_one_that_is_gone_is_told_not_marked(server: Server, place: Path) -> None:
    full = create_full(server.url, place, server.tools)
    shutil.rmtree(full.path)
    verdicts = {it.id: it.reason for it in backup_restore.verify_all(server.url, server.tools)}
    assert "no backup" in (verdicts[full.id] or "")
    assert next(it.state for it in list_backups(server.url) if it.id == full.id) == "verified"


def slow_tools(tools: PgTools, directory: Path) -> Path:
    """PostgreSQL's own programs, where a copy of these small servers takes half a minute."""
    assert tools.bin_dir is not None
    directory.mkdir()
    for name in ("pg_verifybackup", "pg_waldump"):
        (directory / name).symlink_to(tools.bin_dir / name)
    real, script = tools.bin_dir / "pg_basebackup", directory / "pg_basebackup"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec "{real}" "$1"\nexec "{real}" "$@" --max-rate=1M\n')
    script.chmod(0o755)
    return directory


def test_killed_backup_is_failed_and_its_leftovers_removed_by_the_next(server: Server, place: Path) -> None:
    kept = place / "kept"
    command = [sys.executable, "-c", CREATE, server.url, str(kept), str(slow_tools(server.tools, place / "bin"))]
    with subprocess.Popen(command, cwd=PROJECT_ROOT) as maker:
        until(lambda: any(kept.glob("full-*.partial/data/base")))
        with pytest.raises(Conflict, match="being made"):
            create_full(server.url, kept, server.tools)
        maker.kill()
    killed = list_backups(server.url)[0]
    assert killed.state == "running"
    streaming = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    name = backup_catalog.application_name(killed.id)
    assert query(server.url, streaming, name)[0][0] > 0  # the program outlived its parent

    made = create_full(server.url, kept, server.tools)
    states = {it.id: it for it in list_backups(server.url)}
    assert (states[killed.id].state, states[killed.id].finished_at) == ("failed", None)
    assert "killed" in (states[killed.id].error or "")
    assert [path.name for path in kept.iterdir()] == [Path(made.path).name]
    assert query(server.url, streaming, name) == [(0,)]


def until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_interrupted_backup_leaves_nothing(server: Server, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pg_tools, "check_data", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_full(server.url, place, server.tools)
    last = list_backups(server.url)[0]
    assert (last.state, last.error, list(place.iterdir())) == ("failed", "stopped: KeyboardInterrupt", [])


def test_small_disk_is_refused_before_anything_is_written(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place / "numeros.db"
    make_source(source, [{"numero": "5512345678"}])
    full = create_full(server.url, place / "a", server.tools)
    before = list_backups(server.url)
    usage = shutil.disk_usage(place)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for attempt in (
        lambda: create_full(server.url, place / "b", server.tools),
        lambda: create_incremental(server.url, place / "a", server.tools, full),
        lambda: source_copy(server.url, source, place / "b"),
        lambda: backup_restore.restore_chain(Path(full.path), place / "new", server.tools),
    ):
        with pytest.raises(Unavailable, match="free") as caught:
            attempt()
        assert caught.value.code == "backup_disk_full"
    assert list_backups(server.url) == before
    assert not list((place / "b").iterdir())


def test_role_that_may_not_replicate_is_told(server: Server, place: Path) -> None:
    query(server.url, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
    query(server.url, "GRANT ALL ON backups TO plain")
    with pytest.raises(Forbidden, match="REPLICATION") as caught:
        create_full(as_role(server.url, "plain"), place, server.tools)
    assert "\n" not in str(caught.value)
    assert list_backups(server.url)[0].state == "failed"
    assert not list(place.iterdir())


def as_role(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{name}@127.0.0.1:{parts.port}"))


def test_without_summaries_a_full_backup_takes_the_place(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning_service.restore(server.url)
    query(server.url, "CREATE ROLE copier LOGIN REPLICATION PASSWORD 'copier'")
    query(server.url, "GRANT ALL ON backups, server_settings_saved TO copier")
    url = as_role(server.url, "copier")
    full = create_full(url, place, server.tools)
    made = create_incremental(url, place, server.tools, full)
    assert (made.kind, made.parent_id, made.state) == ("full", None, "verified")
    monkeypatch.setattr(backup_service, "INCREMENTAL_SINCE", 99)
    made = create_incremental(server.url, place, server.tools, full)
    assert (made.kind, made.parent_id, made.state) == ("full", None, "verified")


def test_programs_of_another_version_will_not_do(server: Server, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pg_basebackup").write_text("#!/bin/sh\necho 'pg_basebackup (PostgreSQL) 12.3'\n")
    (place / "pg_basebackup").chmod(0o755)
    monkeypatch.setattr(pg_tools, "SYSTEM_PLACES", ())
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(Unavailable, match="found only version 12"):
        create_full(server.url, place / "kept", PgTools())
    with pytest.raises(Unavailable, match="Install the client programs"):
        pg_tools.program(PgTools(), "pg_verifybackup", 18)


def test_password_is_not_on_the_command_line() -> None:
    target, secret = pg_tools.connection_of("postgresql+psycopg://me:s3cr%40t@db:5433/sms?sslmode=require", "a name")
    assert "s3cr" not in target
    assert secret == {"PGPASSWORD": "s3cr@t"}
    assert psycopg.conninfo.conninfo_to_dict(target) == {
        "user": "me", "host": "db", "port": "5433", "dbname": "sms", "sslmode": "require", "application_name": "a name",
    }  # fmt: skip


def test_directory_inside_the_server_is_refused(server: Server) -> None:
    data = Path(query(server.url, "SHOW data_directory")[0][0])
    with pytest.raises(InvalidInput, match="inside the server"):
        create_full(server.url, data / "backups", server.tools)
    (data / "backups").rmdir()


def test_source_is_copied_byte_for_byte_once(server: Server, place: Path) -> None:
    source = place / "numeros.db"
    make_source(source, [{"numero": f"55123{n:05}"} for n in range(2000)])
    before = source.read_bytes()
    made = source_copy(server.url, source, place / "kept")
    copied = Path(made.path) / "numeros.db"
    assert copied.read_bytes() == before == source.read_bytes()
    assert hashlib.sha256(before).hexdigest()[:16] in Path(made.path).name
    assert source_copy(server.url, source, place / "kept").id == made.id
    assert [it.reason for it in backup_restore.verify(Path(made.path), server.tools, server.url)] == [None]
    flip(copied, 5000)
    assert "SHA-256" in (backup_restore.verify(Path(made.path), server.tools, server.url)[0].reason or "")
    assert source_copy(server.url, source, place / "kept").id != made.id
    with pytest.raises(InvalidInput, match="copy of the source"):
        backup_restore.restore_chain(Path(made.path), place / "new", server.tools)


def test_source_that_is_written_or_changed_or_absent_is_refused(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_backup, "LOCK_WAIT_S", 0)
    source = place / "numeros.db"
    make_source(source, [{"numero": "5512345678"}])
    with pytest.raises(Conflict, match="changed"):
        source_copy(server.url, source, place / "kept", sha256="0" * 64)
    assert not list((place / "kept").iterdir())
    with closing(sqlite3.connect(source, isolation_level=None, timeout=0)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AppError, match=r"locked|writing"):
            source_copy(server.url, source, place / "kept")
    with pytest.raises(NotFound):
        source_copy(server.url, place / "absent.db", place / "kept")
    (place / "words.db").write_text("not a database, whatever its name says" * 50)
    with pytest.raises(AppError, match=r"words\.db"):
        source_copy(server.url, place / "words.db", place / "kept")


def test_migration_backs_up_before_and_then_what_changed(server: Server, place: Path) -> None:
    source = place / "numeros.db"
    make_source(source, [{"numero": "5512345678"}])
    run = new_run(server, source)
    tuning_service.restore(server.url)
    hook = migration_hook(lambda: server.url, source, place / "kept", server.tools)
    hook(run, 0)
    query(server.url, "INSERT INTO kept VALUES ('batch')")
    hook(run, 1000)
    hook(run, 0)  # the same run, taken up again: its source is there, and the chain goes on
    rows = [it for it in reversed(list_backups(server.url)) if it.run_id == run.id]
    copied, full, first, second = rows
    assert [it.kind for it in rows] == ["source", "full", "incremental", "incremental"]
    assert (full.parent_id, first.parent_id, second.parent_id) == (None, full.id, first.id)
    assert "1,000 rows" in first.label
    cost = backup_service.cost_of_run(server.url, run.id)
    assert (cost.backups, cost.bytes) == (4, sum(it.bytes or 0 for it in rows))
    assert cost.seconds > 0
    assert (Path(copied.path) / "numeros.db").read_bytes() == source.read_bytes()
    shutil.rmtree(second.path)
    shutil.rmtree(first.path)
    shutil.rmtree(full.path)
    hook(run, 2000)
    assert list_backups(server.url)[0].kind == "full"
    assert tuning_service.restore(server.url).refused is None
    assert query(server.url, "SHOW summarize_wal") == [("off",)]


@pytest.mark.parametrize(("stage", "after"), [("copy", "failed"), ("verify", "verified")])
def test_server_killed_meanwhile_is_one_line_and_put_right_later(place: Path, stage: str, after: str) -> None:
    settings = Settings(_env_file=None, data_dir=place / "var", embedded=EmbeddedSettings(shared_buffers="64MB"))
    url = ensure_postgres(settings)
    schema_service.upgrade(url)
    tools = PgTools(postgres_bin(settings, "pg_basebackup").parent, {})
    pid = int(query(url, "SELECT pg_read_file('postmaster.pid')")[0][0].split()[0])
    killed: list[int] = []

    def kill(progress: backup_service.BackupProgress) -> None:
        if progress.stage == stage and not killed:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    try:
        slow = PgTools(slow_tools(tools, place / "bin")) if stage == "copy" else tools
        with pytest.raises(Unavailable, match="was lost") as caught:
            create_full(url, place / "kept", slow, progress=kill)
        assert caught.value.code == "database_unreachable"
        assert "\n" not in str(caught.value)
        left = [path.name for path in (place / "kept").iterdir()]
        assert len(left) == (after == "verified")  # it had been proven whole, only its row was not written
        url = ensure_postgres(settings)
        create_full(url, place / "kept", tools)
        assert [it.state for it in list_backups(url)] == ["verified", after]
    finally:
        stop_all(settings, purge=True)


def test_full_disk_is_one_line_and_leaves_nothing(server: Server, place: Path) -> None:
    assert server.tools.bin_dir is not None
    copier = slow_tools(server.tools, place / "bin") / "pg_basebackup"
    copier.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec "{server.tools.bin_dir}/pg_basebackup" "$1"\n'
        "echo 'pg_basebackup: error: could not write to file \"x\": No space left on device' >&2\nexit 1\n"
    )
    with pytest.raises(Unavailable, match="is full") as caught:
        create_full(server.url, place / "kept", PgTools(place / "bin"))
    assert caught.value.code == "backup_disk_full"
    assert not list((place / "kept").iterdir())
    assert list_backups(server.url)[0].state == "failed"
