"""The embedded servers, for real: started on demand, found again, killed at any moment, moved where they must be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from app.core.config import PROJECT_ROOT, EmbeddedSettings, Settings
from app.core.errors import Conflict, Unavailable
from app.embedded import cluster, processes
from app.embedded.layout import is_shell_safe, postgres_home, read_places, remove_private
from app.embedded.postgres import ensure_postgres, is_initialised, postgres_bin, postgres_run_as
from app.embedded.servers import status, stop_all
from app.embedded.supervisor import server_children, supervise
from app.embedded.valkey import ensure_valkey

pytestmark = pytest.mark.kill

PRELUDE = """
import signal, sys
from app.core.config import get_settings
from app.core.logs import configure_logs
from app.embedded.postgres import ensure_postgres
from app.embedded.supervisor import server_children, supervise
from app.embedded.valkey import ensure_valkey
configure_logs()
settings = get_settings()
"""
ENSURE = PRELUDE + "print(ensure_postgres(settings), ensure_valkey(settings), flush=True)\n"
UP = PRELUDE + (
    "supervise(settings, server_children(settings), lambda child, url: print(child.name, url, flush=True))\n"
    "print('stopped', flush=True)\n"
)
ROOT = os.geteuid() == 0


def settings_for(directory: Path, **embedded: str) -> Settings:
    return Settings(
        _env_file=None, data_dir=directory, embedded=EmbeddedSettings(**({"shared_buffers": "64MB"} | embedded))
    )


def scratch() -> str | None:
    """Memory in place of a disk, where there is enough: these tests make a new cluster each, mostly to fsync it."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 2 << 30 else None


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can enter, unlike pytest's own, with an awkward but harmless name."""
    directory = Path(tempfile.mkdtemp(prefix="embedded ñ '", dir=scratch()))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def settings(place: Path) -> Iterator[Settings]:
    """Settings of a data directory that does not exist yet; whatever runs there is stopped and removed at the end."""
    made = settings_for(place / "var")
    yield made
    stop_all(made, purge=True)


def python(code: str, settings: Settings) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    ours = {
        "SMS_DATA_DIR": str(settings.data_dir),
        "SMS_ENV_FILE": os.devnull,
        "SMS_EMBEDDED__SHARED_BUFFERS": settings.embedded.shared_buffers,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=kept | ours, text=True, stdout=subprocess.PIPE
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def run_sql(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def postmaster_pid(settings: Settings) -> int:
    running = status(settings).postgres
    assert running is not None
    return running.pid


def valkey_process(settings: Settings) -> int:
    running = status(settings).valkey
    assert running is not None
    return running.pid


def gone(pid: int) -> bool:
    return not processes.command_line(pid)


def test_server_outlives_the_kill_of_its_starter_and_is_found(settings: Settings) -> None:
    assert not is_initialised(settings)
    with python(ENSURE + "signal.pause()", settings) as starter:
        postgres_url, valkey_url = line(starter).split()
        starter.kill()
    assert is_initialised(settings)
    pid = postmaster_pid(settings)
    assert ensure_postgres(settings) == postgres_url
    assert ensure_valkey(settings) == valkey_url
    assert postmaster_pid(settings) == pid
    noted = json.loads((settings.data_dir / "run" / "postgres.json").read_text())
    assert (noted["pid"], noted["port"]) == (pid, urlsplit(postgres_url).port)
    assert run_sql(postgres_url, "SELECT current_database(), current_user") == [("sms", "sms_owner")]
    for name in ("postgres_password", "valkey_password"):
        assert stat.S_IMODE((settings.data_dir / "secrets" / name).stat().st_mode) == 0o600
    assert [text.split()[1] for text in stop_all(settings)] == ["Valkey", "PostgreSQL"]
    assert gone(pid)
    assert stop_all(settings) == []


@pytest.mark.parametrize(
    "moment",
    [
        "postgres/init-*/PG_VERSION",
        "postgres/init-*/base/5",
        "postgres/data",
        "postgres/data/postmaster.pid",
        "run/*son",
    ],
)
def test_starter_killed_at_any_moment_leaves_nothing_half_made(settings: Settings, moment: str) -> None:
    with python(ENSURE, settings) as starter:
        until(lambda: any(settings.data_dir.glob(moment)))
        starter.kill()
    url = ensure_postgres(settings)
    assert run_sql(url, "SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'unaccent', 'btree_gin')") == [
        (3,)
    ]
    home = postgres_home(settings)
    until(lambda: not list(home.path.glob("init-*")))
    assert redis.Redis.from_url(ensure_valkey(settings)).ping()


def test_commands_at_the_same_time_start_one_server(settings: Settings) -> None:
    commands = [python(ENSURE, settings) for _ in range(3)]
    answers = {command.communicate(timeout=60)[0] for command in commands}
    assert len(answers) == 1
    assert [command.returncode for command in commands] == [0, 0, 0]
    data = str(postgres_home(settings).data)
    masters = [pid for pid in processes.process_ids() if data in processes.command_line(pid)]
    assert masters == [postmaster_pid(settings)]


def test_killed_postmaster_comes_back_with_its_data_though_a_child_is_busy(settings: Settings) -> None:
    url = ensure_postgres(settings)
    run_sql(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    busy = python(
        f"import psycopg\nwith psycopg.connect({url!r}) as c:\n"
        "    print('busy', flush=True)\n    c.execute('SELECT count(*) FROM generate_series(1, 100000000000) AS n')",
        settings,
    )
    assert line(busy) == "busy"
    os.kill(postmaster_pid(settings), signal.SIGKILL)
    again = ensure_postgres(settings)
    assert run_sql(again, "SELECT count(*) FROM kept") == [(1000,)]
    assert urlsplit(again).port == urlsplit(url).port
    busy.kill()
    busy.communicate()


def test_pid_file_of_a_reused_pid_does_not_keep_the_server_down(settings: Settings) -> None:
    ensure_postgres(settings)
    stop_all(settings)
    home = postgres_home(settings)
    with subprocess.Popen(["sleep", "60"], cwd="/", **home.run_as) as other:
        lock = home.data / "postmaster.pid"
        lock.write_text(f"{other.pid}\n{home.data}\n1700000000\n5432\n\n127.0.0.1\n  1 1\nready   \n")
        if ROOT:
            os.chown(lock, home.run_as["user"], home.run_as["group"])
        assert status(settings).postgres is None
        assert run_sql(ensure_postgres(settings), "SELECT 1") == [(1,)]
        other.kill()


def test_taken_port_is_replaced_and_configuration_by_alter_system_stays(settings: Settings) -> None:
    url = ensure_postgres(settings)
    run_sql(url, "ALTER SYSTEM SET work_mem = '77MB'")
    stop_all(settings)
    port = urlsplit(url).port
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        again = ensure_postgres(settings)
    assert urlsplit(again).port != port
    shown = "SELECT current_setting('work_mem'), current_setting('wal_level'), current_setting('data_checksums')"
    assert run_sql(again, shown) == [("77MB", "replica", "on")]
    assert run_sql(again, "SELECT current_setting('shared_buffers'), current_setting('TimeZone')") == [("64MB", "UTC")]


def test_files_move_to_where_the_account_can_reach_them_and_purge_removes_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = place / 'closed "é"'
    closed.mkdir(mode=0o700)
    settings = settings_for(closed / "var")
    try:
        url = ensure_postgres(settings)
        home = postgres_home(settings)
        # as an ordinary user there is nobody to be kept out, and the files stay
        assert (closed in home.path.parents) is not ROOT
        assert (read_places(settings).postgres_home == str(home.path)) is ROOT
        output = capsys.readouterr()
        assert (str(home.path) in output.out + output.err) is ROOT
        assert ensure_postgres(settings) == url
        assert str(home.path) not in "".join(capsys.readouterr())  # told once
        dumped = subprocess.run(
            [postgres_bin(settings, "pg_dump"), "--schema-only", url],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            **postgres_run_as(settings),
        )
        assert "CREATE EXTENSION" in dumped.stdout
    finally:
        removed = stop_all(settings, purge=True)
    assert f"removed {home.path}" in removed
    assert not home.path.exists()
    assert status(settings).postgres is None


def test_directory_that_cannot_be_used_is_one_line_that_says_what_to_do(place: Path) -> None:
    (place / "file").touch()
    settings = settings_for(place / "file" / "var")
    for ensure in (ensure_postgres, ensure_valkey):
        with pytest.raises(Unavailable, match="SMS_DATA_DIR") as caught:
            ensure(settings)
        assert "\n" not in str(caught.value)


def test_server_that_cannot_start_is_one_line_with_its_reason(place: Path) -> None:
    settings = settings_for(place / "var", shared_buffers="nonsense")
    try:
        with pytest.raises(Unavailable, match="shared_buffers") as caught:
            ensure_postgres(settings)
        assert "\n" not in str(caught.value)
    finally:
        stop_all(settings, purge=True)


def test_lost_password_is_told_and_the_server_still_stops(settings: Settings) -> None:
    ensure_postgres(settings)
    (settings.data_dir / "secrets" / "postgres_password").unlink()
    with pytest.raises(Unavailable, match="postgres_password"):
        ensure_postgres(settings)
    assert len(stop_all(settings)) == 1


def test_killed_valkey_comes_back_with_its_data(settings: Settings) -> None:
    with redis.Redis.from_url(ensure_valkey(settings)) as client:
        client.set("kept", "1")
        client.waitaof(1, 0, 5000)
    os.kill(valkey_process(settings), signal.SIGKILL)
    with redis.Redis.from_url(ensure_valkey(settings)) as client:
        assert client.get("kept") == b"1"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_supervisor_restarts_what_dies_and_stops_what_it_started(settings: Settings) -> None:
    with python(UP, settings) as up:
        urls = dict(line(up).split() for _ in range(2))
        assert set(urls) == {"PostgreSQL", "Valkey"}
        killed = [postmaster_pid(settings), valkey_process(settings)]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert dict(line(up).split() for _ in range(2)) == urls
        started = [postmaster_pid(settings), valkey_process(settings)]
        assert not set(killed) & set(started)
        up.send_signal(signal.SIGTERM)
        assert line(up) == "stopped"
    assert up.returncode == 0
    assert all(gone(pid) for pid in started)


def test_killed_supervisor_takes_along_what_it_started_and_spares_what_it_adopted(settings: Settings) -> None:
    ensure_valkey(settings)
    adopted = valkey_process(settings)
    with python(UP, settings) as up:
        line(up), line(up)
        started = postmaster_pid(settings)
        up.kill()
    until(lambda: gone(started))
    assert valkey_process(settings) == adopted


def test_down_stops_the_supervisor_with_what_it_adopted_and_a_second_one_is_refused(settings: Settings) -> None:
    ensure_postgres(settings)
    adopted = postmaster_pid(settings)
    with python(UP, settings) as up:
        line(up), line(up)
        with pytest.raises(Conflict, match="already runs"):
            supervise(settings, server_children(settings), lambda _child, _address: None)
        assert stop_all(settings) == [f"stopped smsctl up (process {up.pid}) and what it kept"]
        assert line(up) == "stopped"
    assert up.returncode == 0
    assert gone(adopted)


def test_only_directories_that_we_made_are_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "someone's"
    ours = tmp_path / "sms-marketing-0123"
    for path in (foreign, ours):
        path.mkdir()
    assert not remove_private(str(foreign))
    assert remove_private(str(ours))
    assert (foreign.exists(), ours.exists()) == (True, False)


@pytest.mark.parametrize(("name", "safe"), [("plain", True), ("two words ñ '", True), ('a"b', False), ("a$b", False)])
def test_paths_that_no_shell_can_quote_are_known(name: str, safe: bool) -> None:
    assert is_shell_safe(Path("/srv") / name) is safe


def test_reason_is_the_first_fatal_line_of_the_log(tmp_path: Path) -> None:
    text = "now LOG:  starting\nnow FATAL:  could not map memory\nnow LOG:  database system is shut down\n"
    assert cluster.why_it_ended(text, tmp_path) == "could not map memory"
    assert cluster.why_it_ended("", tmp_path) == "its log gives no reason"
