"""Undoing a run: exactly its rows go, contacts are whole afterwards, and the file can be moved again."""

from __future__ import annotations

import signal
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from app.core.database import connect
from app.core.errors import Conflict, NotFound
from app.ingest import rollback as rollback_module
from app.ingest import target
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import MigrationOptions, MigrationResult
from app.ingest.rollback import RollbackResult, rollback
from tests.kill_support import Moments, batches, environment, insert_stranger, objects, remains, running
from tests.sources import make_source, numbers

PER_RUN = ("source_statistics", "missing_ladas", "migration_rejects", "migration_repairs")


def migrate(path: Path, url: str, **options: Any) -> MigrationResult:
    return MigrationManager(path, url, 500, options=MigrationOptions(**options)).run()


def dirty_source(path: Path, first: int, rows: int = 1500) -> Path:
    """A source of its own numbers, with a reject, a duplicate and a repair."""
    made = [{"numero": number, "nombre": f"PRUEBA {number}"} for number in numbers(rows - 3, first=first)]
    return make_source(
        path, [*made, {"numero": f"+52 {first}"}, {"numero": f"12 {first}x"}, {"numero": f"044{first + rows}"}]
    )


def value(session: Connection, query: str, *parameters: object) -> Any:
    row = session.execute(query, parameters).fetchone()
    return row[0] if row else None


def everything_but(session: Connection, run_id: int) -> list[Any]:
    """Hashes of all that does not belong to a run."""
    tables = [("contacts", "migration_run_id"), *((table, "run_id") for table in (*PER_RUN, "migration_batches"))]
    return [
        value(
            session,
            f"SELECT (count(*), sum(hashtextextended(t::text, 0))) FROM {table} t WHERE {run} IS DISTINCT FROM %s",
            run_id,
        )
        for table, run in tables
    ]


def left_of(session: Connection, run_id: int) -> list[int]:
    counts = [value(session, f"SELECT count(*) FROM {table} WHERE run_id = %s", run_id) for table in PER_RUN]
    return [value(session, "SELECT count(*) FROM contacts WHERE migration_run_id = %s", run_id), *counts]


def test_exactly_one_of_two_runs_goes_and_may_come_again(tmp_path: Path, database_url: str) -> None:
    first_file, second_file = dirty_source(tmp_path / "a.db", 5510000000), dirty_source(tmp_path / "b.db", 5520000000)
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)
        made = [insert_stranger(database_url, "5599990000")]
        first = migrate(first_file, database_url)
        made.append(insert_stranger(database_url, "5599990001"))
        second = migrate(second_file, database_url)
        made.append(insert_stranger(database_url, "5599990002"))
        before = everything_but(session, first.run_id)
        result = rollback(database_url, first.run_id)
        assert everything_but(session, first.run_id) == before
        assert left_of(session, first.run_id) == [0, 0, 0, 0, 0]
        assert result.contacts_removed == first.loaded
        assert (result.statistics_removed, result.missing_ladas_removed) == (1, 1)
        assert result.rejects_removed == first.duplicates + first.rejected == 2
        assert (result.remaining, result.others_before) == (0, result.others_after)
        assert result.others_after[0] == second.loaded + len(made)
        assert (objects(session), remains(session)) == (whole, [])
        assert value(session, "SELECT array_agg(id ORDER BY id) FROM contacts WHERE source = 'api'") == made
        with pytest.raises(Conflict, match="rolled back already"):
            rollback(database_url, first.run_id)
        again = migrate(first_file, database_url)
        assert again.run_id > second.run_id
        assert (again.status, again.loaded, again.fingerprint) == ("completed", first.loaded, first.fingerprint)
        assert migrate(second_file, database_url) == second
        newest = insert_stranger(database_url, "5599990003")
        assert newest == value(session, "SELECT max(id) FROM contacts")
    with pytest.raises(NotFound):
        rollback(database_url, 99)


MESSAGE = """INSERT INTO messages (contact_id, purpose)
             SELECT id, 'marketing' FROM contacts WHERE migration_run_id = %s LIMIT 1"""
CONSENT = """INSERT INTO consents (contact_id, purpose, action, channel, happened_at, source)
             SELECT id, 'marketing', 'granted', 'sms', now(), 'test' FROM contacts WHERE migration_run_id = %s LIMIT 1"""


@pytest.mark.parametrize("statement", [MESSAGE, CONSENT], ids=["message", "consent"])
def test_a_run_whose_contacts_are_in_use_is_not_undone(tmp_path: Path, database_url: str, statement: str) -> None:
    result = migrate(dirty_source(tmp_path / "a.db", 5510000000, 20), database_url)
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)
        session.execute(statement, (result.run_id,))
        with pytest.raises(Conflict, match="name contacts of run"):
            rollback(database_url)
        assert left_of(session, result.run_id)[0] == result.loaded
        assert (objects(session), remains(session)) == (whole, [])
        assert value(session, "SELECT status FROM migration_runs") == "completed"


def test_consent_that_is_given_just_then_stops_it_too(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = migrate(dirty_source(tmp_path / "a.db", 5510000000, 20), database_url)
    looked = rollback_module._refuse_if_needed

    def given(session: Connection, run: Any) -> None:
        looked(session, run)
        session.execute(CONSENT, (run.id,))

    monkeypatch.setattr(rollback_module, "_refuse_if_needed", given)
    with pytest.raises(Conflict, match="name contacts of run"):
        rollback(database_url)
    with closing(connect(database_url, autocommit=True)) as session:
        assert left_of(session, result.run_id)[0] == result.loaded
        assert remains(session) == []


def test_a_run_whose_contacts_stand_for_another_runs_rows_is_not_undone_first(
    tmp_path: Path, database_url: str
) -> None:
    first = migrate(dirty_source(tmp_path / "a.db", 5510000000, 50), database_url)
    second = migrate(dirty_source(tmp_path / "b.db", 5510000000, 60), database_url)
    assert second.duplicates > 40
    with pytest.raises(Conflict, match=f"Undo run {second.run_id} first"):
        rollback(database_url, first.run_id)
    assert rollback(database_url, second.run_id).contacts_removed == second.loaded
    assert rollback(database_url, first.run_id).contacts_removed == first.loaded
    with closing(connect(database_url, autocommit=True)) as session:
        assert value(session, "SELECT count(*) FROM contacts") == 0


@pytest.mark.parametrize("strangers", [0, 1])
def test_a_run_without_its_full_text_indexes_is_undone(tmp_path: Path, database_url: str, strangers: int) -> None:
    """Foreign keys are on while other indexes are off: as after a kill in the midst of building."""
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)
        result = migrate(dirty_source(tmp_path / "a.db", 5510000000, 50), database_url, fulltext_later=True)
        assert {it.stage for it in target.detached(session)} == {target.FULLTEXT}
        for _ in range(strangers):
            insert_stranger(database_url)
        assert rollback(database_url).contacts_removed == result.loaded
        assert (objects(session), remains(session)) == (whole, [])
        assert value(session, "SELECT count(*) FROM contacts") == strangers


@pytest.mark.kill
def test_a_killed_run_is_undone_and_leaves_nothing_closed(tmp_path: Path, database_url: str) -> None:
    source = dirty_source(tmp_path / "a.db", 5510000000, 30_000)
    moments = Moments(6)
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)
        made = insert_stranger(database_url)
        for wait in (moments.after_batches, moments.while_building):
            arguments = ["migrate", "run", str(source), "--database-url", database_url, "--batch-size", "500"]
            with running(tmp_path, arguments, environment(tmp_path / "var")) as command:
                assert wait(database_url, command), command.stderr
                command.send(signal.SIGKILL)
                command.wait()
            before = value(session, "SELECT count(*) FROM contacts WHERE source <> 'api'")
            result = rollback(database_url)
            assert 0 < before == result.contacts_removed, moments.told
            assert left_of(session, result.run_id) == [0, 0, 0, 0, 0], moments.told
            assert (objects(session), remains(session)) == (whole, []), moments.told
            assert value(session, "SELECT array_agg(id) FROM contacts") == [made]
            session.execute("DELETE FROM migration_batches")  # for the next round to count from none
        assert batches(database_url) == 0
        again = migrate(source, database_url)
        assert (again.status, again.source_rows, again.loaded) == ("completed", 30_000, 29_998)


@pytest.mark.parametrize("at", ["restore", "drop guard"])
def test_a_rollback_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)
        migrate(dirty_source(tmp_path / "a.db", 5510000000, 50), database_url)
        with monkeypatch.context() as patch:
            if at == "restore":
                patch.setattr(target, "restore", _killed)
            else:
                patch.setattr(target, "statement", _killed)
                patch.setattr(target, "detach", lambda *_, **__: None)
                session.execute("DELETE FROM contacts")  # so that nothing has to be truncated under foreign keys
                insert_stranger(database_url)
            with pytest.raises(InterruptedError):
                rollback(database_url)
        assert target.is_closed(session)
        result = rollback(database_url)
        assert (result.status, result.contacts_removed, result.remaining) == ("rolled_back", 0, 0)
        assert (objects(session), remains(session)) == (whole, [])
        insert_stranger(database_url, "5599990005")
        assert astuple(result)[0] == 1


def _killed(*_: object, **__: object) -> RollbackResult:
    raise InterruptedError
