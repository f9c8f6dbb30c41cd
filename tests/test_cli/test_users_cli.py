"""smsctl users, api-keys and keys: what they take from standard input, what they print, and with which exit code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.cli.context import console
from app.core.config import Settings
from app.core.database import connect
from app.core.errors import AppError, Conflict, InvalidInput, NotFound
from app.services.auth_service import SignIn
from tests.sign_in import PASSWORD, open_desk, somewhere

EMAIL = "ana@example.com"
CREATE = ("users", "create", EMAIL, "--role", "admin", "--password-stdin")


@pytest.fixture(autouse=True)
def _here(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 250)  # made when the module was read, with the width of then
    monkeypatch.setattr("app.cli.transactions.application_url", lambda: database_url)
    for module in ("users", "keys"):
        monkeypatch.setattr(f"app.cli.{module}.get_settings", lambda: settings)


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def done(*arguments: str, stdin: str | bytes = "") -> Any:
    """What a command printed as JSON."""
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments: str, stdin: str | bytes = "") -> AppError:
    result = run(*arguments, stdin=stdin)
    assert isinstance(result.exception, AppError), result.output
    return result.exception


async def sign_in(settings: Settings, url: str, password: str, token: str | None = None) -> SignIn:
    async with open_desk(settings, url, None) as desk:
        if token is not None:
            await desk.auth.accept_invitation(token, password, somewhere())
        return await desk.auth.login(EMAIL, password, None, somewhere())


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_account_made_with_a_line_of_standard_input_signs_in(settings: Settings, database_url: str, end: str) -> None:
    result = run(*CREATE, "--name", "Ana [bold]", stdin=f"{PASSWORD}{end}")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "ana@example.com (admin) was made" in result.stderr
    assert asyncio.run(sign_in(settings, database_url, PASSWORD)).access_token


@pytest.mark.parametrize(
    "stdin",
    ["", "\n", f"{PASSWORD}\n\n", f"{PASSWORD}\nmore\n", b"\xff\xfe" * 9, "x" * 5000, "password1234\n", "short\n"],
)
def test_what_is_not_one_good_line_is_refused(stdin: str | bytes) -> None:
    error = refusal(*CREATE, stdin=stdin)
    assert isinstance(error, InvalidInput)
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert done("users", "list") == {"users": []}


def test_name_that_would_move_the_cursor_is_refused() -> None:
    assert refusal(*CREATE, "--name", "Ana \u202e", stdin=PASSWORD).code == "name_invalid"


def test_what_cannot_be_done_says_why_in_one_line() -> None:
    done(*CREATE, stdin=PASSWORD)
    assert isinstance(refusal(*CREATE, stdin=PASSWORD), Conflict)
    assert isinstance(refusal("users", "create", EMAIL, "--role", "admin"), InvalidInput)
    assert isinstance(refusal("users", "create", "nobody", *CREATE[3:], stdin=PASSWORD), InvalidInput)
    assert isinstance(refusal("users", "disable", "bob@example.com"), NotFound)
    for last in (("disable", EMAIL), ("role", EMAIL, "analyst")):
        assert refusal("users", *last).code == "last_admin"
    assert isinstance(refusal("users", "reset-second-factor", EMAIL), Conflict)
    assert run("users", "create", EMAIL, "--role", "emperor", "--password-stdin").exit_code == 2


def test_account_is_changed_shut_and_opened(database_url: str) -> None:
    done(*CREATE, stdin=PASSWORD)
    bob = ("users", "create", "bob@example.com", "--role", "analyst", "--password-stdin")
    assert done(*bob, stdin=PASSWORD)["user"]["version"] == 1
    assert done("users", "role", "bob@example.com", "admin")["user"]["role"] == "admin"
    assert done("users", "disable", EMAIL)["user"]["disabled_at"]
    shown = run("users", "list")
    assert shown.exit_code == 0
    assert "disabled" in shown.stderr
    assert [user["email"] for user in done("users", "list")["users"]] == [EMAIL, "bob@example.com"]
    assert done("users", "enable", EMAIL)["user"]["disabled_at"] is None
    with connect(database_url) as connection:
        events = connection.execute("SELECT DISTINCT actor, user_agent FROM audit_events").fetchall()
    assert events == [("system", "smsctl")]


def test_invited_account_signs_in_with_the_token_that_was_printed(settings: Settings, database_url: str) -> None:
    first = run("users", "invite", EMAIL, "--role", "manager", "--name", "Ana")
    again = done("users", "invite", EMAIL)
    assert first.exit_code == 0
    assert len(first.stdout.strip()) == 43
    assert again["user"]["role"] == "manager"
    assert asyncio.run(sign_in(settings, database_url, PASSWORD, again["token"])).access_token
    assert isinstance(refusal("users", "invite", "bob@example.com"), NotFound)


def test_key_for_a_machine_is_printed_alone_and_once() -> None:
    done("users", "create", EMAIL, "--role", "service", "--password-stdin", stdin=PASSWORD)
    made = run(
        "api-keys", "create", EMAIL, "--name", "scrape [red]", "--scope", "metrics:read", "--scope", "contacts:read"
    )
    assert made.stdout.startswith("sms_")
    assert len(made.stdout.splitlines()) == 1
    (key,) = done("api-keys", "list")["api_keys"]
    assert (key["name"], key["scopes"], key["owner_email"]) == (
        "scrape [red]",
        ["contacts:read", "metrics:read"],
        EMAIL,
    )
    assert made.stdout.strip() not in str(key)
    assert run("api-keys", "revoke", key["public_id"]).exit_code == 0
    assert "revoked" in run("api-keys", "list").stderr
    assert isinstance(refusal("api-keys", "create", EMAIL, "--name", "n", "--scope", "audit:read"), AppError)


def test_signing_keys_are_rotated_and_retired() -> None:
    for _ in range(2):
        assert run("keys", "rotate").exit_code == 0
    new, old = done("keys", "list")["keys"]
    assert (new["signs"], old["signs"]) == (True, False)
    assert isinstance(refusal("keys", "retire", new["kid"]), Conflict)
    assert run("keys", "retire", old["kid"]).exit_code == 0
    assert [key["retired_at"] is None for key in done("keys", "list")["keys"]] == [True, False]
    assert "verifies" not in run("keys", "list").stderr
    assert isinstance(refusal("keys", "retire", "none"), NotFound)


def test_database_without_the_schema_says_what_to_run(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.transactions.application_url", lambda: empty_database_url)
    error = refusal("users", "list")
    assert error.code == "schema_behind"
    assert "smsctl db upgrade" in str(error)
