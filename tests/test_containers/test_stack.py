"""The platform as docker-compose.yml puts it together, without the containers: nginx, API, PostgreSQL, Valkey, secrets."""

from __future__ import annotations

import json
import secrets as randomness
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.main import main as uvicorn_main

from app.core.config import Settings
from app.embedded.api_process import ApiChild
from app.embedded.processes import choose_port
from tests.house_support import ROOT
from tests.test_containers.nginx_support import NGINX, Answer, make_secrets, nginx
from tests.test_containers.promql_support import metrics_in
from tests.test_containers.servers_support import Cache, Server
from tests.test_containers.stack_support import Stack, api, environment_of, healthcheck
from tests.test_containers.test_monitoring import expressions

needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed: `make setup-system` brings it (Debian, as root)"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, secrets: Path, server: Server, cache: Cache) -> Iterator[Stack]:
    """Schema job, API with as many processes as the Compose file asks for, nginx."""
    directory = tmp_path_factory.mktemp("stack")
    schema = environment_of("schema", secrets, server, cache)
    done = subprocess.run(
        [sys.executable, ROOT / "docker/smsctl", "db", "upgrade"],
        env=schema, cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    environment = environment_of("api", secrets, server, cache, SMS_API__TRUSTED_PROXIES='["127.0.0.1"]')
    with api(directory, environment) as port, nginx(directory, secrets, port) as gate:
        yield Stack(gate, port, environment_of("cli", secrets, server, cache), directory / "api.log")


def document(answer: Answer) -> Any:
    return json.loads(answer.body)


@needs_nginx
def test_the_service_is_ready_through_nginx(stack: Stack) -> None:
    answer = stack.gate.ask("/health/ready")
    assert answer.status == 200, answer.body
    assert {check["name"]: check["status"] for check in document(answer)["checks"]} == dict.fromkeys(
        ("database", "schema", "cache", "broker"), "ok"
    )


@needs_nginx
def test_no_header_is_there_twice_and_the_security_headers_are(stack: Stack) -> None:
    for path in ("/health", "/docs", "/openapi.json", "/api/v1/nowhere", "/metrics"):
        headers = stack.gate.ask(path).headers
        assert {name: values for name, values in headers.items() if len(values) > 1} == {}, path
        wanted = {"strict-transport-security", "x-content-type-options", "content-security-policy", "x-request-id"}
        assert wanted <= set(headers), path
        assert headers["server"] == ["nginx"]


@needs_nginx
def test_one_request_id_goes_from_end_to_end(stack: Stack) -> None:
    given = f"end-to-end-{randomness.token_hex(4)}"
    answer = stack.gate.ask("/api/v1/nowhere?phone=5512345678", headers=[("X-Request-ID", given)])
    assert answer.status == 404
    assert answer.one("x-request-id") == document(answer)["request_id"] == given
    assert f'"request_id":"{given}"' in stack.gate.log("access.log", until=given)
    line = stack.line(request_id=given, event="request")
    assert line["status"] == 404
    assert "5512345678" not in stack.log.read_text(encoding="utf-8")


@needs_nginx
def test_the_api_sees_the_address_that_nginx_saw(stack: Stack) -> None:
    given = f"whose-address-{randomness.token_hex(4)}"
    spoofed = [("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.7"), ("X-Request-ID", given)]
    stack.gate.ask("/api/v1/nowhere", headers=spoofed)
    assert stack.line(request_id=given, event="request")["client"] == "127.0.0.1"


@needs_nginx
def test_problems_look_the_same_whoever_gives_them(stack: Stack) -> None:
    """nginx's 404 of /metrics and the application's of an address that is none."""
    own, other = stack.gate.ask("/metrics"), stack.gate.ask("/api/v1/nowhere")
    assert own.one("content-type") == other.one("content-type")
    same = ("type", "title", "status", "code")
    assert {name: document(own)[name] for name in same} == {name: document(other)[name] for name in same}


@needs_nginx
def test_metrics_are_given_to_the_token_inside_and_to_nobody_else(stack: Stack, secrets: Path) -> None:
    token = (secrets / "sms_api__metrics_token").read_text(encoding="utf-8")
    assert stack.gate.ask("/metrics", headers=[("Authorization", f"Bearer {token}")]).status == 404
    assert stack.inside("/metrics")[0] == 401
    status, text = stack.inside("/metrics", token)
    assert status == 200
    shown = {line.partition(" ")[0].partition("{")[0] for line in text.splitlines() if not line.startswith("#")}
    wanted = {name for _, expression in expressions() for name in metrics_in(expression)}
    without_traffic = {"up", "sms_http_faults_total", "sms_http_requests_limited_total"}
    assert wanted - without_traffic <= shown


@needs_nginx
def test_a_person_is_made_by_the_command_line_and_signs_in_over_https(stack: Stack) -> None:
    email, password = f"ana-{randomness.token_hex(4)}@example.com", randomness.token_urlsafe(24)
    made = stack.smsctl("users", "create", email, "--role", "admin", "--password-stdin", given=password)
    assert made.returncode == 0, made.stderr
    kind = [("Content-Type", "application/json")]
    wrong = stack.gate.ask(
        "/api/v1/auth/login", method="POST", headers=kind,
        body=json.dumps({"email": email, "password": password[::-1]}).encode(),
    )  # fmt: skip
    assert wrong.status == 401
    answer = stack.gate.ask(
        "/api/v1/auth/login", method="POST", headers=kind,
        body=json.dumps({"email": email, "password": password}).encode(),
    )  # fmt: skip
    assert answer.status == 200, answer.body
    assert {"access_token", "refresh_token", "token_type", "expires_in"} <= set(document(answer))
    bearer = [("Authorization", f"Bearer {document(answer)['access_token']}")]
    assert stack.gate.ask("/api/v1/contacts", headers=bearer).status == 200


def test_health_is_told_to_the_container(secrets: Path, server: Server, cache: Cache) -> None:
    """Where nothing answers the check fails and says so."""
    environment = environment_of("api", secrets, server, cache, SMS_API__PORT=str(choose_port(None)))
    asked = healthcheck(environment)
    assert asked.returncode == 1
    assert asked.stdout.startswith("no answer")


@pytest.mark.parametrize(
    ("secret", "value", "code"),
    [
        ("sms_secret_key", "", "secret_key"),
        ("database_url", "", "database_url"),
        ("sms_secret_key", "a" * 64, "guessable"),
    ],
)
def test_a_container_without_a_proper_secret_ends_and_says_why(
    tmp_path: Path, server: Server, cache: Cache, secret: str, value: str, code: str
) -> None:
    own = make_secrets(tmp_path / "secrets")
    environment = environment_of("api", own, server, cache)
    mounted = Path(environment["SMS_SECRETS_DIR"]) / secret
    mounted.write_text(value, encoding="utf-8") if value else mounted.unlink()
    ended = subprocess.run(
        [sys.executable, ROOT / "docker/serve.py"],
        env=environment,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert code in json.loads(ended.stderr.splitlines()[-1])["code"]


def test_the_container_starts_uvicorn_as_smsctl_up_does(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda application, **options: given.update(options, app=application))
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    serve = __import__("serve")
    serve.run(settings)
    child = ApiChild(settings, prepare=lambda: pytest.fail("it is not started"), port=settings.api.port)
    arguments = list(child._command())
    command: Any = uvicorn_main
    taken = command.make_context("uvicorn", arguments[arguments.index("uvicorn") + 1 :]).params
    assert {name: taken[name] for name in given} == given
