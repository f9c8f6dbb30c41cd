"""The API stays up and right while a migration runs: no request of any kind fails, and nothing half-loaded is told."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from app.core.config import Settings
from app.core.plan_store import packaged_plan
from app.ingest.synthetic import SyntheticOptions, generate
from app.models.user import Role
from tests.kill_support import environment, running
from tests.test_api.support import Service, service, settings_for

pytestmark = pytest.mark.kill
ROWS = 100_000
KINDS = 7


def test_no_request_fails_while_a_migration_runs(
    settings: Settings, database_url: str, valkey_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "numeros.db"
    generate(path, SyntheticOptions(rows=ROWS, seed=3, dirty=0.01), packaged_plan())
    arguments = ["migrate", "run", str(path), "--database-url", database_url, "--batch-size", "5000", "--json"]
    with service(settings_for(settings, database_url, valkey_url)) as api:
        for role in (Role.ADMIN, Role.ANALYST):
            api.token(role)
        is_over = threading.Event()
        with ThreadPoolExecutor(3) as pool, running(tmp_path, arguments, environment(tmp_path / "var")) as command:
            askers = [pool.submit(ask_on, api, number, is_over) for number in range(3)]
            code = command.wait()
            is_over.set()
            seen: Counter[tuple[str, int]] = sum((asker.result() for asker in askers), Counter())
        assert code == 0, command.stderr
        assert {status for _, status in seen} <= {200, 404}, seen
        assert {what for what, _ in seen} == {f"kind {number}" for number in range(KINDS)}
        runs = api.ask("GET", "/api/v1/migrations", Role.ANALYST).json()["items"]
        assert [(run["status"], run["rows_read"]) for run in runs] == [("completed", runs[0]["source_rows"])]
        report = api.ask("GET", f"/api/v1/migrations/{runs[0]['id']}/report", Role.ANALYST)
        assert report.status_code == 200
        assert report.json()["quality"]["loaded"] == runs[0]["loaded"]
        first = api.ask("GET", "/api/v1/contacts?limit=1", Role.ADMIN).json()["items"][0]
        assert api.ask("GET", f"/api/v1/contacts/{first['id']}", Role.ADMIN).status_code == 200


def ask_on(api: Service, seed: int, is_over: threading.Event) -> Counter[tuple[str, int]]:
    """Ask this and that until the migration is over, and at least once each; how often each was answered how."""
    seen: Counter[tuple[str, int]] = Counter()
    number = seed
    while not is_over.is_set() or number < seed + KINDS:
        answer = ask(api, number)
        seen[f"kind {number % KINDS}", answer.status_code] += 1
        if number % KINDS == 0:
            # A machine this busy may let Valkey's answer be late: then it works degraded, and says so.
            assert {it["name"]: it["status"] for it in answer.json()["checks"]}["database"] == "ok"
        number += 1
    return seen


def ask(api: Service, number: int) -> httpx2.Response:
    """One request, each number of another kind."""
    if number % KINDS == 5:
        return api.ask("POST", "/api/v1/auth/login", json=credentials(api))
    path, role = (
        ("/health/ready", None),
        ("/api/v1/contacts?limit=20&state_code=CMX", Role.ANALYST),
        (f"/api/v1/contacts/{number * 37 + 1}", Role.ADMIN),
        ("/api/v1/migrations", Role.ANALYST),
        ("/api/v1/auth/me", Role.ADMIN),
        ("", None),
        ("/api/v1/audit?limit=5", Role.ADMIN),
    )[number % KINDS]
    return api.ask("GET", path, role)


def credentials(api: Service) -> dict[str, str]:
    """What an account signs in with."""
    account = api.accounts[Role.MARKETER]
    return {"email": account.email, "password": account.password}
