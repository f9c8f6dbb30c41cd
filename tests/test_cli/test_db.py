"""smsctl db: what it prints, and where."""

from __future__ import annotations

import psycopg
import pytest
from typer.testing import CliRunner

from app.cli.db import group
from app.core.database import connect
from app.services import schema_service, tuning_service
from app.services.tuning_service import TuneResult


@pytest.fixture(autouse=True)
def _database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.db.database_url", lambda *, admin=False: database_url)  # noqa: ARG005


def test_upgrade_of_a_current_schema_says_so() -> None:
    result = CliRunner().invoke(group, ["upgrade"])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert schema_service.head() in result.stderr


def test_url_is_one_that_libpq_takes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = database_url.replace("postgresql://", "postgresql+psycopg://")
    monkeypatch.setattr("app.cli.db.database_url", lambda: written)
    result = CliRunner().invoke(group, ["url"])
    assert result.exit_code == 0
    psycopg.connect(result.stdout.strip()).close()


def test_check_passes_while_migrations_and_models_agree() -> None:
    result = CliRunner().invoke(group, ["check"])
    assert result.exit_code == 0
    assert "agree" in result.stderr


def test_check_prints_what_differs_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_service, "check_shipped", lambda _: ["add_table surplus"])
    result = CliRunner().invoke(group, ["check"])
    assert (result.exit_code, result.stdout) == (1, "add_table surplus\n")


def test_tune_names_what_it_found_and_refusals_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(group, ["tune", "show"])
    assert shown.exit_code == 0
    assert "max_wal_size" in shown.stderr
    monkeypatch.setattr(tuning_service, "apply_bulk", lambda _: TuneResult((), "settings were left as they are"))
    bulk = CliRunner().invoke(group, ["tune", "bulk"])
    assert bulk.exit_code == 0
    assert "settings were left as they are" in bulk.stderr


def test_tune_serve_has_nothing_to_do_on_a_server_nobody_changed(database_url: str) -> None:
    result = CliRunner().invoke(group, ["tune", "serve"])
    assert result.exit_code == 0
    with connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM server_settings_saved").fetchone() == (0,)
