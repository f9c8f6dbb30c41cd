"""numeros.db into PostgreSQL: what is loaded, what is kept aside, and that it adds up."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row

from app.core.database import connect
from app.core.errors import AppError, Conflict, InvalidInput
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import MigrationOptions, MigrationResult
from tests.sources import PLAIN_ROW, RawText, Row, make_source, numbers


def migrate(path: Path, url: str, *, batch_size: int = 1000, limit: int | None = None) -> MigrationResult:
    return MigrationManager(path, url, batch_size, options=MigrationOptions(limit=limit)).run()


def fetch(url: str, query: str) -> list[dict[str, Any]]:
    with closing(connect(url)) as session, session.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def only(url: str, query: str) -> dict[str, Any]:
    (row,) = fetch(url, query)
    return row


def test_a_plain_row_arrives_in_every_column(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "numeros.db", [{"numero": "5512345678"}])
    result = migrate(source, database_url)
    assert (result.status, result.source_rows, result.loaded) == ("completed", 1, 1)
    contact = only(database_url, "SELECT * FROM contacts")
    expected = {
        "source_id": 1, "migration_run_id": result.run_id, "phone_e164": "+525512345678", "phone_national": "5512345678",
        "phone_original": "5512345678", "full_name": "MARIA GUADALUPE PRUEBA MUÑOZ", "address": "AV DE LA PRUEBA 100 INT 5",
        "neighborhood": "CENTRO", "municipality": "CUAUHTEMOC", "state_code": "CMX", "state_name": "Ciudad de México",
        "lada": "55", "city": "MEXICO", "status": "ACTIVE", "time_zone": "America/Mexico_City", "source": "numeros.db",
        "campo3": "XAXX010101000", "municipio_csv": "CUAUHTEMOC", "estado_sep": "DF", "municipio_sep": "CUAUHTEMOC",
        "opt_out_at": None, "last_sent_at": None, "send_count": 0, "inferred": 0, "is_valid": True,
        "line_type": "mobile", "is_mobile": True, "invalid_reason": None,
    }  # fmt: skip
    assert {name: contact[name] for name in expected} == expected
    assert contact["migrated_at"].isoformat() == "2025-01-27T10:30:00+00:00"
    assert contact["operator"]


OLD_SPELLINGS = {
    "0445512345678": "5512345678", "045 55 1234 5679": "5512345679", "01 (55) 1234-5680": "5512345680",
    "+52 1 55 1234 5681": "5512345681", "525512345682": "5512345682", "0052 55 1234 5683": "5512345683",
    "5215512345684": "5512345684", "55\u200b1234\u00a05685": "5512345685", "+5255.1234.5686": "5512345686",
    "+52 01 55 1234 5687": "5512345687", "005215512345688": "5512345688", "\t5512345689\r\n": "5512345689",
}  # fmt: skip


def test_old_spellings_become_ten_digits_and_are_kept(tmp_path: Path, database_url: str) -> None:
    migrate(make_source(tmp_path / "n.db", [{"numero": written} for written in OLD_SPELLINGS]), database_url)
    found = fetch(
        database_url,
        """SELECT c.phone_e164, r.field, r.rule, r.raw #>> '{}' AS raw
             FROM contacts c LEFT JOIN migration_repairs r USING (source_id) ORDER BY source_id""",
    )
    assert [row["phone_e164"] for row in found] == [f"+52{digits}" for digits in OLD_SPELLINGS.values()]
    assert {(row["field"], row["rule"]) for row in found} == {("numero", "number_reformatted")}
    assert [row["raw"] for row in found] == list(OLD_SPELLINGS)


def test_of_equal_numbers_the_lowest_id_is_loaded_and_the_others_name_it(tmp_path: Path, database_url: str) -> None:
    rows = [
        {"numero": "044 5512345678"},
        {"numero": "5512345678"},
        {"numero": "+525512345678"},
        {"numero": "5587654321"},
    ]
    result = migrate(make_source(tmp_path / "n.db", rows), database_url, batch_size=1)
    assert (result.loaded, result.duplicates, result.rejected) == (2, 2, 0)
    kept = only(database_url, "SELECT id, source_id FROM contacts WHERE phone_e164 = '+525512345678'")
    assert kept["source_id"] == 1
    duplicates = fetch(database_url, "SELECT * FROM migration_rejects ORDER BY source_id")
    assert [row["source_id"] for row in duplicates] == [2, 3]
    assert {row["reason"] for row in duplicates} == {"duplicate"}
    assert {row["duplicate_of_source_id"] for row in duplicates} == {1}
    assert {row["duplicate_of_contact_id"] for row in duplicates} == {kept["id"]}
    assert duplicates[1]["raw"]["numero"] == "+525512345678"


BAD_NUMBERS: dict[object, str] = {
    "55123": "too_short", "55123456789012345": "too_long", "1112345678": "invalid", "+1 212 555 2368": "foreign",
    "no tiene": "not_a_number", "   ": "empty", b"\x00\xff": "not_a_number", RawText(b"\xff"): "not_a_number",
}  # fmt: skip


def test_bad_numbers_are_kept_with_their_reason_and_take_nobody_down(tmp_path: Path, database_url: str) -> None:
    rows = [row for bad, good in zip(BAD_NUMBERS, numbers(len(BAD_NUMBERS)), strict=True)
            for row in ({"numero": bad}, {"numero": good})]  # fmt: skip
    result = migrate(make_source(tmp_path / "n.db", rows), database_url)
    assert (result.loaded, result.rejected) == (len(BAD_NUMBERS), len(BAD_NUMBERS))
    rejects = fetch(database_url, "SELECT source_id, reason, raw FROM migration_rejects ORDER BY source_id")
    assert [reject["reason"] for reject in rejects] == list(BAD_NUMBERS.values())
    assert [reject["source_id"] for reject in rejects] == list(range(1, 2 * len(BAD_NUMBERS), 2))
    assert {reject["raw"]["nombre"] for reject in rejects} == {"MARIA GUADALUPE PRUEBA MUÑOZ"}
    assert sum(result.rejected_by_reason.values()) == len(BAD_NUMBERS)


HOSTILE: dict[str, tuple[object, str | None, str | None]] = {
    "nul": ("A\0B", "AB", "nul_removed"),
    "windows-1252": (RawText("MUÑOZ PEÑA".encode("cp1252")), "MUÑOZ PEÑA", "windows_1252"),
    "undefined byte": (RawText(b"A\x81B"), "A\ufffdB", "replaced"),
    "blob": (b"JOSE", "JOSE", "storage_class"),
    "long": ("X" * 900, "X" * 500, "shortened"),
    "megabyte": ("Ñ" * 1_000_000, "Ñ" * 500, "shortened"),
    "tab and newline": ("A\tB\nC\\N", "A\tB\nC\\N", None),
    "empty": ("", "", None),
    "null": (None, None, None),
    "emoji": ("JOSÉ 🎉", "JOSÉ 🎉", None),
    "backslash dot": ("\\.", "\\.", None),
    "control": ("\x01", "\x01", None),
}


def test_a_hostile_name_loads_by_a_stated_rule(tmp_path: Path, database_url: str) -> None:
    rows = [
        {"numero": number, "nombre": value}
        for number, (value, _, _) in zip(numbers(99), HOSTILE.values(), strict=False)
    ]
    result = migrate(make_source(tmp_path / "n.db", rows), database_url)
    assert result.loaded == len(HOSTILE)
    found = fetch(
        database_url,
        """SELECT c.full_name, r.rule FROM contacts c
             LEFT JOIN migration_repairs r ON r.source_id = c.source_id AND r.field = 'nombre' ORDER BY c.source_id""",
    )
    outcome = {kind: (row["full_name"], row["rule"]) for kind, row in zip(HOSTILE, found, strict=True)}
    assert outcome == {kind: (stored, rule) for kind, (_, stored, rule) in HOSTILE.items()}


def test_no_cell_of_any_kind_keeps_a_good_number_out(tmp_path: Path, database_url: str) -> None:
    values = (7, 2.5, b"\x00\x01\xff", RawText(b"\xff\xfe"), "\0", "x" * 5000, None, -1, "")
    columns = [column for column in PLAIN_ROW if column != "numero"]
    cases = [(column, value) for column in columns for value in values]
    rows: list[dict[str, object]] = [
        {"numero": number, column: value} for number, (column, value) in zip(numbers(len(cases)), cases, strict=True)
    ]
    result = migrate(make_source(tmp_path / "n.db", rows), database_url, batch_size=20)
    assert result.status == "completed"
    loaded = {row["source_id"] for row in fetch(database_url, "SELECT source_id FROM contacts")}
    assert [case for position, case in enumerate(cases, 1) if position not in loaded] == []


def test_es_valido_and_the_plan_decide_together(tmp_path: Path, database_url: str) -> None:
    rows: list[Row] = [{"numero": "5512345678", "es_valido": 0}, {"numero": "5500000000", "es_valido": 1},
            {"numero": "5500000001", "es_valido": 0}, {"numero": "5512345679", "es_valido": None},
            {"numero": "8001234567"}]  # fmt: skip
    migrate(make_source(tmp_path / "n.db", rows), database_url)
    found = fetch(database_url, "SELECT is_valid, invalid_reason, status, line_type FROM contacts ORDER BY id")
    assert [row["invalid_reason"] for row in found] == [
        "source_flag", "unassigned", "unassigned+source_flag", None, None,
    ]  # fmt: skip
    assert [row["line_type"] for row in found][1] == "unassigned"
    assert found[4]["line_type"] == "toll_free"
    assert all(row["status"] == ("ACTIVE" if row["is_valid"] else "INVALID") for row in found)


def test_missing_places_come_from_the_lada_and_say_so(tmp_path: Path, database_url: str) -> None:
    rows: list[Row] = [{"numero": "6641234567", "estado_cof": None, "ciudad_por_lada": None, "municipio_cof": None},
            {"numero": "3312345678", "estado_cof": "  ", "ciudad_por_lada": " "},
            {"numero": "6561234567", "estado_cof": "CHIH", "municipio_cof": "JUAREZ"},
            {"numero": "5512345678", "estado_cof": "NARNIA"}]  # fmt: skip
    migrate(make_source(tmp_path / "n.db", rows), database_url)
    tijuana, guadalajara, juarez, narnia = fetch(
        database_url, "SELECT state_code, city, time_zone, inferred, lada FROM contacts ORDER BY id"
    )
    assert (tijuana["state_code"], tijuana["time_zone"], tijuana["inferred"]) == ("BCN", "America/Tijuana", 7)
    assert (guadalajara["state_code"], guadalajara["lada"], guadalajara["inferred"]) == ("JAL", "33", 7)
    assert (juarez["time_zone"], juarez["inferred"]) == ("America/Ciudad_Juarez", 0)
    assert (narnia["state_code"], narnia["inferred"] & 1) == ("CMX", 1)
    assert only(database_url, "SELECT rule, raw FROM migration_repairs") == {
        "rule": "unrecognised_state", "raw": "NARNIA",
    }  # fmt: skip


def test_both_small_tables_come_along(tmp_path: Path, database_url: str) -> None:
    result = migrate(make_source(tmp_path / "n.db", [{"numero": "5512345678"}]), database_url)
    assert (result.statistics_rows, result.missing_ladas_rows) == (1, 1)
    statistics = only(database_url, "SELECT * FROM source_statistics")
    assert (statistics["processed_total"], statistics["with_city_total"]) == (36_653_021, 12_345_678)
    assert statistics["raw"]["total_con_ciudad"] == {"type": "blob", "hex": (12_345_678).to_bytes(8, "little").hex()}
    assert only(database_url, "SELECT lada, contact_count FROM missing_ladas") == {"lada": "999", "contact_count": 12}


def test_a_second_run_on_the_same_source_writes_nothing(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(50)])
    first = migrate(source, database_url)
    before = only(database_url, "SELECT sum(hashtext(c::text)) AS h, count(*) AS n FROM contacts c")
    assert migrate(source, database_url) == first
    assert only(database_url, "SELECT sum(hashtext(c::text)) AS h, count(*) AS n FROM contacts c") == before


def test_limit_stops_and_the_same_command_goes_on(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(2500)])
    limited = migrate(source, database_url, limit=1200)
    assert (limited.status, limited.source_rows, limited.loaded) == ("limited", 1200, 1200)
    assert migrate(source, database_url, limit=1200).source_rows == 1200
    whole = migrate(source, database_url)
    assert (whole.status, whole.run_id, whole.loaded) == ("completed", limited.run_id, 2500)


def test_a_source_changed_in_between_is_refused(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(2500)])
    migrate(source, database_url, limit=1000)
    source.unlink()
    make_source(source, [{"numero": number} for number in numbers(2501)])
    with pytest.raises(Conflict, match="was changed since run"):
        migrate(source, database_url)


def test_numbers_that_are_there_already_are_duplicates_of_those_contacts(tmp_path: Path, database_url: str) -> None:
    with closing(connect(database_url)) as session:
        session.execute(
            "INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, line_type, source) "
            "VALUES (true, true, '+525512345678', '5512345678', 'mobile', 'api')"
        )
        session.commit()
    rows = [{"numero": "5512345678"}, {"numero": "5512345679"}]
    result = migrate(make_source(tmp_path / "n.db", rows), database_url)
    assert (result.loaded, result.duplicates) == (1, 1)
    reject = only(database_url, "SELECT duplicate_of_contact_id, duplicate_of_source_id FROM migration_rejects")
    assert reject["duplicate_of_contact_id"] == 1
    assert reject["duplicate_of_source_id"] is None


def test_an_empty_source_completes(tmp_path: Path, database_url: str) -> None:
    result = migrate(make_source(tmp_path / "n.db", []), database_url)
    assert (result.status, result.source_rows, result.loaded) == ("completed", 0, 0)


@pytest.mark.parametrize("page_size", [512, 1024, 65536])
def test_every_page_size_is_read(tmp_path: Path, database_url: str, page_size: int) -> None:
    rows = [{"numero": number, "nombre": "N" * (k % 400)} for k, number in enumerate(numbers(300))]
    result = migrate(make_source(tmp_path / "n.db", rows, page_size=page_size), database_url)
    assert result.loaded == 300
    found = fetch(database_url, "SELECT length(full_name) AS n FROM contacts ORDER BY id")
    assert [row["n"] for row in found] == [k % 400 for k in range(300)]


def test_a_utf16_source_is_read(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": "5512345678"}], encoding="UTF-16le")
    assert migrate(source, database_url).loaded == 1
    assert only(database_url, "SELECT full_name FROM contacts")["full_name"] == "MARIA GUADALUPE PRUEBA MUÑOZ"


def test_the_source_is_not_written(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": "5512345678"}])
    before = (source.read_bytes(), source.stat().st_mtime_ns, sorted(tmp_path.iterdir()))
    migrate(source, database_url)
    assert (source.read_bytes(), source.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before


def test_a_missing_table_is_refused_before_anything(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [])
    import sqlite3

    with closing(sqlite3.connect(source)) as connection:
        connection.execute("DROP TABLE ladas_faltantes")
        connection.commit()
    with pytest.raises(InvalidInput, match="ladas_faltantes"):
        migrate(source, database_url)
    assert only(database_url, "SELECT count(*) AS n FROM migration_runs")["n"] == 0


def test_a_damaged_page_stops_the_run_with_its_number(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(5000)])
    data = bytearray(source.read_bytes())
    middle = len(data) // 4096 // 3 * 4096
    data[middle : middle + 4096] = b"\xaa" * 4096
    source.write_bytes(data)
    with pytest.raises(AppError, match=r"damaged|malformed|corrupt"):
        migrate(source, database_url)


def test_ids_may_be_negative_or_huge(tmp_path: Path, database_url: str) -> None:
    rows: list[Row] = [{"id": -5, "numero": "5512345678"}, {"id": 2**40, "numero": "5512345679"}]
    result = migrate(make_source(tmp_path / "n.db", rows), database_url)
    assert result.loaded == 2
    ids = [row["id"] for row in fetch(database_url, "SELECT id FROM contacts ORDER BY id")]
    assert ids[0] > 0
    assert ids[1] - ids[0] == 2**40 + 5
