"""Bulk settings: applied, remembered, and put back after success, failure and kill."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from app.core.config import Settings
from app.core.database import connect
from app.core.errors import Conflict
from app.models.migration import MIGRATION_LOCK
from app.services import tuning_service

# A server has one configuration, and other tests migrate on the same server at the same time: the mechanism is tested
# with settings that nothing else touches, one of each kind (duration, memory, plain number).
SETTINGS = {"checkpoint_warning": "20min", "wal_keep_size": "32MB", "bgwriter_lru_multiplier": "3"}
pytestmark = pytest.mark.xdist_group("server_settings")
AUTO_CONF = "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE %s AND name = ANY(%s)"


@pytest.fixture
def server(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated database; the three settings of its server are left unset, and are this test's alone meanwhile."""
    monkeypatch.setattr(tuning_service, "BULK_SETTINGS", SETTINGS)
    with (settings.data_dir / "tuning.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a run share one server
        assert auto_conf(database_url) == {}
        yield database_url
        with connect(database_url, autocommit=True) as connection:
            for name in SETTINGS:
                connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))
            connection.execute("SELECT pg_reload_conf()")


def auto_conf(url: str) -> dict[str, str]:
    with connect(url) as connection:
        return dict(connection.execute(AUTO_CONF, ("%postgresql.auto.conf", list(SETTINGS))).fetchall())


def alter(connection: psycopg.Connection, name: str, value: str) -> None:
    connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def saved(url: str) -> dict[str, str | None]:
    with connect(url) as connection:
        return dict(connection.execute("SELECT name, previous FROM server_settings_saved").fetchall())


def test_bulk_and_back_leaves_no_trace(server: str) -> None:
    result = tuning_service.apply_bulk(server)
    assert result.refused is None
    assert {setting.name: setting.after for setting in result.applied} == SETTINGS
    assert saved(server) == dict.fromkeys(SETTINGS)
    assert auto_conf(server) == SETTINGS
    restored = tuning_service.restore(server)
    assert {setting.name for setting in restored.applied} == {setting.name for setting in result.applied}
    assert auto_conf(server) == {}
    assert saved(server) == {}
    assert tuning_service.restore(server).applied == ()


def test_value_that_an_administrator_had_set_comes_back(server: str) -> None:
    with connect(server, autocommit=True) as connection:
        alter(connection, "checkpoint_warning", "11min")
        connection.execute("SELECT pg_reload_conf()")
    tuning_service.apply_bulk(server)
    tuning_service.apply_bulk(server)
    assert saved(server)["checkpoint_warning"] == "11min"
    tuning_service.restore(server)
    assert auto_conf(server)["checkpoint_warning"] == "11min"


def test_setting_that_is_beyond_ours_is_left_alone(server: str) -> None:
    with connect(server, autocommit=True) as connection:
        alter(connection, "checkpoint_warning", "1h")
        connection.execute("SELECT pg_reload_conf()")
    assert "checkpoint_warning" not in {setting.name for setting in tuning_service.apply_bulk(server).applied}


@pytest.mark.parametrize("step", ["_alter", "_reload"])
def test_kill_while_applying_or_restoring_is_mended(server: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for action in (tuning_service.apply_bulk, tuning_service.restore):
        with monkeypatch.context() as patch:
            patch.setattr(tuning_service, step, die)
            with pytest.raises(KeyboardInterrupt):
                action(server)
        assert saved(server)
        if action is tuning_service.apply_bulk:
            tuning_service.apply_bulk(server)
    tuning_service.restore_if_abandoned(server)
    assert auto_conf(server) == {}
    assert saved(server) == {}


def test_settings_of_a_running_migration_are_not_taken_away(server: str) -> None:
    applied = tuning_service.apply_bulk(server).applied
    with connect(server, autocommit=True) as migration:
        migration.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        assert tuning_service.restore_if_abandoned(server).applied == ()
        assert len(saved(server)) == len(applied)
    assert len(tuning_service.restore_if_abandoned(server).applied) == len(applied)


@pytest.mark.parametrize("grant", ["", "GRANT pg_read_all_settings TO plain_loader"])
def test_role_that_may_not_goes_on_without(server: str, grant: str) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain_loader")
        connection.execute("CREATE ROLE plain_loader LOGIN PASSWORD 'loader'")
        connection.execute("GRANT ALL ON server_settings_saved TO plain_loader")
        if grant:
            connection.execute(grant.encode())
            connection.execute("GRANT SELECT ON pg_file_settings TO plain_loader")
            connection.execute("GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO plain_loader")
    try:
        plain = make_url(server).set(username="plain_loader", password="loader")
        result = tuning_service.apply_bulk(plain.render_as_string(hide_password=False))
        assert result.applied == ()
        assert result.refused is not None
        assert "denied" in result.refused
        assert saved(server) == {}
    finally:
        with connect(server, autocommit=True) as connection:
            connection.execute("DROP OWNED BY plain_loader")
            connection.execute("DROP ROLE plain_loader")


def test_show_says_what_would_come_back(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_service, "SHOWN", ("checkpoint_warning", "fsync", "no_such_setting"))
    tuning_service.apply_bulk(server)
    shown = {setting.name: (setting.before, setting.after) for setting in tuning_service.show(server)}
    assert shown == {"checkpoint_warning": ("20min", None), "fsync": (shown["fsync"][0],) * 2}


def test_bulk_settings_need_somewhere_to_be_remembered(empty_database_url: str) -> None:
    with pytest.raises(Conflict) as caught:
        tuning_service.apply_bulk(empty_database_url)
    assert caught.value.code == "schema_behind"


@pytest.mark.parametrize(("free_gb", "expected"), [(15, "5120MB"), (0, "1024MB"), (1000, "32GB"), (None, "32GB")])
def test_write_ahead_log_is_bounded_by_the_free_disk(
    database_url: str, free_gb: int | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_service, "free_disk", lambda _: None if free_gb is None else free_gb << 30)
    with connect(database_url) as connection:
        assert tuning_service.bulk_settings(connection)["max_wal_size"] == expected
