"""The audit log: one chain without gaps whatever happens at once, and nothing done to it goes unnoticed."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from app.core.async_database import Database
from app.core.config import ApiSettings
from app.core.database import connect
from app.models.audit import AuditEvent, AuditResult
from app.models.permission import SYSTEM, Caller, CallerKind, Origin
from app.models.user import Role
from app.services import audit_chain, audit_service
from app.services.audit_chain import Anchor
from app.services.audit_service import AuditFilter

ORIGIN = Origin(address="192.0.2.7", user_agent="curl/8.5", request_id="req-1")
TAMPERED: dict[str, object] = {
    "id": 1000,
    "occurred_at": datetime(2020, 1, 1, tzinfo=UTC),
    "actor_kind": "user",
    "actor_id": 1,
    "actor": "somebody.else@example.com",
    "api_key_id": 1,
    "action": "user.enable",
    "object_type": "contact",
    "object_id": "another",
    "result": "refused",
    "address": "192.0.2.8",
    "user_agent": "curl/8.6",
    "request_id": None,
    "detail": Jsonb({"n": 0}),
    "prev_hash": bytes(32),
    "hash": bytes(range(32)),
}


@contextmanager
def unguarded(url: str) -> Iterator[psycopg.Connection]:
    """A superuser who has turned every trigger and foreign key off, and on again afterwards."""
    with connect(url) as connection:
        connection.execute("ALTER TABLE audit_events DISABLE TRIGGER ALL")
        connection.execute("ALTER TABLE audit_head DISABLE TRIGGER ALL")
        yield connection
        connection.execute("ALTER TABLE audit_events ENABLE TRIGGER ALL")
        for table, trigger in (("events", "append_only"), ("head", "one_row"), ("head", "moved_by_trigger")):
            names = sql.Identifier(f"audit_{table}"), sql.Identifier(trigger)
            connection.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(*names))


def write(url: str, count: int) -> None:
    with connect(url) as connection:
        for n in range(1, count + 1):
            audit_service.record_sync(
                connection, SYSTEM, "user.disable", object_type="user", object_id=n, origin=ORIGIN, detail={"n": n}
            )
            connection.commit()


def begin(url: str) -> str:
    """A user, a key and seven events."""
    with connect(url) as connection:
        connection.execute("INSERT INTO users (email, role) VALUES ('ana@example.com', 'admin')")
        connection.execute(
            "INSERT INTO api_keys (public_id, owner_id, name, prefix, key_hash, scopes, expires_at)"
            " VALUES (gen_random_uuid(), 1, 'k', 'sms_k', '', '{self}', now())"
        )
    write(url, 7)
    return url


@pytest.fixture
def chain(database_url: str) -> str:
    """A database with a user, a key and seven events."""
    return begin(database_url)


@pytest.fixture(scope="module")
def kept_chain(module_database_url: str) -> str:
    """The same for tests that only add events."""
    return begin(module_database_url)


@pytest.fixture
async def db(chain: str) -> AsyncIterator[Database]:
    """The service's pool on that database."""
    database = Database(chain, ApiSettings(pool_size=2))
    yield database
    await database.close()


def test_untouched_chain_holds_and_tells_its_end(chain: str) -> None:
    verdict = audit_chain.verify(chain)
    assert (verdict.ok, verdict.events, verdict.first_bad_id, verdict.what) == (True, 7, None, None)
    assert verdict.end is not None
    assert verdict.end.event_id == 7
    assert audit_chain.verify(chain, anchor=verdict.end).ok


def test_empty_chain_holds(database_url: str) -> None:
    verdict = audit_chain.verify(database_url)
    assert (verdict.ok, verdict.events, verdict.end) == (True, 0, None)


def test_every_column_has_its_case() -> None:
    assert set(TAMPERED) == {column.name for column in AuditEvent.__table__.columns}


@pytest.mark.parametrize("column", TAMPERED)
def test_changed_column_is_found(chain: str, column: str) -> None:
    """At the first event, in the middle and at the last; what was there is put back each time."""
    change = sql.SQL("UPDATE audit_events SET {c} = %s WHERE id = %s AND {c} IS DISTINCT FROM %s").format(
        c=sql.Identifier(column)
    )
    read = sql.SQL("SELECT {} FROM audit_events WHERE id = %s").format(sql.Identifier(column))
    for event_id in (1, 4, 7):
        with unguarded(chain) as superuser:
            (before,) = superuser.execute(read, (event_id,)).fetchone() or (None,)
            to = TAMPERED[column]
            changed = superuser.execute(change, (to, event_id, to)).rowcount
        verdict = audit_chain.verify(chain)
        if (column, event_id) == ("prev_hash", 1):
            assert changed == 0  # nothing but zeros is before the first
            continue
        assert (changed, verdict.ok, verdict.first_bad_id) == (1, False, event_id)
        assert verdict.what
        with unguarded(chain) as superuser:
            back = Jsonb(before) if column == "detail" else before
            superuser.execute(change, (back, TAMPERED["id"] if column == "id" else event_id, back))
        assert audit_chain.verify(chain).ok


def test_infinite_time_is_found_and_not_stumbled_over(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("UPDATE audit_events SET occurred_at = 'infinity' WHERE id = 3")
    assert audit_chain.verify(chain).first_bad_id == 3


@pytest.mark.parametrize(("event_id", "words"), [(1, "event 1 is missing"), (4, "event 4 is missing"), (7, "cut off")])
def test_removed_event_is_found(chain: str, event_id: int, words: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("DELETE FROM audit_events WHERE id = %s", (event_id,))
    verdict = audit_chain.verify(chain)
    assert (verdict.ok, verdict.first_bad_id) == (False, event_id)
    assert words in (verdict.what or "")


def test_swapped_events_are_found(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("UPDATE audit_events SET id = 1000 WHERE id = 3")
        superuser.execute("UPDATE audit_events SET id = 3 WHERE id = 5")
        superuser.execute("UPDATE audit_events SET id = 5 WHERE id = 1000")
    assert audit_chain.verify(chain).first_bad_id == 3


def test_removed_event_is_found_though_the_rest_was_numbered_anew(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("DELETE FROM audit_events WHERE id = 3")
        for event_id in range(4, 8):
            superuser.execute("UPDATE audit_events SET id = id - 1 WHERE id = %s", (event_id,))
        superuser.execute("UPDATE audit_head SET last_id = 6")
    assert audit_chain.verify(chain).first_bad_id == 3


def forge(connection: psycopg.Connection, event_id: int) -> None:
    """Give an event the hash that fits what it says now."""
    *values, before = connection.execute(
        "SELECT id::text, (extract(epoch FROM occurred_at) * 1000000)::bigint::text, actor_kind, actor_id::text, actor,"
        " api_key_id::text, action, object_type, object_id, result, address::text, user_agent, request_id, detail::text,"
        " prev_hash FROM audit_events WHERE id = %s",
        (event_id,),
    ).fetchone() or ("", b"")
    forged = audit_chain.event_hash(before, values)
    connection.execute("UPDATE audit_events SET hash = %s WHERE id = %s", (forged, event_id))


def test_event_rewritten_with_its_hash_is_found_at_the_next_one(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("UPDATE audit_events SET actor = 'nobody' WHERE id = 4")
        forge(superuser, 4)
    assert audit_chain.verify(chain).first_bad_id == 5


def test_last_event_rewritten_with_its_hash_is_found_at_the_head(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("UPDATE audit_events SET actor = 'nobody' WHERE id = 7")
        forge(superuser, 7)
    verdict = audit_chain.verify(chain)
    assert (verdict.first_bad_id, verdict.what) == (7, "event 7 is not the one that was written last")


def test_event_added_past_the_trigger_is_found(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute(
            "INSERT INTO audit_events SELECT 8, occurred_at, actor_kind, actor_id, actor, api_key_id, action, object_type,"
            " object_id, result, address, user_agent, request_id, detail, hash, hash FROM audit_events WHERE id = 7"
        )
        forge(superuser, 8)
    verdict = audit_chain.verify(chain)
    assert (verdict.first_bad_id, verdict.what) == (8, "events after 7 were added past the trigger")


def test_missing_head_is_found_and_nothing_more_is_written(chain: str) -> None:
    with unguarded(chain) as superuser:
        superuser.execute("DELETE FROM audit_head")
    assert "audit_head is empty" in (audit_chain.verify(chain).what or "")
    with connect(chain) as connection, pytest.raises(psycopg.errors.DataCorrupted):
        audit_service.record_sync(connection, SYSTEM, "user.disable")


def test_chain_rewritten_to_its_end_is_found_by_an_anchor_kept_elsewhere(chain: str) -> None:
    kept = audit_chain.verify(chain).end
    with unguarded(chain) as superuser:
        superuser.execute("UPDATE audit_events SET actor = 'nobody' WHERE id = 6")
        forge(superuser, 6)
        superuser.execute(
            "UPDATE audit_events SET prev_hash = (SELECT hash FROM audit_events WHERE id = 6) WHERE id = 7"
        )
        forge(superuser, 7)
        superuser.execute("UPDATE audit_head SET last_hash = (SELECT hash FROM audit_events WHERE id = 7)")
    assert audit_chain.verify(chain).ok
    assert audit_chain.verify(chain, anchor=kept).first_bad_id == 7
    assert audit_chain.verify(chain, anchor=Anchor(9, "00" * 32)).first_bad_id == 9


@pytest.mark.parametrize(
    ("table", "trigger"),
    [("events", "chain"), ("events", "append_only"), ("head", "one_row"), ("head", "moved_by_trigger")],
)
def test_trigger_that_is_off_is_told(chain: str, table: str, trigger: str) -> None:
    with connect(chain) as superuser:
        names = sql.Identifier(f"audit_{table}"), sql.Identifier(trigger)
        superuser.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(*names))
    verdict = audit_chain.verify(chain)
    assert (verdict.ok, verdict.unguarded, verdict.first_bad_id) == (False, (trigger,), None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "UPDATE audit_events SET actor = 'nobody' WHERE false",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "TRUNCATE users CASCADE",
        "UPDATE audit_head SET last_id = 0",
        "INSERT INTO audit_head VALUES (1, 0, '')",
        "DELETE FROM audit_head",
        "TRUNCATE audit_head",
        "MERGE INTO audit_events e USING (VALUES (1)) v (id) ON e.id = v.id WHEN MATCHED THEN DELETE",
    ],
)
@pytest.mark.parametrize("replication_role", ["origin", "replica"])
def test_superuser_is_refused_too(kept_chain: str, statement: str, replication_role: str) -> None:
    with connect(kept_chain) as superuser:
        superuser.execute("SELECT set_config('session_replication_role', %s, true)", (replication_role,))
        with pytest.raises(psycopg.errors.RestrictViolation):
            superuser.execute(statement.encode())
    assert audit_chain.verify(kept_chain).ok


def test_what_the_trigger_gives_cannot_be_given(chain: str) -> None:
    with connect(chain) as connection:
        connection.execute(
            "INSERT INTO audit_events (id, occurred_at, actor_kind, actor, action, result, prev_hash, hash)"
            " VALUES (99, '2001-01-01', 'system', 'system', 'x.y', 'ok', sha256('a'), sha256('b'))"
        )
    with connect(chain) as connection:
        row = connection.execute("SELECT id, occurred_at FROM audit_events ORDER BY id DESC LIMIT 1").fetchone()
    assert row is not None
    assert row[0] == 8
    assert row[1].year > 2001
    assert audit_chain.verify(chain).ok


def test_writers_at_once_make_one_chain_without_gaps(database_url: str) -> None:
    start = threading.Barrier(6)

    def work(writer: int) -> None:
        with connect(database_url) as connection:
            start.wait()
            for n in range(40):
                audit_service.record_sync(connection, SYSTEM, "test.write", object_id=f"{writer}-{n}")
                if n % 3 == 0:
                    connection.rollback()
                connection.commit()

    with ThreadPoolExecutor(6) as writers:
        list(writers.map(work, range(6)))
    verdict = audit_chain.verify(database_url)
    assert (verdict.ok, verdict.events) == (True, 6 * 26)


def test_times_follow_the_order_of_the_chain_not_of_the_transactions(database_url: str) -> None:
    with connect(database_url) as early, connect(database_url) as late:
        early.execute("SELECT now()")
        audit_service.record_sync(late, SYSTEM, "late.begun")
        late.commit()
        audit_service.record_sync(early, SYSTEM, "early.begun")
        early.commit()
        rows = early.execute("SELECT action, occurred_at FROM audit_events ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["late.begun", "early.begun"]
    assert rows[0][1] < rows[1][1]


def test_rolled_back_act_leaves_neither_event_nor_gap(chain: str) -> None:
    with connect(chain) as connection:
        audit_service.record_sync(connection, SYSTEM, "user.disable")
        connection.rollback()
        connection.execute("SAVEPOINT before")
        audit_service.record_sync(connection, SYSTEM, "user.disable")
        connection.execute("ROLLBACK TO SAVEPOINT before")
        audit_service.record_sync(connection, SYSTEM, "user.enable")
    verdict = audit_chain.verify(chain)
    assert (verdict.ok, verdict.events) == (True, 8)


def test_several_events_in_one_statement_are_chained(chain: str) -> None:
    with connect(chain) as connection:
        connection.execute(
            "INSERT INTO audit_events (actor_kind, actor, action, result)"
            " SELECT 'system', 'system', 'bulk.row', 'ok' FROM generate_series(1, 50)"
        )
    verdict = audit_chain.verify(chain)
    assert (verdict.ok, verdict.events) == (True, 57)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
MAYBE = st.none() | TEXTS | st.sampled_from(["", "-", "1:a", "0:", "'", "\\x00", "2:é", "\r\n", "é" * 20, "😀"])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ADDRESSES = st.none() | st.ip_addresses().map(str)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.tuples(MAYBE, MAYBE, MAYBE, MAYBE), actor=TEXTS, action=TEXTS, address=ADDRESSES, detail=JSONS,
    zone=st.sampled_from(["UTC", "America/Mexico_City", "Asia/Kathmandu"]),
)  # fmt: skip
def test_hash_is_the_same_here_and_in_the_trigger(
    kept_chain: str,
    texts: tuple[str | None, ...],
    actor: str,
    action: str,
    address: str | None,
    detail: object,
    zone: str,
) -> None:
    with connect(kept_chain) as connection:
        connection.execute("SELECT set_config('timezone', %s, false)", (zone,))
        connection.execute(
            "SELECT set_config('datestyle', 'German', false), set_config('extra_float_digits', '0', false)"
        )
        connection.execute(
            "INSERT INTO audit_events (actor_kind, actor, action, object_type, object_id, result, address, user_agent,"
            " request_id, detail) VALUES ('system', %s, %s, %s, %s, 'ok', %s::inet, %s, %s, %s)",
            (actor, action, *texts[:2], address, *texts[2:], Jsonb(detail)),
        )
    verdict = audit_chain.verify(kept_chain)
    assert verdict.ok, verdict.what


def test_null_and_empty_and_moved_boundaries_differ() -> None:
    shapes = [(None, "a"), ("", "a"), ("a", None), ("a", ""), ("-", "a"), ("1:a", None), ("a", "-"), ("1", ":a")]
    assert len({audit_chain.event_hash(bytes(32), shape) for shape in shapes}) == len(shapes)


def test_progress_is_told_on_a_long_chain(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO audit_events (actor_kind, actor, action, result)"
            " SELECT 'system', 'system', 'bulk.row', 'ok' FROM generate_series(1, %s)",
            (2 * audit_chain.ROWS_AT_ONCE + 1,),
        )
    told: list[tuple[int, int]] = []
    assert audit_chain.verify(database_url, lambda done, of: told.append((done, of))).ok
    total = 2 * audit_chain.ROWS_AT_ONCE + 1
    assert told == [(audit_chain.ROWS_AT_ONCE, total), (2 * audit_chain.ROWS_AT_ONCE, total)]


async def test_recorded_event_comes_back_as_it_was_done(db: Database) -> None:
    caller = Caller(CallerKind.API_KEY, 1, uuid4(), "ana@example.com", Role.ADMIN, frozenset(), api_key_id=1)
    async with db.transaction() as session:
        await audit_service.record(
            session, caller, "contacts.export", object_type="contact", object_id="*", result=AuditResult.REFUSED,
            origin=Origin("2001:db8::1%eth0", "x" * 400, "r\0q"), detail={"rows": 3},
        )  # fmt: skip
        newest = (await audit_service.list_events(session, limit=1))[0]
    assert (newest.id, newest.actor_kind, newest.actor, newest.result) == (8, "api_key", "ana@example.com", "refused")
    assert newest.actor_id is not None
    assert newest.api_key_id is not None
    assert (newest.address, newest.user_agent, newest.request_id) == ("2001:db8::1", "x" * 300, "r\ufffdq")
    assert (newest.detail, len(newest.hash)) == ({"rows": 3}, 64)


async def test_detail_keeps_no_secret_and_no_whole_number(db: Database) -> None:
    detail = {
        "password": "correct horse", "refresh_token": "abc", "phone": 5512345678, "q": "call +525512345678",
        "filters": [{"numero": "5512345678"}], "n": 5, "half": "\ud800", "rate": float("nan"), "raw": b"x",
        "token_version": 2, "many": list(range(1000)),
    }  # fmt: skip
    async with db.transaction() as session:
        await audit_service.record(session, SYSTEM, "x.y", origin=Origin("a unix socket"), detail=detail)
        (event,) = await audit_service.list_events(session, limit=1)
    kept = dict(event.detail)
    assert "5512345" not in str(kept)
    assert (kept["password"], kept["refresh_token"], kept["raw"]) == ("***", "***", "***")
    assert (kept["phone"], kept["n"], kept["token_version"], len(kept["many"])) == ("********78", 5, 2, 100)
    assert event.address is None


async def test_events_are_listed_by_page_and_filter(db: Database) -> None:
    async with db.transaction() as session:
        await audit_service.record(session, SYSTEM, "key.revoke", object_type="key", object_id="k", origin=ORIGIN)
        first = await audit_service.list_events(session, limit=5)
        second = await audit_service.list_events(session, limit=5, after_id=first[-1].id)
        some = await audit_service.list_events(session, filters=AuditFilter(object_type="user", object_id="3"))
        nothing = [
            await audit_service.list_events(session, filters=wanted)
            for wanted in (AuditFilter(actor_id=uuid4()), AuditFilter(result=AuditResult.FAILED),
                           AuditFilter(until=datetime(2001, 1, 1, tzinfo=UTC)))
        ]  # fmt: skip
    assert [event.id for event in first + second] == list(range(8, 0, -1))
    assert [event.id for event in some] == [3]
    assert nothing == [[], [], []]


async def _act_that_fails(db: Database) -> None:
    async with db.transaction() as session:
        await audit_service.record(session, SYSTEM, "x.y", origin=ORIGIN)
        raise TimeoutError


async def test_act_that_fails_after_its_event_leaves_none(db: Database, chain: str) -> None:
    with pytest.raises(TimeoutError):
        await _act_that_fails(db)
    assert audit_chain.verify(chain).events == 7
