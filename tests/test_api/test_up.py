"""`smsctl up` for real: started, asked, killed, started again, stopped; and what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from app.core.config import Settings
from app.embedded import processes
from tests.kill_support import ENTRY, Command, environment, running, until

pytestmark = pytest.mark.kill
PASSWORD = "sunlit-otter-carries-9-lanterns"
EMAIL = "ana@example.com"
APPLICATION = "app.main:create_app"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory that every account can enter, with the servers of this module in it."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 2 << 30
    with tempfile.TemporaryDirectory(prefix="sms-up-", dir=shared if roomy else None) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        subprocess.run(
            [*ENTRY, "down", "--purge", "--yes"], check=True, env=environment(directory / "var"), cwd=directory
        )


def settings_of(home: Path, **more: str) -> dict[str, str]:
    """The environment of the commands."""
    return environment(home / "var", SMS_EMBEDDED__SHARED_BUFFERS="64MB", **more)


@contextmanager
def up(home: Path, env: dict[str, str]) -> Iterator[Command]:
    """`smsctl up` on a free port, answering."""
    with running(home, ["up", "--port", "0"], env) as command:
        assert until(lambda: shown(command, "Sign in"), command), command.stderr
        yield command


def shown(command: Command, name: str) -> list[str]:
    """What it printed of one thing, each time."""
    return [line.removeprefix(name).strip() for line in command.stdout.splitlines() if line.startswith(name + " ")]


def api_processes(port: str) -> list[int]:
    """Processes that were started as the API on this port."""
    return [pid for pid in processes.process_ids() if {APPLICATION, port} <= set(processes.command_line(pid))]


def smsctl(home: Path, env: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command that ran to its end."""
    return subprocess.run(
        [*ENTRY, *arguments], check=False, env=env, cwd=home, input=stdin, capture_output=True, text=True, timeout=120
    )


def ask(method: str, url: str, **more: Any) -> httpx2.Response | None:
    """The answer; None while nobody gives one."""
    try:
        return httpx2.request(method, url, **more)
    except httpx2.TransportError:
        return None


def answered(method: str, url: str, **more: Any) -> httpx2.Response:
    """The answer that there must be."""
    answer = ask(method, url, **more)
    assert answer is not None
    return answer


def in_use(home: Path) -> list[list[str]]:
    """Processes that have the directory in their command line."""
    lines = map(processes.command_line, processes.process_ids())
    return [line for line in lines if any(str(home) in word for word in line)]


def test_service_starts_signs_in_survives_a_kill_and_leaves_nothing(home: Path) -> None:
    env = settings_of(home)
    with up(home, env) as command:
        base = shown(command, "API")[0]
        assert shown(command, "Docs") == [f"{base}/docs"]
        assert "smsctl users create" in shown(command, "Sign in")[0]
        made = smsctl(home, env, "users", "create", EMAIL, "--role", "admin", "--password-stdin", stdin=PASSWORD + "\n")
        assert made.returncode == 0, made.stderr
        form = answered(
            "POST", f"{base}/auth/login", data={"username": EMAIL, "password": PASSWORD, "grant_type": "password"}
        )
        assert form.status_code == 200, form.text
        tokens = answered("POST", f"{base}/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()
        assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert answered("GET", f"{base}/api/v1/auth/me", headers=bearer).json()["email"] == EMAIL
        port = base.rpartition(":")[2]
        (killed,) = api_processes(port)
        os.kill(killed, signal.SIGKILL)
        assert until(lambda: len(shown(command, "Sign in")) == 2, command)
        assert shown(command, "API") == [base, base]
        assert "auth/login" in shown(command, "Sign in")[1]
        assert answered("GET", f"{base}/api/v1/auth/me", headers=bearer).status_code == 200
        assert answered("GET", f"{base}/health/ready").json()["status"] == "ok"
        command.send(signal.SIGTERM)
        assert command.wait() == 0, command.stderr
        assert command.stdout.splitlines()[-1] == "Stopped."
    assert api_processes(port) == []
    assert in_use(home) == []


def test_api_works_with_the_applications_role_only(home: Path) -> None:
    with up(home, settings_of(home)) as command:
        (pid,) = api_processes(shown(command, "API")[0].rpartition(":")[2])
        values = dict(
            item.partition("=")[::2] for item in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in item
        )
        assert "sms_api" in values["DATABASE_URL"]
        assert values["DATABASE_ADMIN_URL"] == values["DATABASE_URL"]
        with psycopg.connect(values["DATABASE_URL"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("CREATE TABLE not_mine (n int)")
        command.send(signal.SIGINT)
        assert command.wait() == 0


def test_taken_port_is_one_line_that_names_it_and_nothing_is_left(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = smsctl(home, settings_of(home), "up", "--port", port)
    assert ended.returncode == 4
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert f"Port {port} of 127.0.0.1 is in use" in lines[0]
    assert in_use(home) == []


def test_several_processes_share_port_and_metrics_and_end_with_their_parent(home: Path) -> None:
    env = settings_of(home, SMS_API__WORKERS="2", SMS_API__METRICS_TOKEN="9f3c7a1e5b8d2046")
    with up(home, env) as command:
        base = shown(command, "API")[0]
        port = base.rpartition(":")[2]
        for _ in range(20):
            answered("GET", f"{base}/nowhere")
        metrics = answered("GET", f"{base}/metrics", headers={"Authorization": "Bearer 9f3c7a1e5b8d2046"}).text
        assert 'sms_http_requests_total{method="GET",route="unmatched",status="404"} 20.0' in metrics
        assert "sms_http_requests_in_flight 1.0" in metrics
        (parent,) = api_processes(port)
        workers = children(parent)
        assert len(workers) >= 2
        os.kill(parent, signal.SIGKILL)
        assert until(lambda: len(shown(command, "API")) == 2, command)
        assert until(lambda: all(not processes.command_line(pid) for pid in workers), command)
        assert answered("GET", f"{base}/health").status_code == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
    assert all(not processes.command_line(pid) for pid in workers)


def test_with_servers_of_yours_only_the_api_runs(
    home: Path, settings: Settings, database_url: str, valkey_url: str
) -> None:
    env = settings_of(home, DATABASE_URL=database_url, REDIS_URL=valkey_url)
    with up(home, env) as command:
        assert not shown(command, "PostgreSQL")
        assert not shown(command, "Valkey")
        assert answered("GET", f"{shown(command, 'API')[0]}/health/ready").json()["status"] == "ok"
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_killed_servers_come_back_under_the_api(home: Path) -> None:
    with up(home, settings_of(home)) as command:
        base = shown(command, "API")[0]
        before = {name: shown(command, name)[0] for name in ("PostgreSQL", "Valkey")}
        for name, program in (("PostgreSQL", "postgres"), ("Valkey", "valkey-server")):
            os.kill(server(home, program), signal.SIGKILL)
            assert until(lambda name=name: len(shown(command, name)) == 2, command)  # type: ignore[misc]
        assert {name: shown(command, name)[1] for name in before} == before
        assert until(lambda: is_ready(base), command)
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def is_ready(base: str) -> bool:
    """Whether all is well again."""
    answer = ask("GET", f"{base}/health/ready")
    return answer is not None and answer.json()["status"] == "ok"


def server(home: Path, program: str) -> int:
    """The main process of one of this module's servers."""
    found = [
        pid
        for pid in processes.process_ids()
        if (line := processes.command_line(pid))
        and Path(line[0]).name == program
        and any(str(home) in it for it in line)
    ]
    assert len(found) == 1, found
    return found[0]


def children(parent: int) -> list[int]:
    """Processes started by `parent`."""
    is_child: Callable[[int], bool] = lambda pid: parent_of(pid) == parent  # noqa: E731 - a name for a filter
    return list(filter(is_child, processes.process_ids()))


def parent_of(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
