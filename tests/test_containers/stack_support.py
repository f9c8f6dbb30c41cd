"""The API as its container runs it: docker/serve.py with the environment and the secrets of the Compose file."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.embedded.processes import choose_port, clean_environment
from tests.house_support import ROOT
from tests.test_containers.compose_support import interpolated
from tests.test_containers.nginx_support import Gate, process
from tests.test_containers.servers_support import Cache, Server, compose_service

WAITS_S = 60.0


@dataclass(frozen=True, slots=True)
class Stack:
    """nginx, the API behind it, and the environment that both the API and the command line have."""

    gate: Gate
    port: int
    environment: dict[str, str]
    log: Path

    def smsctl(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command of the service `cli`."""
        return subprocess.run(
            [sys.executable, ROOT / "docker/smsctl", *arguments],
            input=given, env=self.environment, cwd=ROOT, check=False, capture_output=True, text=True,
        )  # fmt: skip

    def inside(self, path: str, token: str = "") -> tuple[int, str]:
        """The API asked within its network, past nginx."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def line(self, **wanted: Any) -> dict[str, Any]:
        """The line of the API's log with these values, once it is there."""
        deadline = time.monotonic() + WAITS_S
        while True:
            for text in self.log.read_text(encoding="utf-8").splitlines():
                line: dict[str, Any] = json.loads(text)
                if all(line.get(name) == value for name, value in wanted.items()):
                    return line
            assert time.monotonic() < deadline, f"no line with {wanted}"
            time.sleep(0.05)


def environment_of(service: str, secrets: Path, server: Server, cache: Cache, **other: str) -> dict[str, str]:
    """The environment that the Compose file gives a service, its secrets as files, with this machine's addresses."""
    mounted = secrets.parent / f"mounted-{service}"
    mounted.mkdir(exist_ok=True)
    here = {"database_url": server.url("database_url"), "redis_url": cache.url()}
    here["database_admin_url"] = server.url("database_admin_url")
    for name in compose_service(service)["secrets"]:
        (mounted / name).write_text(here.get(name) or (secrets / name).read_text(encoding="utf-8"), encoding="utf-8")
    given = {name: interpolated(value) for name, value in compose_service(service)["environment"].items()}
    return {
        **clean_environment(),
        **given,
        "SMS_SECRETS_DIR": str(mounted),
        "SMS_ENV_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(secrets.parent),
        **other,
    }


@contextmanager
def api(directory: Path, environment: dict[str, str]) -> Iterator[int]:
    """The command of docker/Dockerfile, up to its first healthy answer; its port."""
    port = choose_port(None)
    environment |= {"SMS_API__PORT": str(port), "SMS_API__HOST": "127.0.0.1"}
    with process([sys.executable, str(ROOT / "docker/serve.py")], port, directory / "api.log", environment):
        deadline = time.monotonic() + WAITS_S
        while healthcheck(environment).returncode != 0:
            assert time.monotonic() < deadline, (directory / "api.log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield port


def healthcheck(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The HEALTHCHECK of docker/Dockerfile."""
    return subprocess.run(
        [sys.executable, ROOT / "docker/healthcheck.py"], env=environment, check=False, capture_output=True, text=True
    )
