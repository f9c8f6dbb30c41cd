"""Real migrations, really killed: whatever dies at whatever moment, the same command goes on to the same end.

SMS_KILL_SEEDS=7,8,9 kills at other moments than the usual ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.core.config import EmbeddedSettings, Settings
from app.core.database import connect
from app.core.plan_store import packaged_plan
from app.embedded.postgres import ensure_postgres, running_postgres
from app.embedded.servers import stop_all
from app.ingest.synthetic import SyntheticOptions, generate
from tests.kill_support import (
    Command,
    Moments,
    altered_settings,
    ask,
    batches,
    content,
    environment,
    insert_stranger,
    ledger_sums,
    objects,
    remains,
    run,
    running,
    until,
)

pytestmark = pytest.mark.kill
ROWS = 40_000
BATCH = "500"
KILLS = 6
SEEDS = [int(seed) for seed in os.environ.get("SMS_KILL_SEEDS", "1").split(",")]


@dataclass(frozen=True, slots=True)
class Whole:
    """What an uninterrupted migration leaves."""

    content: dict[str, tuple[int, int]]
    sums: tuple[Any, ...]
    objects: list[tuple[Any, ...]]
    result: dict[str, Any]


def migrate(source: Path, url: str | None, *more: str) -> list[str]:
    where = ["--database-url", url] if url else []
    return ["migrate", "run", str(source), *where, "--batch-size", BATCH, "--json", *more]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "numeros.db"
    generate(path, SyntheticOptions(rows=ROWS, seed=20261124, dirty=0.06), packaged_plan())
    return path


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Whole:
    """The end that every other migration here must come to."""
    scratch = tmp_path_factory.mktemp("whole")
    with closing(connect(module_database_url, autocommit=True)) as session:
        before = objects(session)
    done = run(scratch, migrate(source, module_database_url), environment(scratch / "var"))
    assert done.process.returncode == 0, done.stderr
    with closing(connect(module_database_url, autocommit=True)) as session:
        assert objects(session) == before
        found = Whole(content(session), ledger_sums(session), before, done.result)
    assert found.result["duplicates"] > 100
    assert found.result["rejected"] > 100
    assert found.content["migration_repairs"][0] > 500
    return found


def assert_whole(url: str, whole: Whole, moments: Moments) -> None:
    """The database is as if nobody had ever killed anything."""
    with closing(connect(url, autocommit=True)) as session:
        session.execute("DELETE FROM contacts WHERE source = 'api'")
        assert content(session) == whole.content, moments.told
        assert ledger_sums(session) == whole.sums, moments.told
        assert objects(session) == whole.objects, moments.told
        assert remains(session) == [], moments.told
        loose = session.execute(
            "SELECT count(*) FROM migration_rejects WHERE reason = 'duplicate' AND duplicate_of_contact_id IS NULL"
        ).fetchone()
        assert loose == (0,), moments.told


def finish(scratch: Path, source: Path, url: str | None, env: dict[str, str], whole: Whole, moments: Moments) -> None:
    """The same command, to the end, and once more, which changes nothing."""
    done = run(scratch, migrate(source, url), env)
    assert done.process.returncode == 0, (moments.told, done.stderr)
    counted = (
        "run_id",
        "status",
        "source_rows",
        "loaded",
        "duplicates",
        "rejected",
        "rejected_by_reason",
        "fingerprint",
    )
    assert {name: done.result[name] for name in counted} == {name: whole.result[name] for name in counted}, moments.told


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_that_is_killed_again_and_again_comes_to_the_same_end(
    tmp_path: Path, source: Path, whole: Whole, database_url: str, seed: int
) -> None:
    moments, env, kills = Moments(seed), environment(tmp_path / "var"), 0
    while kills < KILLS:
        with running(tmp_path, migrate(source, database_url), env) as command:
            wait = moments.after_batches if kills < KILLS - 2 else moments.while_building
            came = wait(database_url, command)
            command.send(signal.SIGKILL)
            assert command.wait() == -signal.SIGKILL, (moments.told, came, command.stderr)
            kills += 1
            assert command.stdout == "", moments.told
    finish(tmp_path, source, database_url, env, whole, moments)
    assert_whole(database_url, whole, moments)


def interrupted(command: Command, moments: Moments) -> None:
    """It ended by a signal that it took: with its result, and nothing half-done."""
    assert command.wait() != 0, (moments.told, command.stderr)
    assert command.result["status"] == "interrupted", moments.told
    assert "Traceback" not in command.stderr


@pytest.mark.parametrize("seed", SEEDS)
def test_ctrl_c_and_sigterm_stop_it_cleanly_and_it_goes_on(
    tmp_path: Path, source: Path, whole: Whole, database_url: str, seed: int
) -> None:
    moments, env = Moments(seed), environment(tmp_path / "var")
    for number in (signal.SIGINT, signal.SIGTERM):
        before = batches(database_url)
        with running(tmp_path, migrate(source, database_url), env) as command:
            assert moments.after_batches(database_url, command), moments.told
            command.send(number)
            interrupted(command, moments)
            assert before <= batches(database_url) < ROWS // int(BATCH)
            assert command.result["source_rows"] == batches(database_url) * int(BATCH)
    with running(tmp_path, migrate(source, database_url), env) as command:  # a hand that cannot wait: twice
        assert moments.after_batches(database_url, command), moments.told
        command.send(signal.SIGINT)
        command.send(signal.SIGINT)
        assert command.wait() != 0, moments.told
        assert "Traceback" not in command.stderr, command.stderr
    with running(tmp_path, migrate(source, database_url), env) as command:
        moments.while_building(database_url, command)
        command.send(signal.SIGTERM)
        if command.wait() != 0:  # the rest may have been built before it looked
            assert command.result["status"] == "interrupted", (moments.told, command.stderr)
    finish(tmp_path, source, database_url, env, whole, moments)
    assert_whole(database_url, whole, moments)


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server that a test may kill."""
    home = tmp_path_factory.mktemp("own")
    home.chmod(0o755)
    settings = Settings(_env_file=None, data_dir=home / "var", environment="test", database_url=None, database_admin_url=None,
                        embedded=EmbeddedSettings(shared_buffers="128MB"))  # fmt: skip
    ensure_postgres(settings)
    yield settings
    stop_all(settings, purge=True)


def kill_postmaster(settings: Settings) -> None:
    found = running_postgres(settings)
    assert found is not None
    os.kill(found[0].pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_postgresql_is_started_again_and_the_load_goes_on(
    tmp_path: Path, source: Path, whole: Whole, own_server: Settings, seed: int
) -> None:
    moments = Moments(seed)
    env = environment(own_server.data_dir, SMS_EMBEDDED__SHARED_BUFFERS="128MB")
    url = ensure_postgres(own_server)
    with closing(connect(url, autocommit=True)) as session:
        before = altered_settings(session)
    with running(tmp_path, migrate(source, None), env) as command:
        for _ in range(2):
            assert moments.after_batches(url, command), (moments.told, command.stderr)
            kill_postmaster(own_server)
            until(lambda: ask(url, "SELECT 1"), command)
        came = moments.while_building(url, command)
        kill_postmaster(own_server)
        code = command.wait()
        assert "Traceback" not in command.stderr, command.stderr
    # While it loads it recovers by itself; an index that was being built may need the command again.
    assert code == 0 or came, (moments.told, command.stderr)
    url = ensure_postgres(own_server)
    assert batches(url) == ROWS // int(BATCH), (moments.told, command.stderr)
    finish(tmp_path, source, None, env, whole, moments)
    url = ensure_postgres(own_server)
    assert_whole(url, whole, moments)
    with closing(connect(url, autocommit=True)) as session:
        assert altered_settings(session) == before, moments.told


def test_others_read_and_are_told_to_come_back_and_a_second_run_is_refused(
    tmp_path: Path, source: Path, whole: Whole, database_url: str
) -> None:
    moments, env = Moments(4), environment(tmp_path / "var")
    (tmp_path / "other").mkdir()
    with running(tmp_path, migrate(source, database_url), env) as command:
        assert moments.after_batches(database_url, command), command.stderr
        command.send(signal.SIGSTOP)  # it holds its locks for as long as we look
        try:
            assert 0 < int(ask(database_url, "SELECT count(*) FROM contacts")) < ROWS
            with pytest.raises(psycopg.errors.LockNotAvailable, match="while a migration is open"):
                insert_stranger(database_url)
            second = run(tmp_path / "other", migrate(source, database_url), env)
            assert second.process.returncode == 4, second.stderr
            assert "migration_running" in second.stderr
            rollback = run(tmp_path / "other", ["migrate", "rollback", "--database-url", database_url], env)
            assert rollback.process.returncode == 4
            assert "migration_running" in rollback.stderr
        finally:
            command.send(signal.SIGCONT)
        assert command.wait() == 0, command.stderr
    assert insert_stranger(database_url) > ROWS
    assert_whole(database_url, whole, moments)


def test_a_run_that_lost_its_lock_gives_way_and_loads_nothing_twice(
    tmp_path: Path, source: Path, whole: Whole, database_url: str
) -> None:
    """An administrator, or a firewall, ends the session that holds the lock; a second run then begins."""
    moments, env = Moments(5), environment(tmp_path / "var", SMS_MIGRATION__RETRY_SECONDS="10")
    (tmp_path / "other").mkdir()
    with running(tmp_path, migrate(source, database_url), env) as first:
        assert moments.after_batches(database_url, first), first.stderr
        first.send(signal.SIGSTOP)
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7302019 AND database = d.oid"
        end = f"SELECT pg_terminate_backend(({held})) FROM pg_database d WHERE datname = current_database()"
        assert ask(database_url, end)
        with running(tmp_path / "other", migrate(source, database_url), env) as second:
            begun = batches(database_url)
            until(lambda: batches(database_url) > begun, second)
            first.send(signal.SIGCONT)
            assert second.wait() == 0, second.stderr
        first.wait()
        assert "Traceback" not in first.stderr, first.stderr
    assert_whole(database_url, whole, moments)


def test_contacts_that_are_made_at_a_rest_keep_their_ids_and_the_run_its_own(
    tmp_path: Path, source: Path, whole: Whole, database_url: str
) -> None:
    env = environment(tmp_path / "var")
    limited = run(tmp_path, migrate(source, database_url, "--limit", "5000", "--fulltext-later"), env)
    assert (limited.process.returncode, limited.result["status"]) == (0, "limited"), limited.stderr
    assert limited.result["source_rows"] == 5000
    made = [insert_stranger(database_url, f"559999000{digit}") for digit in range(3)]
    with running(tmp_path, migrate(source, database_url), env) as command:
        assert until(lambda: batches(database_url) > 12, command), command.stderr
        command.send(signal.SIGSTOP)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            insert_stranger(database_url)
        command.send(signal.SIGCONT)
        assert command.wait() == 0, command.stderr
    kept = ask(database_url, "SELECT array_agg(id ORDER BY id) FROM contacts WHERE source = 'api'")
    assert kept == made
    assert insert_stranger(database_url, "5599990009") > max(made)
    assert_whole(database_url, whole, Moments(0))


CORRUPTING = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.source_id = 7777 THEN NEW.full_name := 'SOMEBODY ELSE'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER spoil BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION spoil()
"""


def test_a_batch_that_does_not_hold_is_rolled_back_and_stops_the_run(
    tmp_path: Path, source: Path, whole: Whole, database_url: str
) -> None:
    env = environment(tmp_path / "var")
    with closing(connect(database_url, autocommit=True)) as session:
        session.execute(CORRUPTING)
    done = run(tmp_path, migrate(source, database_url), env)
    assert done.process.returncode == 7, done.stderr
    assert done.result["status"] == "failed"
    last = done.stderr.strip().splitlines()[-1]
    assert "(batch_fingerprint)" in last
    assert "Rows 7501 to 8000" in last
    assert ask(database_url, "SELECT count(*) FROM contacts WHERE source_id BETWEEN 7501 AND 8000") == 0
    assert ask(database_url, "SELECT count(*) FROM migration_rejects WHERE source_id BETWEEN 7501 AND 8000") == 0
    assert ask(database_url, "SELECT count(*) FROM migration_batches WHERE first_id = 7501") == 0
    assert "7501 to 8000" in ask(database_url, "SELECT error FROM migration_runs")
    with closing(connect(database_url, autocommit=True)) as session:
        session.execute("DROP TRIGGER spoil ON contacts; DROP FUNCTION spoil()")
    finish(tmp_path, source, database_url, env, whole, Moments(0))
    assert_whole(database_url, whole, Moments(0))
