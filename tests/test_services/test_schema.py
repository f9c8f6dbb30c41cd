"""The schema: up and down, twice and at once, equal to its models, and what its guards refuse."""

from __future__ import annotations

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from enum import IntEnum, StrEnum
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import CheckConstraint, make_url

from app.core.database import connect
from app.core.errors import Conflict, Forbidden, Unavailable
from app.models import (
    Base,
    access,
    audit,
    backup,
    campaign,
    consent,
    contact,
    message,
    migration,
    numbering,
    permission,
    receipt,
    segment,
    server_setting,
    suppression,
    user,
)
from app.models.base import State, is_one_of, moves
from app.services import schema_service

MODULES = (
    access,
    audit,
    backup,
    campaign,
    consent,
    contact,
    message,
    migration,
    numbering,
    receipt,
    segment,
    server_setting,
)
ENUM_CHECKS: dict[tuple[str, str], type[StrEnum] | type[IntEnum]] = {
    ("audit_events", "actor_kind"): permission.CallerKind,
    ("audit_events", "result"): audit.AuditResult,
    ("auth_sessions", "revoke_reason"): access.RevokeReason,
    ("backups", "kind"): backup.BackupKind,
    ("backups", "state"): backup.BackupState,
    ("campaign_moves", "from_state"): campaign.CampaignState,
    ("campaign_moves", "to_state"): campaign.CampaignState,
    ("campaigns", "priority"): campaign.Priority,
    ("campaigns", "purpose"): consent.Purpose,
    ("campaigns", "state"): campaign.CampaignState,
    ("consents", "action"): consent.ConsentAction,
    ("consents", "channel"): consent.ConsentChannel,
    ("consents", "purpose"): consent.Purpose,
    ("contacts", "line_type"): contact.LineType,
    ("contacts", "status"): contact.ContactStatus,
    ("message_chunks", "priority"): campaign.Priority,
    ("message_chunks", "state"): message.ChunkState,
    ("messages", "encoding"): message.Encoding,
    ("messages", "purpose"): consent.Purpose,
    ("messages", "state"): message.MessageState,
    ("migration_detached", "kind"): migration.DetachedKind,
    ("migration_rejects", "reason"): migration.RejectReason,
    ("migration_runs", "status"): migration.RunStatus,
    ("numbering_plans", "layout"): numbering.PlanLayout,
    ("numbering_ranges", "line_type"): numbering.RangeLineType,
    ("receipts_inbox", "kind"): receipt.InboxKind,
    ("receipts_inbox", "state"): receipt.InboxState,
    ("suppressions", "purpose"): suppression.SuppressionPurpose,
    ("suppressions", "reason"): suppression.SuppressionReason,
    ("users", "role"): user.Role,
}
# IN as PostgreSQL prints it: (c)::text = ANY ((ARRAY['a'::character varying, …])::text[]), or c = ANY (ARRAY[0, 1]).
ANY_OF = re.compile(r"\(?(\w+)\)?(?:::text)? = ANY \(\(?ARRAY\[(.*?)\]")
VALUE = re.compile(r"'([^']*)'|\b(\d+)\b")


def stored_enums(url: str) -> dict[tuple[str, str], set[str]]:
    """Every list of values in a CHECK of the database: (table, column) → values."""
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'c' AND coninhcount = 0"
        ).fetchall()
    return {
        (table, column): {quoted or number for quoted, number in VALUE.findall(values)}
        for table, name, definition in rows
        for column, values in ANY_OF.findall(definition)
        if name in (f"ck_{table}_{column}", "ck_contacts_values")
    }


def with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def as_role(url: str, role: str, password: str) -> str:
    return make_url(url).set(username=role, password=password).render_as_string(hide_password=False)


def execute(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.execute(statement.encode())


def tables(url: str) -> set[str]:
    with connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        return {row[0] for row in rows}


def test_fresh_database_is_what_the_models_say(empty_database_url: str) -> None:
    state = schema_service.upgrade(empty_database_url)
    assert (state.before, state.after) == (None, schema_service.head())
    assert schema_service.check_drift(empty_database_url) == []
    schema_service.require_head(empty_database_url)


def test_upgrade_leaves_a_numbering_plan_in_force(empty_database_url: str) -> None:
    schema_service.upgrade(empty_database_url)
    with connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM numbering_plans WHERE in_force").fetchone() == (1,)


def test_down_to_nothing_and_up_again(empty_database_url: str) -> None:
    schema_service.upgrade(empty_database_url)
    schema_service.downgrade(empty_database_url)
    assert tables(empty_database_url) == {"alembic_version", "alembic_version_pkc"}
    assert schema_service.upgrade(empty_database_url).changed
    assert schema_service.check_drift(empty_database_url) == []


def test_second_upgrade_does_nothing(database_url: str) -> None:
    state = schema_service.upgrade(database_url)
    assert not state.changed
    assert state.after == schema_service.head()


def test_two_upgrades_at_once_agree(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(schema_service.upgrade, [empty_database_url] * 2))
    assert sorted(state.changed for state in states) == [False, True]
    assert schema_service.check_drift(empty_database_url) == []


def test_upgrade_works_from_any_directory(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert schema_service.upgrade(empty_database_url).after == schema_service.head()


def test_upgrade_of_no_server_says_what_to_do() -> None:
    with pytest.raises(Unavailable, match="DATABASE_URL"):
        schema_service.upgrade("postgresql://nobody@127.0.0.1:1/none")


def test_database_that_is_not_utf8_is_refused(empty_database_url: str) -> None:
    with connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE sms_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            with pytest.raises(Conflict, match="UTF8"):
                schema_service.upgrade(with_database(empty_database_url, "sms_latin"))
        finally:
            connection.execute("DROP DATABASE sms_latin WITH (FORCE)")


def test_role_without_rights_is_told_which_url_to_set(empty_database_url: str) -> None:
    with connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain_reader LOGIN PASSWORD 'reader'")
        try:
            with pytest.raises(Forbidden, match="DATABASE_ADMIN_URL"):
                schema_service.upgrade(as_role(empty_database_url, "plain_reader", "reader"))
        finally:
            connection.execute("DROP ROLE plain_reader")


def test_tables_in_use_stop_an_upgrade_with_one_line(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema_service.upgrade(empty_database_url)
    monkeypatch.setattr(schema_service, "LOCK_TIMEOUT", "100ms")
    with connect(empty_database_url) as reader:
        reader.execute("SELECT count(*) FROM users")
        with pytest.raises(Conflict) as caught:
            schema_service.downgrade(empty_database_url, "0004")
    assert caught.value.code == "schema_locked"
    assert schema_service.current(empty_database_url) == schema_service.head()


def test_program_refuses_a_schema_that_is_behind_or_ahead(empty_database_url: str) -> None:
    with pytest.raises(Conflict, match="smsctl db upgrade") as behind:
        schema_service.require_head(empty_database_url)
    assert behind.value.code == "schema_behind"
    schema_service.upgrade(empty_database_url)
    execute(empty_database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict) as ahead:
        schema_service.require_head(empty_database_url)
    assert ahead.value.code == "schema_ahead"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TABLE contacts ADD COLUMN extra text", "extra"),
        ("ALTER TABLE contacts DROP COLUMN campo3", "campo3"),
        ("ALTER TABLE contacts ALTER COLUMN city TYPE text", "city"),
        ("ALTER TABLE contacts ALTER COLUMN send_count DROP DEFAULT", "send_count"),
        ("COMMENT ON COLUMN contacts.lada IS 'other'", "lada"),
        ("DROP INDEX idx_contacts_name_gin", "idx_contacts_name_gin"),
        ("ALTER TABLE contacts DROP CONSTRAINT ck_contacts_phone", "ck_contacts_phone"),
        ("ALTER TABLE contacts RESET (fillfactor)", "storage of contacts"),
        ("ALTER TABLE campaign_progress DROP CONSTRAINT fk_campaign_progress_campaign_id", "campaign_progress"),
        ("CREATE TABLE surplus (id bigint)", "surplus"),
    ],
)
def test_drift_is_named(database_url: str, statement: str, named: str) -> None:
    execute(database_url, statement)
    assert [line for line in schema_service.check_drift(database_url) if named in line]


def test_shipped_migrations_are_checked_beside_the_users_database(database_url: str) -> None:
    before = tables(database_url)
    assert schema_service.check_shipped(database_url) == []
    with connect(database_url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'sms_drift_check_%'").fetchone()
    assert left == (0,)
    assert tables(database_url) == before


def test_every_check_of_an_enum_equals_its_enum(database_url: str) -> None:
    expected = {key: {str(member.value) for member in enum} for key, enum in ENUM_CHECKS.items()}
    assert stored_enums(database_url) == expected


def test_every_enum_of_the_models_is_checked_somewhere() -> None:
    enums = {
        enum
        for module in (*MODULES, suppression, user)
        for _, enum in inspect.getmembers(module, inspect.isclass)
        if issubclass(enum, StrEnum | IntEnum) and enum.__module__ == module.__name__
    }
    assert enums - set(ENUM_CHECKS.values()) == {contact.InvalidReason}  # held by is_valid = (invalid_reason IS NULL)


def test_models_of_enum_columns_name_the_same_values() -> None:
    declared = {
        (table.name, str(check.sqltext))
        for table in Base.metadata.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    for (table_name, column), enum in ENUM_CHECKS.items():
        assert any(t == table_name and is_one_of(column, enum) in text for t, text in declared), (table_name, column)


def test_everything_is_commented(database_url: str) -> None:
    with connect(database_url) as connection:
        bare = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " AND NOT a.attisdropped WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND NOT c.relispartition AND c.relname <> 'alembic_version'"
            " AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)"
        ).fetchall()
    assert bare == []


def test_states_know_where_they_may_go() -> None:
    draft, running, done = (campaign.CampaignState(name) for name in ("draft", "running", "completed"))
    assert draft.can_become(campaign.CampaignState.IN_REVIEW)
    assert not draft.can_become(running)
    assert not running.can_become(running)
    assert {"completed", "cancelled"} == campaign.CampaignState.TERMINAL
    assert done in campaign.CampaignState.TERMINAL
    assert message.MessageState.may_become(message.MessageState.DELIVERED) == {"submitted", "unknown"}


def test_moves_must_cover_every_state() -> None:
    class Light(State):
        RED = "red"
        GREEN = "green"

    with pytest.raises(TypeError, match="Light"):
        moves({"red": ("green",)})(Light)


INSERT_CONTACT = (
    "INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, line_type, source)"
    " VALUES (true, true, '+525512345678', '5512345678', 'mobile', 'test') RETURNING id"
)


@pytest.mark.parametrize(
    "change",
    [
        "phone_e164 = '+525512345679'",
        "line_type = 'pager', is_mobile = false",
        "is_mobile = false",
        "is_valid = false",
        "status = 'active'",
        "inferred = 8",
    ],
)
def test_contact_that_contradicts_itself_is_refused(database_url: str, change: str) -> None:
    with connect(database_url) as connection:
        connection.execute(INSERT_CONTACT)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE contacts SET {change}".encode())


def test_acts_of_consent_are_never_changed_and_go_with_the_contact(database_url: str) -> None:
    with connect(database_url) as connection:
        contact_id = connection.execute(INSERT_CONTACT).fetchone()
        connection.execute(
            "INSERT INTO consents (contact_id, purpose, action, channel, happened_at, source)"
            " VALUES (%s, 'marketing', 'granted', 'paper', now(), 'shop')",
            contact_id,
        )
        with pytest.raises(psycopg.errors.RestrictViolation), connection.transaction():
            connection.execute("UPDATE consents SET action = 'withdrawn'")
        connection.execute("DELETE FROM contacts")
        assert connection.execute("SELECT count(*) FROM consents").fetchone() == (0,)


def test_suppression_outlives_its_contact(database_url: str) -> None:
    with connect(database_url) as connection:
        contact_id = connection.execute(INSERT_CONTACT).fetchone()
        connection.execute(
            "INSERT INTO suppressions (phone_hash, contact_id, purpose, reason, source)"
            " VALUES (sha256('x'), %s, 'all', 'erasure', 'test')",
            contact_id,
        )
        connection.execute("DELETE FROM contacts")
        assert connection.execute("SELECT contact_id, purpose FROM suppressions").fetchone() == (None, "all")


def test_only_one_run_may_be_unfinished(database_url: str) -> None:
    insert = (
        "INSERT INTO migration_runs (source_path, source_sha256, source_bytes, source_rows, contact_id_offset, status,"
        " stage, batch_size) VALUES ('a', repeat('0', 64), 1, 1, 0, %s, 'load', 1)"
    )
    with connect(database_url) as connection:
        for status in ("completed", "rolled_back", "completed", "failed"):
            connection.execute(insert, (status,))
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert, ("running",))


def test_no_message_is_in_two_open_chunks(database_url: str) -> None:
    insert = "INSERT INTO message_chunks (lo, hi, message_created_at, state) VALUES (%s, %s, now(), %s)"
    with connect(database_url) as connection:
        connection.execute(insert, (1, 1000, "closed"))
        connection.execute(insert, (1, 1000, "queued"))
        connection.execute(insert, (1001, 2000, "queued"))
        with pytest.raises(psycopg.errors.ExclusionViolation):
            connection.execute(insert, (2000, 2001, "queued"))


def test_updates_of_messages_are_hot(database_url: str) -> None:
    with connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO messages (contact_id, purpose) SELECT n, 'marketing' FROM generate_series(1, 2000) n"
        )
        connection.execute("UPDATE messages SET state = 'submitted', submitted_at = now(), provider = 'simulator'")
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname LIKE 'messages\\_%'"
        ).fetchone()
    assert row == (2000, 2000)


def test_messages_have_partitions_for_the_months_to_come(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_service, "utc_now", lambda: datetime(2026, 11, 24, 18, tzinfo=UTC))
    schema_service.upgrade(empty_database_url)
    expected = {"messages_default", "messages_2026_11", "messages_2026_12", "messages_2027_01", "messages_2027_02"}
    assert expected == {
        name for name in tables(empty_database_url) if re.fullmatch(r"messages_(default|\d+_\d+)", name)
    }


def test_rows_of_a_month_without_partition_move_into_it(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO messages (contact_id, purpose, created_at) SELECT n, 'marketing', day FROM"
            " (VALUES (1, timestamptz '2040-01-31 23:59:59.999999+00'), (2, '2040-02-01 00:00:00+00')) rows (n, day)"
        )
        made = schema_service.ensure_message_partitions(connection, date(2039, 11, 15))
        assert made == ("messages_2039_11", "messages_2039_12", "messages_2040_01", "messages_2040_02")
        rows = connection.execute("SELECT tableoid::regclass::text FROM messages ORDER BY contact_id").fetchall()
        assert rows == [("messages_2040_01",), ("messages_2040_02",)]
        assert schema_service.ensure_message_partitions(connection, date(2039, 11, 30)) == ()
        options = connection.execute("SELECT reloptions FROM pg_class WHERE relname = 'messages_2040_02'").fetchone()
        assert options == (["fillfactor=45"],)
