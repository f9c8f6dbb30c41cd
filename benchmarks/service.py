"""`make bench-service`: the API's latency at a steady rate, and its throughput beside a bare route that reads the same row.

    python -m benchmarks.service [--contacts N] [--seconds S] [--rounds N] [--rate N]

Everything is on this machine: PostgreSQL, Valkey, one process of the API and the client. The bare route (`benchmarks.bare_app`)
and ours are measured in turns, so that a machine that grows slower slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from app.core.config import PROJECT_ROOT, EmbeddedSettings, Settings
from app.core.database import connect
from app.core.errors import Broken
from app.core.logs import configure_logs
from app.embedded.servers import stop_all
from app.embedded.valkey import ensure_valkey
from benchmarks.http_load import Latencies, Target, closed_loop, open_loop
from benchmarks.machine import this_machine
from benchmarks.server import BenchServer, bench_server

MAKE_CONTACTS = """
INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, full_name, state_code, state_name, lada, city, line_type,
                      source)
SELECT true, true, '+5255' || (10000000 + n), '55' || (10000000 + n), 'PERSONA ' || n, 'CMX', 'Ciudad de México', '55',
       'Ciudad de México', 'mobile', 'bench' FROM generate_series(1, %s) n
"""
PATIENCE_S = 30.0
CONNECTIONS = 8
EMAIL = "bench@example.com"


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much. Units: seconds; requests a second."""

    contacts: int
    seconds: float
    rounds: int
    rate: float


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _served(factory: str, path: str, env: dict[str, str]) -> Iterator[str]:
    """uvicorn with one process, its address once `path` answers; stopped afterwards."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port), "--no-access-log"]
    process = subprocess.Popen([*command, "--log-level", "warning"], env=os.environ | env, cwd=PROJECT_ROOT)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(address + path):
            if time.monotonic() > deadline or process.poll() is not None:
                raise Broken(f"{factory} does not answer.", code="bench_server")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except OSError:
        return False


def _sign_in(address: str, password: str) -> str:
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{address}/api/v1/auth/login",
        data=json.dumps({"email": EMAIL, "password": password}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
        return str(json.load(answer)["access_token"])


def _prepare(url: str, options: Options, env: dict[str, str]) -> str:
    """Contacts, and an account that may see them; its password."""
    with closing(connect(url, autocommit=True)) as session:
        session.execute(MAKE_CONTACTS, (options.contacts,))
        session.execute("VACUUM ANALYZE contacts")
    password = secrets.token_urlsafe(16)
    command = [sys.executable, "-c", "from app.cli import main; main()", "users", "create", EMAIL, "--role", "manager"]
    subprocess.run(
        [*command, "--password-stdin"], input=password.encode(), env=os.environ | env, cwd=PROJECT_ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    return password


def _mix(first: int, contacts: int) -> Iterator[Target]:
    """What people do most, in random order."""
    dice = random.Random(7)
    while True:
        one = Target("one contact", f"/api/v1/contacts/{first + dice.randrange(contacts)}")
        yield dice.choices(
            (one, Target("page of contacts", "/api/v1/contacts?limit=50"), Target("own account", "/api/v1/auth/me"),
             Target("page of accounts", "/api/v1/users?limit=50"), Target("health", "/health", is_signed=False)),
            weights=(40, 15, 20, 10, 15),
        )[0]  # fmt: skip


def measure(server: BenchServer, options: Options, console: Console) -> None:
    """Both measurements, printed."""
    with server.fresh_database() as url, ExitStack() as around:
        home = around.enter_context(_valkey_home())
        env = {
            "DATABASE_URL": url, "REDIS_URL": ensure_valkey(home), "SMS_DATA_DIR": str(home.data_dir),
            "SMS_ENV_FILE": os.devnull, "SMS_LIMITS__PER_USER": "100000000/minute", "SMS_LOG__LEVEL": "WARNING",
            "SMS_LIMITS__PER_ADDRESS": "100000000/minute",
        }  # fmt: skip
        password = _prepare(url, options, env)
        with closing(connect(url)) as session:
            row = session.execute("SELECT min(id) FROM contacts").fetchone()
        first = int(row[0]) if row else 1
        ours = around.enter_context(_served("app.main:create_app", "/health", env))
        bare = around.enter_context(_served("benchmarks.bare_app:create_app", f"/contacts/{first}", env))
        token = _sign_in(ours, password)
        _throughput(ours, bare, token, first, options, console)
        mix = itertools.islice(_mix(first, options.contacts), 10**9)
        latencies = asyncio.run(open_loop(ours, token, mix, rate=options.rate, seconds=options.seconds * 2))
        _print_latencies(latencies, options, console)


@contextmanager
def _valkey_home() -> Iterator[Settings]:
    with TemporaryDirectory(prefix="sms-bench-") as path:
        Path(path).chmod(0o755)
        settings = Settings(_env_file=None, data_dir=Path(path), environment="test", embedded=EmbeddedSettings())
        try:
            yield settings
        finally:
            stop_all(settings, purge=True)


def _throughput(ours: str, bare: str, token: str, first: int, options: Options, console: Console) -> None:
    rates: dict[str, list[float]] = {"bare route": [], "ours": []}
    for _ in range(options.rounds):
        for name, address, path, signed in (
            ("bare route", bare, f"/contacts/{first}", False),
            ("ours", ours, f"/api/v1/contacts/{first}", True),
        ):
            target = Target(name, path, signed)
            rate = asyncio.run(closed_loop(address, token, target, seconds=options.seconds, connections=CONNECTIONS))
            rates[name].append(rate)
    table = Table(title="A single row, read as fast as answers come")
    for column in ("what", "requests/s (median)", "min-max", "of the bare route"):
        table.add_column(column)
    floor = median(rates["bare route"])
    for name, values in rates.items():
        span = f"{min(values):,.0f}-{max(values):,.0f}"
        table.add_row(name, f"{median(values):,.0f}", span, f"{median(values) / floor:.0%}")
    console.print(table)


def _print_latencies(found: Latencies, options: Options, console: Console) -> None:
    table = Table(title=f"Milliseconds at {options.rate:,.0f} requests a second")
    for column in ("what", "requests", "p50", "p95", "p99", "most"):
        table.add_column(column)
    everything = [value for values in found.of.values() for value in values]
    for name, values in [*sorted(found.of.items()), ("all", everything)]:
        cuts = quantiles(values, n=100)
        table.add_row(
            name, f"{len(values):,}", *(f"{cuts[at] * 1e3:.1f}" for at in (49, 94, 98)), f"{max(values) * 1e3:.1f}"
        )
    console.print(table)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contacts", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200)
    given = parser.parse_args()
    configure_logs("WARNING")
    console = Console(width=140)
    machine = this_machine()
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, Python {machine.python}, load"
        f" {machine.load_before} before; {given.contacts:,} contacts, {CONNECTIONS} connections, medians of {given.rounds}"
    )
    with bench_server(None) as server:
        measure(server, Options(given.contacts, given.seconds, given.rounds, given.rate), console)


if __name__ == "__main__":
    main()
