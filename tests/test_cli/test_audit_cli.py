"""smsctl audit: what it prints, with which exit code, and that nothing in an event reaches the terminal raw."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from app.cli.audit import group
from app.cli.context import console
from app.core.database import connect
from app.core.errors import Broken, InvalidInput
from app.models.permission import SYSTEM, Origin
from app.services import audit_service


@pytest.fixture(autouse=True)
def _database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 200)  # made when the module was read, with the width of then
    monkeypatch.setattr("app.cli.audit.database_url", lambda: database_url)
    with connect(database_url) as connection:
        audit_service.record_sync(connection, SYSTEM, "user.create", object_type="user", object_id="u-1")
        audit_service.record_sync(
            connection, SYSTEM, "user.\x1b[31m[bold]", origin=Origin("192.0.2.9"), detail={"email": "ana@example.com"}
        )


def tamper(url: str) -> None:
    with connect(url) as superuser:
        superuser.execute("ALTER TABLE audit_events DISABLE TRIGGER append_only")
        superuser.execute("UPDATE audit_events SET actor = 'nobody' WHERE id = 1")
        superuser.execute("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER append_only")


def test_verify_of_a_chain_that_holds_says_its_end_and_takes_it_as_anchor() -> None:
    result = CliRunner().invoke(group, ["verify"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 events" in result.stderr
    verdict = json.loads(CliRunner().invoke(group, ["verify", "--json"]).stdout)
    assert (verdict["ok"], verdict["events"]) == (True, 2)
    anchor = f"{verdict['end']['event_id']}:{verdict['end']['hash']}"
    assert anchor in result.stderr
    assert CliRunner().invoke(group, ["verify", "--anchor", anchor]).exit_code == 0


def test_verify_of_a_changed_chain_names_the_event_and_is_broken(database_url: str) -> None:
    tamper(database_url)
    result = CliRunner().invoke(group, ["verify"])
    assert isinstance(result.exception, Broken)
    assert "event 1 was changed" in str(result.exception)
    answer = CliRunner().invoke(group, ["verify", "--json"])
    assert isinstance(answer.exception, Broken)
    assert json.loads(answer.stdout)["first_bad_id"] == 1


@pytest.mark.parametrize("anchor", ["7", "x:00", "1:abc", ":" + "0" * 64, "-1:" + "0" * 64])
def test_anchor_that_is_none_is_refused(anchor: str) -> None:
    result = CliRunner().invoke(group, ["verify", f"--anchor={anchor}"])
    assert isinstance(result.exception, InvalidInput)


def test_list_shows_the_newest_first_and_no_control_character() -> None:
    result = CliRunner().invoke(group, ["list"])
    assert result.exit_code == 0
    assert "\x1b" not in result.stderr
    assert "[bold]" in result.stderr
    assert result.stderr.index("192.0.2.9") < result.stderr.index("user u-1")
    events = json.loads(CliRunner().invoke(group, ["list", "--json", "--limit", "1"]).stdout)["events"]
    assert [(event["id"], event["address"], event["detail"]) for event in events] == [
        (2, "192.0.2.9", {"email": "ana@example.com"})
    ]
