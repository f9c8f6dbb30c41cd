"""docs/api.md: its journeys are typed into a shell as they stand there, its tables are those of the code."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.api.problems import CODES
from app.core.config import AuthSettings, LimitSettings, Settings
from app.embedded import processes
from app.models.user import Role
from app.services.auth_service import WHY
from app.services.session_service import Refusal
from tests.house_support import ROOT, dotted, modules
from tests.kill_support import environment
from tests.test_api.support import fill_contacts, make_accounts, settings_for

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|json|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
JOURNEY = re.compile(r"^### (\d\. .+)$", re.MULTILINE)
MARK = "--- end of block ---"
PATIENCE_S = 60.0

OF_THE_API = (
    "app/api/", "app/core/async_database.py", "app/core/cursors.py", "app/core/deps.py", "app/services/api_key_service.py",
    "app/services/auth_service.py", "app/services/contact_service.py", "app/services/identity_service.py",
    "app/services/login_throttle.py", "app/services/migration_service.py", "app/services/password_service.py",
    "app/services/second_factor_service.py", "app/services/session_service.py", "app/services/user_service.py",
)  # fmt: skip
"""Where what the API answers is raised."""


@dataclass(frozen=True, slots=True)
class Step:
    """A block that is typed, and what the page says comes out; None: it does not say."""

    typed: str
    shown: str | None


def steps() -> list[Step]:
    """Every shell block of the journeys with the answer below it."""
    blocks = BLOCK.findall(TEXT.split("\n## Journeys\n", 1)[1])
    following = [*blocks[1:], ("sh", "")]
    return [
        Step(body, shown if kind != "sh" else None)
        for (is_typed, body), (kind, shown) in zip(blocks, following, strict=True)
        if is_typed == "sh"
    ]


STEPS = steps()


def is_shown(shown: str, printed: str) -> bool:
    """Whether `printed` is what the page shows; `…` there is anything, and line ends and spaces count for nothing."""
    parts = [re.escape(re.sub(r"\s+", "", part)) for part in shown.split("…")]
    return re.fullmatch(".*?".join(parts), re.sub(r"\s+", "", printed), re.DOTALL) is not None


@pytest.fixture(scope="module")
def service(
    settings: Settings, module_database_url: str, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """uvicorn as its own process, as it is started anywhere; what a reader of the page has: address, account, password."""
    fill_contacts(module_database_url, 60)
    account = make_accounts(settings_for(settings, module_database_url, valkey_url), [Role.ADMIN])[Role.ADMIN]
    port, scratch = processes.choose_port(None), tmp_path_factory.mktemp("uvicorn")
    address = f"http://127.0.0.1:{port}"
    env = environment(settings.data_dir, DATABASE_URL=module_database_url, REDIS_URL=valkey_url)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "app.main:create_app",
        "--factory",
        "--port",
        str(port),
        "--no-proxy-headers",
    ]
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        wait_for(address, process, scratch / "log")
        yield {"API": address, "EMAIL": account.email, "PASSWORD": account.password}
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0 or process.returncode < 0


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    pytest.fail(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def printed(service: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block printed, all of them typed into one shell."""
    script = "".join(f"{step.typed}\necho\necho '{MARK}'\n" for step in STEPS)
    env = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "LC_ALL": "C.UTF-8",
        **service,
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path_factory.mktemp("shell"), env=env, check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    return ended.stdout.split(MARK)[:-1]


def test_there_are_five_journeys() -> None:
    assert [title.partition(".")[0] for title in JOURNEY.findall(TEXT)] == ["1", "2", "3", "4", "5"]
    assert len(STEPS) > 10


def test_what_the_page_shows_comes_out(printed: list[str], subtests: pytest.Subtests) -> None:
    for step, found in zip(STEPS, printed, strict=True):
        with subtests.test(step.typed.splitlines()[-1]):
            assert is_shown(step.shown or "", found), f"{step.typed}\nprinted {found}\nnot {step.shown}"


def test_codes_of_the_page_are_those_of_the_api() -> None:
    table = TEXT.split("\n## Problems\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| [\d, ]+ \| (`.*?`) \|", table, re.MULTILINE)
    told = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    kept_in_tables = {*CODES.values(), *Refusal, *WHY}
    assert sorted((codes_of(OF_THE_API) | kept_in_tables) - told) == []
    assert sorted(told - codes_of(("app/",)) - kept_in_tables) == []


def codes_of(paths: tuple[str, ...]) -> set[str]:
    """Codes that are written down where something is raised in these modules."""
    found = set()
    for module in modules("app"):
        if module.path.startswith(paths):
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call):
                    given = [it.value for it in node.keywords if it.arg == "code"]
                    is_refusal = dotted(node.func).rpartition(".")[2] in (
                        "Refusal",
                        "Problem",
                        "_refuse",
                        "_unauthenticated",
                    )
                    given += node.args[:2] if is_refusal else []
                    found |= {
                        str(it.value) for it in given if isinstance(it, ast.Constant) and isinstance(it.value, str)
                    }
    return found


def test_figures_of_the_page_are_the_defaults() -> None:
    auth, limits = AuthSettings(), LimitSettings()
    assert f"seconds: {auth.access_minutes * 60} " in TEXT
    assert f"{auth.refresh_days} days" in TEXT
    assert f"{auth.retry_window_s} seconds" in re.sub(r"\s+", " ", TEXT)
    assert f"{auth.invitation_hours} hours" in TEXT
    for limit in (limits.per_user, limits.per_key, limits.per_address):
        assert f"{int(limit.partition('/')[0]):,} a {limit.partition('/')[2]}" in TEXT
    accounts, addresses = auth.logins_per_account.partition("/")[0], auth.logins_per_address.partition("/")[0]
    assert f"{accounts} in 15 minutes for an account, {addresses} for an address" in TEXT
