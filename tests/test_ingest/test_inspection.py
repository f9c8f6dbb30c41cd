"""The analysis: counted against plain SQL, honest about samples, and clear about what the migration will refuse."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.core.plan_store import packaged_plan
from app.ingest import inspection_numbers, inspection_scan
from app.ingest.field_mapping import FIELD_MAPPINGS, unplanned_fields
from app.ingest.inspection import inspect_source
from app.ingest.inspection_numbers import shape_of
from app.ingest.inspection_report import Inspection, RowsReport
from app.ingest.source_schema import INDEXES, TABLES
from app.ingest.synthetic import SyntheticOptions, generate
from app.models.base import Base
from app.utils.phone_utils import normalize


def inspect(path: Path) -> Inspection:
    return inspect_source(path, batch_size=1_000, data_dir=path.parent / "not" / "yet")


def rows_of(inspection: Inspection) -> RowsReport:
    assert inspection.rows is not None
    return inspection.rows


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspection") / "numeros.db"
    generate(path, SyntheticOptions(rows=6_000, seed=3, dirty=0.3, keep_storage_classes=True), packaged_plan())
    return path


@pytest.fixture(scope="module")
def report(source: Path) -> Inspection:
    return inspect(source)


def build(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*TABLES, *INDEXES, *statements):
            connection.execute(statement)
        connection.commit()
    return path


def messages(inspection: Inspection, level: str) -> str:
    return " ".join(item.message for item in inspection.attention if item.level == level)


def test_source_is_left_as_it_was(source: Path, report: Inspection) -> None:
    before = hashlib.sha256(source.read_bytes()).digest()
    inspect(source)
    assert hashlib.sha256(source.read_bytes()).digest() == before
    assert [entry.name for entry in source.parent.iterdir()] == ["numeros.db"]
    assert report.file_bytes == source.stat().st_size


def test_counts_are_those_of_plain_sql(source: Path, report: Inspection) -> None:
    rows = rows_of(report)
    with closing(sqlite3.connect(source)) as plain:
        plain.text_factory = bytes
        for fill in rows.columns:
            nulls = plain.execute(f"SELECT count(*) FROM numeros WHERE {fill.column} IS NULL").fetchone()[0]
            kinds = plain.execute(f"SELECT typeof({fill.column}), count(*) FROM numeros GROUP BY 1").fetchall()
            belongs = "integer" if fill.column == "es_valido" else "text"
            odd = {kind.decode(): count for kind, count in kinds if kind.decode() not in ("null", belongs)}
            assert (fill.nulls, fill.foreign) == (nulls, odd), fill.column
        flags = plain.execute("SELECT sum(es_valido = 1), sum(es_valido = 0), sum(es_valido IS NULL) FROM numeros")
        assert (rows.flagged_valid, rows.flagged_invalid, rows.flag_null) == flags.fetchone()
        states = plain.execute("SELECT count(estado_cof), count(DISTINCT lada) FROM numeros").fetchone()
    assert sum(state.rows for state in rows.states) == states[0]
    assert rows.ladas.distinct == states[1]
    assert rows.rows == 6_000
    assert rows.flagged_valid + rows.flagged_invalid + rows.flag_null + rows.flag_other == 6_000
    assert rows.dates_readable + rows.dates_null + rows.dates_other == 6_000


def test_numbers_are_judged_as_the_phone_rules_do(source: Path, report: Inspection) -> None:
    numbers = rows_of(report).numbers
    with closing(sqlite3.connect(source)) as plain:
        plain.text_factory = bytes
        cells = [row[0] for row in plain.execute("SELECT numero FROM numeros WHERE typeof(numero) = 'text'")]
    texts = [cell.decode() for cell in cells]
    plain_texts = [text for text in texts if len(text) == 10 and text.isascii() and text.isdigit()]
    assert numbers.plain == len(plain_texts)
    assert numbers.plain_valid == sum(normalize(text).national is not None for text in plain_texts)
    assert numbers.odd == numbers.examined == numbers.judged == 6_000 - numbers.plain
    assert numbers.accepted + sum(numbers.rejected_by_reason.values()) == numbers.judged
    assert set(numbers.rejected_by_reason) >= {"too_short", "too_long", "foreign", "empty", "not_a_number"}
    assert 0 < numbers.collide < numbers.accepted


def test_samples_say_that_they_are_samples(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_scan, "ODD_A_WINDOW", 40)
    monkeypatch.setattr(inspection_scan, "WINDOW_IDS", 1_000)
    monkeypatch.setattr(inspection_numbers, "MOST_VERDICTS", 50)
    numbers = rows_of(inspect(source)).numbers
    assert numbers.examined == 240 < numbers.odd
    assert numbers.judged <= 50


def test_how_the_rows_are_cut_changes_nothing(
    source: Path, report: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection_scan, "WINDOW_IDS", 333)
    again = rows_of(inspect(source))
    first = rows_of(report)
    assert (again.columns, again.states, again.ladas, again.text) == (
        first.columns,
        first.states,
        first.ladas,
        first.text,
    )


def test_every_known_spelling_has_a_code_and_unknown_ones_are_listed(report: Inspection) -> None:
    states = {state.spelling: state.code for state in rows_of(report).states}
    assert (states["DF"], states["EDO MEX"], states["MICH"]) == ("CMX", "MEX", "MIC")
    assert states["TEXAS"] is None
    assert "not recognised" in messages(report, "note")


def test_the_blob_in_the_statistics_is_read(source: Path, report: Inspection) -> None:
    with closing(sqlite3.connect(source)) as plain:
        with_city = plain.execute("SELECT count(ciudad_por_lada) FROM numeros").fetchone()[0]
    small = report.small_tables
    assert (small.total_con_ciudad_class, small.total_con_ciudad, small.missing_ladas_rows) == ("blob", with_city, 186)


def test_ids_may_be_few_and_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_scan, "WINDOW_IDS", 2)
    ids = (-(2**63), -5, 0, 7, 10**15, 2**63 - 1)
    inserts = [f"INSERT INTO numeros (id, numero) VALUES ({key}, '551234567{place}')" for place, key in enumerate(ids)]
    rows = rows_of(inspect(build(tmp_path / "n.db", *inserts)))
    assert (rows.rows, rows.first_id, rows.last_id) == (6, ids[0], ids[-1])


def test_an_empty_table_is_said_to_be_empty(tmp_path: Path) -> None:
    report = inspect(build(tmp_path / "n.db"))
    assert rows_of(report).rows == 0
    assert "no rows" in messages(report, "warning")


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ("DROP TABLE ladas_faltantes", "blocker", "ladas_faltantes is missing"),
        ("ALTER TABLE numeros ADD COLUMN rfc TEXT", "blocker", "numeros.rfc is unknown"),
        ("CREATE TABLE otra (a)", "warning", "otra"),
        ("DROP INDEX idx_numeros_fecha", "note", "numeros(fecha_migracion) is missing"),
        ("CREATE VIEW v AS SELECT 1", "note", "view v"),
        ("INSERT INTO estadisticas_migracion (total_validos) VALUES (9)", "warning", "says 9 valid rows"),
    ],
)
def test_what_differs_from_the_expected_schema_is_named(tmp_path: Path, change: str, level: str, text: str) -> None:
    report = inspect(build(tmp_path / "n.db", change))
    assert report.rows is not None
    assert text in messages(report, level)


@pytest.mark.parametrize("missing", ["nombre", "id"])
def test_rows_are_not_read_where_a_column_is_missing(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "n.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in TABLES:
            connection.execute(statement.replace(f"{missing} ", f"otro_{missing} ", 1))
    report = inspect(path)
    assert report.rows is None
    assert f"numeros.{missing} is missing" in messages(report, "blocker")


def test_types_that_differ_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in TABLES:
            connection.execute(
                statement.replace("numero TEXT NOT NULL UNIQUE", "numero BIGINT").replace("nombre TEXT", "nombre")
            )
        connection.execute("INSERT INTO numeros (numero) VALUES (5512345678)")
        connection.commit()
    report = inspect(path)
    assert {(check.column, check.found, check.verdict) for check in report.schema.problems} == {
        ("numero", "BIGINT", "type"),
        ("nombre", "", "type"),
    }
    assert rows_of(report).numbers.shapes == (("(integer)", 1),)
    assert "not UNIQUE" in messages(report, "warning")


def test_hostile_spellings_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_scan, "MOST_SPELLINGS", 10)
    inserts = [f"INSERT INTO numeros (numero, estado_cof) VALUES ('{5510000000 + k}', 'X{k}')" for k in range(200)]
    states = rows_of(inspect(build(tmp_path / "n.db", *inserts))).states
    assert len(states) <= 11
    assert sum(state.rows for state in states) == 200


def test_batches_time_and_space_follow_from_the_rows(report: Inspection) -> None:
    estimate = report.estimate
    assert (estimate.batch_size, estimate.batches) == (1_000, 6)
    assert estimate.load_seconds == pytest.approx(6_000 / estimate.rows_a_second)
    assert estimate.target_bytes == 6_000 * 460
    assert estimate.free_bytes > 0


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("5512345678", "dddddddddd"),
        ("+525512345678", "+52dddddddddd"),
        ("044 55 1234 5678", "044 dd dddd dddd"),
        ("(55) 1234-5678", "(dd) dddd-dddd"),
        ("99955512345678", "dddddddddddddd"),
        ("\u200b5512345678", "<200B>dddddddddd"),
        ("SIN NUMERO 12", "A… A… dd"),
        ("", ""),
        ("5" * 1_000, "d" * 27 + "…"),
    ],
)
def test_shapes_show_the_form_and_never_the_number(text: str, shape: str) -> None:
    assert shape_of(text) == shape


def test_mapping_names_every_column_of_the_source_once() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in TABLES:
            connection.execute(statement)
        tables = ("numeros", "estadisticas_migracion", "ladas_faltantes")
        columns = {
            (table, row[0])
            for table in tables
            for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        }
    mapped = [(field.source_table, field.source_column) for field in FIELD_MAPPINGS]
    assert len(mapped) == len(set(mapped))
    assert set(mapped) == columns


def test_mapping_targets_exist_and_limits_are_those_of_the_columns() -> None:
    for field in FIELD_MAPPINGS:
        table = Base.metadata.tables[field.target_table]
        for name in field.target_columns:
            assert name in table.columns, f"{field.target_table}.{name}"
        if field.max_length is not None:
            assert table.columns[field.target_columns[0]].type.length == field.max_length  # type: ignore[attr-defined]
    assert {field.source_column for field in unplanned_fields()} == {
        "campo3",
        "municipio_csv",
        "estado_sep",
        "municipio_sep",
    }
