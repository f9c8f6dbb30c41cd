"""smsctl backup, through real processes: made, listed, proven, and restored after the server's data was lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.kill
KEYS = {
    "id", "kind", "label", "path", "parent_id", "run_id", "bytes", "started_at", "finished_at", "verified_at", "state",
    "error", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """SMS_DATA_DIR with a running embedded server of its own, its schema up to date."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 2 << 30
    place = Path(tempfile.mkdtemp(prefix="backup cli ", dir=shared if roomy else None))
    place.chmod(0o755)
    assert smsctl(place / "var", "db", "upgrade").returncode == 0
    yield place / "var"
    assert smsctl(place / "var", "down", "--purge", "--yes").returncode == 0
    shutil.rmtree(place)


def smsctl(data_dir: Path, *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `smsctl …` on the embedded server of `data_dir`, or on `url`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DATABASE_ADMIN_URL")}
    ours = {"SMS_DATA_DIR": str(data_dir), "SMS_ENV_FILE": os.devnull, "SMS_EMBEDDED__SHARED_BUFFERS": "64MB"}
    environment = kept | ours | ({"DATABASE_URL": url} if url else {})
    command = [sys.executable, "-c", "from app.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def fine(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(home: Path, *arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(fine(smsctl(home, "backup", "create", "--json", *arguments)))
    return made


def refused(done: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    """It ended with one sentence for a person, wrapped by the width of the terminal at most."""
    assert done.returncode == exit_code, done.stderr
    said = " ".join(done.stderr.split())
    assert "Traceback" not in said
    for word in words:
        assert word in said
    assert not done.stdout


@pytest.fixture(scope="module")
def made(home: Path) -> dict[str, Any]:
    """A backup that tests only read."""
    return create(home, "--label", "tonight's")


def test_created_backup_is_listed_and_proven(home: Path, made: dict[str, Any]) -> None:
    assert made.keys() == KEYS
    assert (made["kind"], made["state"], made["label"], made["error"]) == ("full", "verified", "tonight's", None)
    assert Path(made["path"]).parent == home / "backups"
    assert made in json.loads(fine(smsctl(home, "backup", "list", "--json")))["backups"]
    lines = fine(smsctl(home, "backup", "list", "--dir", str(home / "backups"))).splitlines()
    assert "tonight's" in next(line for line in lines if line.split()[0] == str(made["id"]))
    assert f"      {made['path']}" in lines
    assert f"{made['id']} full: whole" in fine(smsctl(home, "backup", "verify", "--all"))
    again = json.loads(fine(smsctl(home, "backup", "verify", str(made["id"]), "--json")))
    assert (again["whole"], again["backups"][0]["reason"]) == (True, None)


def test_lost_server_comes_back_from_a_number_alone(home: Path) -> None:
    url = fine(smsctl(home, "db", "url")).strip()
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("CREATE TABLE precious AS SELECT 42 AS answer")
    made = create(home)
    fine(smsctl(home, "down"))
    (home / "postgres" / "data").rename(home / "postgres" / "lost")
    told = smsctl(home, "backup", "restore", str(made["id"]), "--to", str(home / "postgres" / "data"))
    assert f"Restored backup {made['id']}" in fine(told)
    shutil.rmtree(home / "postgres" / "lost")
    url = fine(smsctl(home, "db", "url")).strip()
    with psycopg.connect(url) as session:
        assert session.execute("SELECT answer FROM precious").fetchall() == [(42,)]


def test_damage_is_exit_7_and_nothing_is_restored(home: Path) -> None:
    made = create(home, "--dir", str(home / "damaged"))
    victim = Path(made["path"]) / "data" / "global" / "pg_control"
    victim.write_bytes(victim.read_bytes()[::-1])
    done = smsctl(home, "backup", "verify", made["path"])
    assert (done.returncode, "damaged:" in done.stdout) == (7, True)
    target = home / "never"
    refused(smsctl(home, "backup", "restore", made["path"], "--to", str(target)), 7, "damaged")
    refused(smsctl(home, "backup", "restore", str(made["id"]), "--to", str(target)), 4, "failed")
    assert not target.exists()


def test_what_cannot_be_done_is_one_sentence(home: Path, tmp_path: Path) -> None:
    refused(smsctl(home, "backup", "create", "--dir", "/proc/backups"), 6, "/proc/backups", "cannot be used")
    (tmp_path / "file").touch()
    refused(smsctl(home, "backup", "create", "--dir", str(tmp_path / "file")), 6, "cannot be used")
    refused(smsctl(home, "backup", "create", url="postgresql://me:secret@127.0.0.1:1/sms"), 6, "DATABASE_URL")
    refused(smsctl(home, "backup", "verify"), 2, "--all")
    refused(smsctl(home, "backup", "verify", "9999"), 3, "no backup 9999")
    refused(smsctl(home, "backup", "restore", str(tmp_path), "--to", str(tmp_path / "new")), 3, "no backup in")


def test_database_that_is_down_stops_no_restore(home: Path, tmp_path: Path, made: dict[str, Any]) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/sms"
    done = smsctl(home, "backup", "restore", str(made["id"]), "--to", str(tmp_path / "new"), "--json", url=url)
    restored = json.loads(fine(done))
    assert (restored["chain"], restored["path"]) == ([made["id"]], str(tmp_path / "new"))
    assert "without the database" in done.stderr
    assert "secret" not in done.stderr
