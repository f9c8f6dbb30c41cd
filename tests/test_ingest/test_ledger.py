"""The ledger: what is still to load, which run a file belongs to, what the batches add up to, and ids of one's own."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection

from app.core.database import connect
from app.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.ingest import ledger, target
from app.ingest.copy_stream import Batch
from app.ingest.detail_log import DetailLog
from app.ingest.ledger import gaps
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import is_passing
from app.ingest.rows import Reject
from app.ingest.source import SourceFacts
from app.models.migration import UNFINISHED, RunStatus
from tests.kill_support import insert_stranger, objects, remains
from tests.sources import make_source, numbers

FACTS = SourceFacts("a" * 64, 4096, 10, 1, 10)


@given(st.integers(-5, 5), st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=9))
def test_gaps_are_what_no_committed_range_covers(first: int, pieces: list[tuple[int, bool]]) -> None:
    """The ids of a source in pieces, each committed or not."""
    committed: list[tuple[int, int]] = []
    missing: list[int] = []
    low = first
    for length, is_committed in pieces:
        if is_committed:
            committed.append((low, low + length - 1))
        else:
            missing += range(low, low + length)
        low += length
    found = gaps(first, low - 1, committed)
    assert [key for begin, end in found for key in range(begin, end + 1)] == missing
    assert all(begin <= end for begin, end in found)


def open_run(session: Connection, facts: SourceFacts = FACTS, path: str = "/data/numeros.db") -> ledger.Run:
    return ledger.open_run(session, facts, path, 1, 100)


def test_the_open_run_of_a_file_is_found_and_no_other_file_gets_in(database_url: str) -> None:
    with closing(connect(database_url)) as session:
        assert ledger.find_run_of(session, FACTS, "/data/numeros.db") is None
        with pytest.raises(NotFound, match="No migration was run yet"):
            ledger.find_run(session)
        run = open_run(session)
        other = replace(FACTS, sha256="b" * 64)
        for status in UNFINISHED:
            ledger.update_run(session, run.id, status=str(status))
            assert ledger.find_run_of(session, FACTS, "/moved/numeros.db") is not None  # the bytes count, not the name
            with pytest.raises(Conflict, match="was changed since run"):
                ledger.find_run_of(session, other, "/data/numeros.db")
            with pytest.raises(Conflict, match="is not finished"):
                ledger.find_run_of(session, other, "/data/other.db")
        ledger.update_run(session, run.id, status="completed")
        assert ledger.find_run_of(session, other, "/data/numeros.db") is None
        found = ledger.find_run_of(session, FACTS, "/elsewhere.db")
        assert found is not None
        assert found.id == run.id
        ledger.update_run(session, run.id, status="rolled_back")
        assert ledger.find_run_of(session, FACTS, "/data/numeros.db") is None
        with pytest.raises(NotFound, match="There is no migration run 99"):
            ledger.find_run(session, 99)


def test_a_status_changes_only_as_the_table_allows(database_url: str) -> None:
    with closing(connect(database_url)) as session:
        run = open_run(session)
        for before in RunStatus:
            for after in RunStatus:
                ledger.update_run(session, run.id, status=str(before))
                if before == after or before.can_become(after):
                    ledger.change_status(session, run, after)
                    assert ledger.find_run(session).status == after
                else:
                    with pytest.raises(Conflict, match="cannot become"):
                        ledger.change_status(session, run, after)


def test_ids_of_a_run_are_its_own_whatever_is_there(database_url: str) -> None:
    with closing(connect(database_url, autocommit=True)) as session:

        def reserve(first: int, last: int) -> tuple[int, int]:
            """First and last contact id of a source with these ids."""
            with session.transaction():
                offset = ledger.reserve_ids(session, replace(FACTS, first_id=first, last_id=last))
            return first + offset, last + offset

        assert reserve(1, 10) == (1, 10)  # an empty table: contact id = source id
        assert reserve(40, 50) == (40, 50)
        assert insert_stranger(database_url, "5599990000") == 51
        low, high = reserve(1, 100)
        assert (low, high) == (52, 151)
        assert insert_stranger(database_url, "5599990001") == 152
        low, high = reserve(-20, 5)
        assert (low, high - low) == (153, 25)
        low, _ = reserve(10**12, 10**12 + 7)
        assert low > 152
        for first, last in [(1, 2**63 - 1), (-(2**63), 5), (2**62, 2**62 + 1)]:
            with pytest.raises(InvalidInput, match="cannot be numbered"):
                reserve(first, last)
        low, high = reserve(0, 3)
        assert low > 152
        assert insert_stranger(database_url, "5599990002") > high


def test_the_sequence_stays_behind_what_an_open_run_is_still_to_load(database_url: str) -> None:
    with closing(connect(database_url, autocommit=True)) as session:
        with session.transaction():
            run = open_run(session, replace(FACTS, last_id=5000))
        target.advance_ids(session)
        assert insert_stranger(database_url, "5599990000") == 5001
        ledger.update_run(session, run.id, status="rolled_back")
        session.execute("DELETE FROM contacts")
        target.advance_ids(session)
        assert insert_stranger(database_url, "5599990000") == 2


def test_totals_are_the_sum_of_the_batches(database_url: str) -> None:
    with closing(connect(database_url)) as session:
        run = open_run(session, replace(FACTS, rows=30))
        assert ledger.totals(session, run.id).balances(0)
        for first, reasons, fingerprint in [
            (1, {"empty": 2}, 2**64 - 1),
            (11, {"empty": 1, "foreign": 1}, 5),
            (21, {}, 7),
        ]:
            rejected = sum(reasons.values())
            session.execute(
                """INSERT INTO migration_batches (run_id, first_id, last_id, rows_read, loaded, duplicates, rejected, repaired,
                       rejected_by_reason, fingerprint, seconds) VALUES (%s, %s, %s, 10, %s, 1, %s, 1, %s, %s, 0.5)""",
                (run.id, first, first + 9, 9 - rejected, rejected, json.dumps(reasons), fingerprint),
            )
        sums = ledger.totals(session, run.id)
        assert (sums.batches, sums.rows_read, sums.loaded, sums.duplicates, sums.rejected, sums.repaired) == (
            3,
            30,
            23,
            3,
            4,
            3,
        )
        assert sums.rejected_by_reason == {"empty": 3, "foreign": 1}
        assert sums.fingerprint == 11  # modulo 2**64
        assert sums.balances(30)
        assert not sums.balances(29)
        assert ledger.committed_ranges(session, run.id) == [(1, 10), (11, 20), (21, 30)]
        state = ledger.progress(session)
        assert (state.status, state.is_live, state.percent, state.batches) == ("interrupted", False, 100.0, 3)


def test_one_session_at_a_time_holds_the_lock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LOCK_PATIENCE_S", 0.2)
    with closing(connect(database_url, autocommit=True)) as second:
        with closing(connect(database_url, autocommit=True)) as first:
            ledger.hold_lock(first)
            with first.transaction():
                open_run(first)
            assert ledger.progress(second).is_live
            with pytest.raises(Conflict, match="Another migration is running"):
                ledger.hold_lock(second)
        ledger.hold_lock(second)


def test_orphans_of_a_killed_run_are_ended(database_url: str) -> None:
    with (
        closing(connect(database_url, application_name=ledger.LOADING)) as orphan,
        closing(connect(database_url)) as bystander,
        closing(connect(database_url, autocommit=True)) as session,
    ):
        orphan.execute("LOCK TABLE contacts")
        ledger.hold_lock(session)
        ledger.end_orphans(session)
        bystander.execute("SET lock_timeout = '2s'")
        bystander.execute("LOCK TABLE contacts")
        assert session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            (ledger.LOADING,),
        ).fetchone() == (0,)


def test_what_passes_by_itself_is_tried_again_and_nothing_else() -> None:
    errors = psycopg.errors
    for error in (
        errors.AdminShutdown("a restart"), errors.CannotConnectNow("starting"), errors.LockNotAvailable("a lock"),
        errors.DeadlockDetected("another"), psycopg.OperationalError("server closed the connection unexpectedly"),
        errors.ObjectNotInPrerequisiteState("lost connection to parallel worker"),
        Unavailable("no server", code="database_unreachable"),
    ):  # fmt: skip
        assert is_passing(error), error
    for other in (
        errors.DiskFull("full"), errors.UniqueViolation("twice"), errors.InsufficientPrivilege("no"),
        errors.ObjectNotInPrerequisiteState("currval"), Conflict("another migration", code="migration_running"),
        Unavailable("too small", code="disk_space"), ValueError("ours"),
    ):  # fmt: skip
        assert not is_passing(other), other


def test_the_three_parts_leave_a_table_that_is_whole(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(300)])
    with closing(connect(database_url, autocommit=True)) as session:
        whole = objects(session)

        async def parts() -> tuple[int, int, int]:
            manager = MigrationManager(source, database_url, 100)
            return (
                await manager.migrate_contacts(),
                await manager.migrate_statistics(),
                await manager.migrate_missing_ladas(),
            )

        assert asyncio.run(parts()) == (300, 1, 1)
        assert (objects(session), remains(session)) == (whole, [])
        assert insert_stranger(database_url) > 300
        result = asyncio.run(MigrationManager(source, database_url, 100).migrate())
        assert (result.status, result.loaded, result.statistics_rows) == ("completed", 300, 1)


def test_the_detailed_log_names_each_row_and_no_number(tmp_path: Path) -> None:
    batch = Batch(1, 9, rows_read=9, loaded=8, fingerprint=255, rejects=[Reject(7, "empty", None, None, "{}")])
    path = tmp_path / "logs" / "migrate.jsonl"
    with closing(DetailLog(path)) as log:
        log.write("stage", stage="load")
        log.write_batch(3, batch)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["stage", "batch", "row"]
    assert (lines[1]["loaded"], lines[1]["fingerprint"]) == (8, "00000000000000ff")
    assert lines[2] == {"event": "row", "source_id": 7, "reason": "empty"}


@pytest.mark.parametrize("where", ["/dev/full", "/proc/version/nowhere/log.jsonl"])
def test_a_log_that_cannot_be_written_holds_nothing_up(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(DetailLog(Path(where))) as log:
        for _ in range(3):
            log.write("stage", stage="load")
        log.write_batch(1, Batch(1, 2))
    assert capsys.readouterr().err.count("detailed log") <= 1
