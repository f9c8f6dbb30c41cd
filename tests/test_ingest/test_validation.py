"""`migrate validate`: it holds for what the loader made, and names what was changed behind its back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from app.core.database import connect
from app.core.errors import AppError, Conflict, NotFound
from app.core.plan_store import place_tables
from app.ingest.kernels.validation import HASHED, hash_int8
from app.ingest.kernels.values import LearnedValues
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import MigrationOptions, MigrationResult
from app.ingest.source import hash_file
from app.ingest.validation import ValidationResult, to_text, validate
from app.ingest.validation_ranges import HIGHEST, LOWEST, id_ranges
from app.ingest.validation_rules import ContactRules, PlanRanges, plain_phone
from app.ingest.validation_scan import hashed_blocks
from app.ingest.validation_source import SourceReader
from app.utils.phone_utils import normalize
from tests.conftest import with_database
from tests.sources import RawText, make_source, numbers

HOSTILE: tuple[object, ...] = (
    7, 2.5, b"\x00\x01\xff", b"PLAIN", RawText(b"\xff\xfe"), "\0", "A\0B", "x" * 1200, "Ñ" * 700, None, -1, "", "  ", "\x01",
    "JOSÉ 🎉", "A\tB\nC\\N", "á" * 150,
)  # fmt: skip
COLUMNS = (
    "campo1_original", "nombre", "campo3", "direccion", "colonia", "municipio_csv", "estado_sep", "municipio_sep",
    "estado_cof", "municipio_cof", "lada", "ciudad_por_lada", "es_valido", "fecha_migracion",
)  # fmt: skip
DATES = (
    "2025-01-27", "2025-01-27T10:30", "2025-01-27 10:30:00.123456", "2025-01-27 10:30:00+05:30", "2025-02-30 10:30:00",
    "1969-12-31 23:59:59", "9999-12-31 23:59:59", "0001-01-01 00:00:00", "2025-01-27 10:30:00Z", "27/01/2025", "2025",
)  # fmt: skip


def migrate(path: Path, url: str, *, batch_size: int = 100, limit: int | None = None) -> MigrationResult:
    return MigrationManager(path, url, batch_size, options=MigrationOptions(limit=limit)).run()


def plain_rows(count: int) -> list[dict[str, object]]:
    return [
        {"numero": number, "nombre": f"PERSONA {k}", "campo1_original": number, "direccion": f"CALLE {k}"}
        for k, number in enumerate(numbers(count))
    ]


def mixed_rows() -> list[Mapping[str, object]]:
    """300 plain rows, then rows whose number changes, duplicates, rejects, and every hostile cell in every column."""
    rows: list[Mapping[str, object]] = [*plain_rows(300)]
    rows += [{"numero": f"044 {number}"} for number in numbers(20, first=5_520_000_000)]
    rows += [{"numero": f"+52 {number}"} for number in numbers(5, first=5_510_000_000)]
    rows += [{"numero": text} for text in ("55123", "+1 212 555 2368", "nada", " ", b"\xff\x00", "1112345678")]
    fresh = iter(numbers(1000, first=5_530_000_000))
    rows += [{"numero": next(fresh), column: value} for column in COLUMNS for value in HOSTILE]
    rows += [{"numero": next(fresh), "fecha_migracion": date} for date in DATES]
    rows += [{"numero": next(fresh).encode()}, {"numero": RawText(b"\xa0" + next(fresh).encode())}]
    return rows


@pytest.fixture(scope="module")
def migrated_once(tmp_path_factory: pytest.TempPathFactory, server_url: str, template_database: str) -> Iterator[Made]:
    """300 plain rows in three batches, and what they became; tests take copies."""
    yield from _made(tmp_path_factory, server_url, template_database, plain_rows(300))


@pytest.fixture(scope="module")
def rejects_once(tmp_path_factory: pytest.TempPathFactory, server_url: str, template_database: str) -> Iterator[Made]:
    """A loaded row, a duplicate of it, and a number that is too short; tests take copies."""
    rows: list[Mapping[str, object]] = [{"numero": "5512345678"}, {"numero": "+525512345678"}, {"numero": "55123"}]
    yield from _made(tmp_path_factory, server_url, template_database, rows)


@dataclass(frozen=True)
class Made:
    """A source and the database that it was migrated into, by its name on the server."""

    source: Path
    server_url: str
    name: str


def _made(
    paths: pytest.TempPathFactory, server_url: str, template: str, rows: Iterable[Mapping[str, object]]
) -> Iterator[Made]:
    source = make_source(paths.mktemp("made") / "n.db", rows)
    with copied(server_url, template) as name:
        migrate(source, with_database(server_url, name))
        yield Made(source, server_url, name)


@contextmanager
def copied(server_url: str, template: str) -> Iterator[str]:
    """Name of a copy of a database; dropped at the end."""
    name = f"sms_test_{uuid4().hex[:16]}"
    with closing(connect(server_url, autocommit=True)) as session:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        session.execute(make)
        yield name
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _copy(made: Made, directory: Path) -> Iterator[tuple[Path, str]]:
    source = Path(shutil.copy2(made.source, directory / "n.db"))
    with copied(made.server_url, made.name) as name:
        yield source, with_database(made.server_url, name)


@pytest.fixture
def migrated(migrated_once: Made, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """300 plain rows in three batches, and what they became."""
    yield from _copy(migrated_once, tmp_path)


@pytest.fixture
def with_rejects(rejects_once: Made, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A loaded row, a duplicate of it, and a number that is too short."""
    yield from _copy(rejects_once, tmp_path)


def tamper(url: str, *statements: str) -> None:
    with closing(connect(url, autocommit=True)) as session:
        for query in statements:
            session.execute(query.encode())


def failed(result: ValidationResult) -> set[str]:
    return {check.name for check in result.checks if not check.holds}


@pytest.mark.parametrize("use_adbc", [True, False])
def test_a_migration_of_hostile_rows_holds(tmp_path: Path, database_url: str, use_adbc: bool) -> None:
    source = make_source(tmp_path / "n.db", mixed_rows())
    result = migrate(source, database_url)
    found = validate(source, database_url, use_adbc=use_adbc)
    assert failed(found) == set()
    assert found.holds
    assert found.run_id == result.run_id
    assert found.rows_compared == result.loaded
    assert found.plan_queries.total_contacts == result.loaded
    assert sum(count for _, count in found.plan_queries.by_state) == result.loaded
    assert dict(found.plan_queries.top_ladas)["55"] == result.loaded


def test_the_source_is_not_written(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    before = (hash_file(source), source.stat().st_mtime_ns, sorted(source.parent.iterdir()))
    validate(source, url)
    assert (hash_file(source), source.stat().st_mtime_ns, sorted(source.parent.iterdir())) == before


def test_progress_reaches_the_last_row(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    told: list[tuple[str, int, int]] = []
    validate(source, url, progress=lambda *what: told.append(what))
    assert [it for it in told if it[0] == "source"][-1] == ("source", 300, 300)
    assert {"source", "contacts", "checks"} == {stage for stage, _, _ in told}


@pytest.mark.parametrize(
    ("change", "check", "field"),
    [
        ("full_name = 'OTRA'", "content", "full_name"),
        ("phone_e164 = '+525599999999', phone_national = '5599999999'", "content", "phone_e164"),
        ("migrated_at = migrated_at + interval '1 microsecond'", "dates", "migrated_at"),
        ("migrated_at = NULL", "dates", "migrated_at"),
        ("migrated_at = 'infinity'", "dates", "migrated_at"),
        ("city = 'OTRA'", "cities", "city"),
        ("state_code = 'JAL', state_name = 'Jalisco'", "states", "state_code"),
        ("invalid_reason = 'source_flag', is_valid = false", "source_flags", "invalid_reason"),
        ("campo3 = ''", "content", "campo3"),
    ],
)
def test_a_flipped_cell_is_named_with_range_row_and_field(
    migrated: tuple[Path, str], change: str, check: str, field: str
) -> None:
    source, url = migrated
    tamper(url, f"UPDATE contacts SET {change} WHERE source_id = 150")
    result = validate(source, url)
    assert not result.holds
    assert {check, "sampled_rows"} <= failed(result)
    (bad,) = result.bad_ranges
    assert (bad.first_id, bad.last_id) == (101, 200)
    assert bad.subjects == (check,)
    assert (bad.rows_off, bad.rows[0].source_id, bad.rows[0].kind) == (1, 150, "differs")
    assert field in bad.rows[0].fields


def test_the_text_for_a_person_names_what_is_off(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    assert "everything holds" in to_text(validate(source, url))
    tamper(url, "UPDATE contacts SET full_name = 'OTRA' WHERE source_id = 150")
    text = to_text(validate(source, url))
    assert "IT DOES NOT HOLD" in text
    assert "Source ids 101 to 200" in text
    assert "150 differs full_name" in text
    assert "OTRA" not in text


def test_a_dropped_row_is_named(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(url, "DELETE FROM contacts WHERE source_id = 250")
    result = validate(source, url)
    assert {"rows", "ledger", "content", "sampled_rows"} <= failed(result)
    (bad,) = result.bad_ranges
    assert (bad.first_id, bad.last_id, bad.source_rows, bad.target_rows) == (201, 300, 100, 99)
    assert [(row.source_id, row.kind) for row in bad.rows] == [(250, "missing")]


def test_an_added_row_is_named(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(
        url,
        "INSERT INTO contacts (id, source_id, migration_run_id, is_mobile, is_valid, phone_e164, phone_national, line_type,"
        " source, lada) VALUES (999, 7, 1, true, true, '+525599999999', '5599999999', 'mobile', 'numeros.db', '55'),"
        " (1000, 301, 1, true, true, '+525599999998', '5599999998', 'mobile', 'numeros.db', '55')",
    )
    result = validate(source, url)
    assert {"rows", "content", "ids_inside"} <= failed(result)
    first, last = result.bad_ranges
    assert [(row.source_id, row.kind) for row in first.rows] == [(7, "extra")]
    assert [(row.source_id, row.kind) for row in last.rows] == [(301, "extra")]


def test_two_names_that_changed_places_are_named(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(
        url,
        "UPDATE contacts c SET full_name = o.full_name FROM contacts o"
        " WHERE (c.source_id, o.source_id) IN ((10, 90), (90, 10))",
    )
    (bad,) = validate(source, url).bad_ranges
    assert (bad.first_id, bad.last_id) == (1, 100)
    assert [(row.source_id, row.fields) for row in bad.rows] == [(10, ("full_name",)), (90, ("full_name",))]


def test_two_dates_that_changed_places_are_seen(tmp_path: Path, database_url: str) -> None:
    rows = [{**row, "fecha_migracion": f"2025-01-27 10:{k:02}:00"} for k, row in enumerate(plain_rows(50))]
    source = make_source(tmp_path / "n.db", rows)
    migrate(source, database_url)
    tamper(
        database_url,
        "UPDATE contacts c SET migrated_at = o.migrated_at FROM contacts o"
        " WHERE (c.source_id, o.source_id) IN ((10, 20), (20, 10))",
    )
    (bad,) = validate(source, database_url).bad_ranges
    assert bad.subjects == ("dates",)
    assert [row.source_id for row in bad.rows] == [10, 20]


def test_many_rows_off_are_counted_and_twenty_named(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(url, "UPDATE contacts SET full_name = 'X' WHERE source_id <= 60")
    (bad,) = validate(source, url).bad_ranges
    assert (bad.rows_off, len(bad.rows)) == (60, 20)


@pytest.mark.parametrize(
    "change",
    ["line_type = 'premium', is_mobile = false", "operator = 'NADIE'", "lada = '33'", "time_zone = 'America/Tijuana'",
     "inferred = 4", "state_name = 'Jalisco'", "source = 'otra'", "status = 'INVALID'"],
)  # fmt: skip
def test_what_no_hash_covers_is_found_by_the_sample(migrated: tuple[Path, str], change: str) -> None:
    source, url = migrated
    tamper(url, f"UPDATE contacts SET {change} WHERE source_id = 150")
    result = validate(source, url, seed=1)
    assert failed(result) == {"sampled_rows"}
    (check,) = (check for check in result.checks if not check.holds)
    assert "150 differs" in check.detail
    assert "seed 1)" in check.detail


def test_a_contact_that_people_blocked_still_holds(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(url, "UPDATE contacts SET status = 'BLOCKED', opt_out_at = now(), send_count = 3 WHERE source_id = 150")
    assert validate(source, url).holds


def test_a_changed_number_that_is_wrong_is_named(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": "044 5512345678"}, {"numero": "5512345679"}])
    migrate(source, database_url)
    tamper(
        database_url,
        "UPDATE contacts SET phone_e164 = '+525512345670', phone_national = '5512345670' WHERE source_id = 1",
    )
    result = validate(source, database_url)
    assert {"content", "changed_rows"} <= failed(result)
    (check,) = (check for check in result.checks if check.name == "changed_rows")
    assert "1 differs (phone_e164, phone_national)" in check.detail


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("""UPDATE migration_rejects SET raw = raw || '{"nombre": "OTRA"}' WHERE source_id = 3""", {"rejects_raw"}),
        ("UPDATE migration_rejects SET raw = raw - 'campo3' WHERE source_id = 3", {"rejects_raw"}),
        ("UPDATE migration_rejects SET reason = 'foreign' WHERE source_id = 3", {"rejects_reason"}),
        ("UPDATE migration_rejects SET reason = 'empty' WHERE source_id = 3", {"rejects_reason"}),
        (
            "UPDATE migration_rejects SET reason = 'invalid', phone_e164 = NULL WHERE source_id = 2",
            {"rejects_reason"},
        ),
        (
            "UPDATE migration_rejects SET phone_e164 = '+525512345670' WHERE source_id = 2",
            {"rejects_reason", "duplicate_links"},
        ),
        ("UPDATE migration_rejects SET duplicate_of_contact_id = 77 WHERE source_id = 2", {"duplicate_links"}),
        ("UPDATE migration_rejects SET duplicate_of_source_id = 77 WHERE source_id = 2", {"duplicate_links"}),
        (
            "DELETE FROM migration_rejects WHERE source_id = 3",
            {"rows", "ledger", "content", "changed_rows"},
        ),
    ],
)
def test_a_tampered_reject_is_found(with_rejects: tuple[Path, str], change: str, expected: set[str]) -> None:
    source, url = with_rejects
    assert validate(source, url).holds
    tamper(url, change)
    assert expected <= failed(validate(source, url)) <= expected | {"ledger_fingerprint"}


def test_a_higher_id_that_was_loaded_before_a_lower_is_found(with_rejects: tuple[Path, str]) -> None:
    source, url = with_rejects
    tamper(
        url,
        "UPDATE contacts SET id = 2, source_id = 2 WHERE source_id = 1",
        "UPDATE migration_rejects SET source_id = 1, duplicate_of_contact_id = 2, duplicate_of_source_id = 2"
        " WHERE source_id = 2",
    )
    assert "duplicate_links" in failed(validate(source, url))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE source_statistics SET with_city_total = 1", "statistics"),
        ("UPDATE source_statistics SET raw = raw || '{\"total_validos\": 1}'", "statistics"),
        ("DELETE FROM source_statistics", "statistics"),
        ("UPDATE missing_ladas SET contact_count = 1", "missing_ladas"),
        ("INSERT INTO missing_ladas (run_id, source_rowid, raw) VALUES (1, 9, '{}')", "missing_ladas"),
        ("UPDATE migration_batches SET loaded = 99, rejected = 1 WHERE first_id = 1", "ledger"),
        ("UPDATE migration_batches SET fingerprint = 1 WHERE first_id = 1", "ledger_fingerprint"),
        ("ALTER TABLE contacts DROP CONSTRAINT uq_contacts_phone_e164", "unique_phones"),
    ],
)
def test_what_lies_beside_the_contacts_is_checked(migrated: tuple[Path, str], change: str, check: str) -> None:
    source, url = migrated
    tamper(url, change)
    assert failed(validate(source, url)) == {check}


def test_rules_that_constraints_keep_are_proven_without_them(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    tamper(
        url,
        "ALTER TABLE contacts DROP CONSTRAINT ck_contacts_phone, DROP CONSTRAINT ck_contacts_values,"
        " DROP CONSTRAINT fk_contacts_migration_run_id",
        "INSERT INTO contacts (migration_run_id, is_mobile, is_valid, phone_e164, phone_national, line_type, source, lada,"
        " source_id, state_code) VALUES (99, false, true, '+5255', '55', 'satellite', 'api', NULL, 1, 'ZZZ')",
    )
    assert failed(validate(source, url)) == {"e164", "states_known", "line_types", "not_null", "run_references"}


def test_contacts_of_other_origin_do_not_count(tmp_path: Path, database_url: str) -> None:
    tamper(
        database_url,
        "INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, line_type, source) "
        "VALUES (true, true, '+525510000000', '5510000000', 'mobile', 'api')",
    )
    source = make_source(tmp_path / "n.db", plain_rows(50))
    result = migrate(source, database_url)
    assert (result.loaded, result.duplicates) == (49, 1)
    found = validate(source, database_url)
    assert failed(found) == set()
    assert found.plan_queries.total_contacts == 50


def test_a_limited_run_is_compared_as_far_as_it_went(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", plain_rows(1000))
    migrate(source, database_url, limit=300)
    result = validate(source, database_url)
    assert failed(result) == set()
    assert result.rows_compared == 300
    tamper(database_url, "UPDATE contacts SET source_id = 900 WHERE source_id = 300")
    (bad,) = validate(source, database_url).bad_ranges
    assert [(row.source_id, row.kind) for row in bad.rows] == [(300, "missing"), (900, "extra")]


def test_an_empty_source_holds(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [])
    migrate(source, database_url)
    assert failed(validate(source, database_url)) == set()


def test_ids_may_be_negative_or_huge(tmp_path: Path, database_url: str) -> None:
    rows = [
        {"id": -5, "numero": "5512345678"},
        {"id": 0, "numero": "5512345677"},
        {"id": 2**40, "numero": "5512345679"},
    ]
    source = make_source(tmp_path / "n.db", rows)
    migrate(source, database_url, batch_size=1)
    assert failed(validate(source, database_url)) == set()


def test_a_utf16_source_holds(tmp_path: Path, database_url: str) -> None:
    rows: list[Mapping[str, object]] = [*plain_rows(50), {"numero": "044 5520000000", "nombre": "ÑANDÚ"}]
    source = make_source(tmp_path / "n.db", rows, encoding="UTF-16le")
    migrate(source, database_url)
    assert failed(validate(source, database_url)) == set()


def test_reals_in_columns_without_a_type_hold(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [])
    with closing(sqlite3.connect(source)) as connection:
        schema = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'numeros'").fetchone()[0]
        connection.executescript(f"DROP TABLE numeros; {schema.replace('nombre TEXT', 'nombre')}")
        connection.execute("INSERT INTO numeros (numero, nombre) VALUES ('5512345678', 0.1), ('5512345679', 3)")
        connection.commit()
    migrate(source, database_url)
    assert failed(validate(source, database_url)) == set()


def test_a_reader_that_fails_midway_is_replaced(migrated: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, url = migrated

    def broken(_self: SourceReader, _first: int, _last: int) -> None:
        raise OSError("type mismatch")

    monkeypatch.setattr(SourceReader, "_adbc_blocks", broken)
    assert validate(source, url).holds


def test_a_run_that_is_not_there_is_said_so(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": "5512345678"}])
    with pytest.raises(NotFound, match="No migration was run yet"):
        validate(source, database_url)
    migrate(source, database_url)
    with pytest.raises(NotFound, match="no migration run 77"):
        validate(source, database_url, 77)


def test_another_file_is_refused(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE numeros SET nombre = 'PERSONA X' WHERE id = 8")
        connection.commit()
    with pytest.raises(Conflict, match="SHA-256") as caught:
        validate(source, url)
    assert caught.value.code == "source_changed"
    source.write_bytes(source.read_bytes()[:-4096])
    with pytest.raises(AppError):
        validate(source, url)
    source.unlink()
    with pytest.raises(NotFound):
        validate(source, url)


def test_a_database_without_the_schema_is_said_so(tmp_path: Path, empty_database_url: str) -> None:
    with pytest.raises(Conflict) as caught:
        validate(make_source(tmp_path / "n.db", []), empty_database_url)
    assert caught.value.code == "schema_missing"


@pytest.mark.parametrize("status", ["interrupted", "failed", "running", "rolled_back"])
def test_a_run_that_is_not_finished_is_refused(migrated: tuple[Path, str], status: str) -> None:
    source, url = migrated
    tamper(url, f"UPDATE migration_runs SET status = '{status}'")
    with pytest.raises(Conflict) as caught:
        validate(source, url)
    assert caught.value.code == "run_not_finished"


def test_a_migration_under_way_is_waited_for(migrated: tuple[Path, str]) -> None:
    source, url = migrated
    with closing(connect(url, autocommit=True)) as session:
        session.execute("SELECT pg_advisory_lock(7302019)")
        with pytest.raises(Conflict) as caught:
            validate(source, url)
    assert caught.value.code == "migration_running"


def test_ranges_leave_no_id_out() -> None:
    whole = id_ranges([(1, 100), (101, 200), (205, 300)], is_whole=True)
    assert [it.pieces for it in whole] == [((LOWEST, 100),), ((101, 204),), ((205, HIGHEST),)]
    limited = id_ranges([(1, 100), (205, 300)], is_whole=False)
    assert [it.pieces for it in limited] == [((1, 100),), ((205, 300),)]
    assert len(id_ranges([(k * 10, k * 10 + 9) for k in range(5000)], is_whole=True)) <= 400
    assert len(id_ranges([(1, 5_000_000), (5_000_001, 10_000_000)], is_whole=True)) >= 64
    assert id_ranges([], is_whole=False)[0].pieces == ()


NUMBER_PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["52", "+52", "0052", "01", "044", "045", "1", "+", "＋", " ", "-", "(", ")", ".", "/", "\u200b", "\xa0", "\0",
             "5512345678", "3312345678", "8001234567", "ext 5", "x", "*", "#", "٥", "~", "\u00ad", "+1 212 555 2368", ";"]
        ),
        st.text(alphabet="0123456789", max_size=11),
        st.text(max_size=4),
    ),
    max_size=7,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(NUMBER_PARTS)
def test_the_second_opinion_reads_numbers_as_the_first(parts: list[str]) -> None:
    text = "".join(parts)
    first, second = normalize(text), plain_phone(text)
    assert second.e164 == first.e164
    assert second.is_foreign == (first.reason == "foreign")
    assert second.is_empty == (first.reason == "empty")


def test_kernel_and_scalar_rules_hash_alike(tmp_path: Path) -> None:
    source = make_source(tmp_path / "n.db", [{"id": k * 3 - 7, **row} for k, row in enumerate(mixed_rows())])
    with closing(SourceReader(source)) as reader, closing(SourceReader(source, use_adbc=False)) as plain:
        rules = ContactRules([PlanRanges([], [], [], [])], place_tables(), reader.real_as_text, 0)
        sides = [_hashed(it) for it in (reader, plain)]
        assert sides[0].keys() == sides[1].keys()
        assert len(sides[0]) > 300
        for source_id, hashes in sides[0].items():
            cells = reader.cells_of(source_id)
            national = rules.national(cells) if cells else None
            assert cells is not None
            assert national is not None
            assert hashes == sides[1][source_id] == rules.hashes(cells, national)


def _hashed(reader: SourceReader) -> dict[int, tuple[int, ...]]:
    """Source id → hashes, for the rows that the kernel hashes."""
    found: dict[int, tuple[int, ...]] = {}
    (whole,) = id_ranges([], is_whole=True)
    for block, states, hashes in hashed_blocks(reader, whole, np.zeros(0, dtype=np.int64), LearnedValues()):
        found |= {int(block.ids[row]): tuple(hashes[row].tolist()) for row in np.flatnonzero(states == HASHED)}
    return found


def test_hash_int8_is_postgresqls(database_url: str) -> None:
    values = [0, 1, -1, 2**31, 2**32, -(2**32), 2**63 - 1, -(2**63), 1_737_973_800_000_000]
    with closing(connect(database_url)) as session:
        for value in values:
            for seed in (0, 1, -1, 2**40, 36_645_692):
                row = session.execute("SELECT hashint8extended(%s::bigint, %s::bigint)", (value, seed)).fetchone()
                assert row is not None
                assert int(hash_int8(value, np.uint64(seed % 2**64))) == row[0] % 2**64
