"""`migrate report`: the figures of a run, for a person and for a program, and every row that was kept aside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from app.core.database import connect
from app.core.errors import Forbidden, NotFound
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import MigrationOptions, MigrationResult
from app.ingest.report import HEX_PREFIXES, export_rejects, report, to_json, to_markdown, write
from app.ingest.report_kpis import PLAN_INDEXES, PLAN_ROWS, KpiFacts, kpis
from app.ingest.report_markdown import percent
from app.ingest.source import COLUMNS
from tests.sources import RawText, make_source, numbers


def migrate(path: Path, url: str, *, batch_size: int = 10, limit: int | None = None) -> MigrationResult:
    return MigrationManager(path, url, batch_size, options=MigrationOptions(limit=limit)).run()


@pytest.fixture
def migrated(tmp_path: Path, database_url: str) -> str:
    """60 rows from Mexico City, 20 from Guadalajara, 10 toll-free, 5 duplicates, 5 rejects."""
    rows: list[dict[str, object]] = [{"numero": number} for number in numbers(59, first=5_512_345_600)]
    rows += [{"numero": "+52 5512345659"}]
    rows += [
        {"numero": number, "estado_cof": None, "ciudad_por_lada": None, "es_valido": 0}
        for number in numbers(20, first=3_312_345_600)
    ]
    rows += [{"numero": number, "estado_cof": "JAL"} for number in numbers(10, first=8_001_234_560)]
    rows += [{"numero": f"044{number}"} for number in numbers(5, first=5_512_345_600)]
    rows += [{"numero": f"55 {k}"} for k in range(4)]
    rows += [{"numero": "+1 212 555 2368", "nombre": RawText(b"\xff|\x81")}]
    migrate(make_source(tmp_path / "n.db", rows), database_url)
    return database_url


def test_the_figures_are_those_of_the_run(migrated: str) -> None:
    made = report(migrated)
    quality = made.quality
    assert (quality.rows_read, quality.loaded, quality.duplicates, quality.rejected) == (100, 90, 5, 5)
    assert (quality.loaded_percent, quality.e164, quality.e164_percent) == (90.0, 90, 100.0)
    assert (quality.valid, quality.state_inferred, quality.city_inferred) == (70, 20, 20)
    assert {it.value: it.rows for it in made.rejects} == {"duplicate": 5, "too_short": 4, "foreign": 1}
    assert [(it.value, it.rows) for it in made.by_state] == [("Ciudad de México (CMX)", 60), ("Jalisco (JAL)", 30)]
    assert [(it.value, it.rows) for it in made.by_lada] == [("55", 60), ("33", 20), ("800", 10)]
    assert {it.value: it.rows for it in made.by_line_type}["toll_free"] == 10
    assert sum(it.rows for it in made.by_operator) == 90
    assert (made.missing_ladas, made.statistics[0].with_city_total) == (1, 12_345_678)
    assert {it.name for it in made.indexes} >= set(PLAN_INDEXES)
    assert all(it.is_ready for it in made.indexes)
    assert made.numbering_plan_version
    assert (made.speed.batches, len(made.speed.lines), sum(it.rows_read for it in made.speed.lines)) == (10, 10, 100)


def test_batches_are_condensed_to_twenty_lines(tmp_path: Path, database_url: str) -> None:
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(45)])
    migrate(source, database_url, batch_size=1)
    speed = report(database_url).speed
    assert (speed.batches, len(speed.lines)) == (45, 20)
    assert sum(it.batches for it in speed.lines) == sum(it.rows_read for it in speed.lines) == 45
    assert [it.first_id for it in speed.lines] == sorted(it.first_id for it in speed.lines)


def test_the_kpis_say_what_holds_and_what_is_not_shown(migrated: str) -> None:
    verdicts = {kpi.name: kpi.verdict for kpi in report(migrated).kpis}
    assert verdicts == {
        "Rows migrated": "not shown", "Valid numbers kept": "does not hold", "E.164": "holds",
        "Duplicates in the table": "holds", "Indexes": "holds", "Backup after the migration": "not shown",
    }  # fmt: skip


def test_a_missing_index_and_key_are_named(migrated: str) -> None:
    with connect(migrated) as session:
        session.execute("DROP INDEX idx_contacts_name_gin")
        session.execute("ALTER TABLE contacts DROP CONSTRAINT uq_contacts_phone_e164")
    found = {kpi.name: kpi for kpi in report(migrated).kpis}
    assert found["Indexes"].verdict == found["Duplicates in the table"].verdict == "does not hold"
    assert "idx_contacts_name_gin" in found["Indexes"].found
    assert found["Duplicates in the table"].found == "0, no constraint in force"


def test_only_a_verified_backup_made_after_the_run_counts(migrated: str) -> None:
    with connect(migrated) as session:
        session.execute(
            "INSERT INTO backups (kind, label, path, state, started_at, verified_at) VALUES"
            " ('full', 'before', '/b', 'verified', now() - interval '1 day', now()),"
            " ('full', 'broken', '/b', 'failed', now(), NULL), ('source', 'copy', '/b', 'verified', now(), now())"
        )
    assert report(migrated).kpis[-1].verdict == "not shown"
    with connect(migrated) as session:
        session.execute(
            "INSERT INTO backups (kind, label, path, state, started_at, verified_at)"
            " VALUES ('full', 'after', '/b', 'verified', now(), now())"
        )
    assert report(migrated).kpis[-1].verdict == "holds"
    assert "'after'" in report(migrated).kpis[-1].found


def facts(**changed: int) -> KpiFacts:
    figures = {
        "source_rows": PLAN_ROWS, "rows_read": PLAN_ROWS, "loaded": PLAN_ROWS - 10, "duplicates": 7, "rejected": 3,
        "contacts": PLAN_ROWS - 10, "e164": PLAN_ROWS - 10, "valid": 1, "repeated": 0,
    } | changed  # fmt: skip
    return KpiFacts(**figures, is_unique=True, ready_indexes=frozenset(PLAN_INDEXES), backup="full backup")


def test_the_whole_plan_can_hold() -> None:
    assert {kpi.verdict for kpi in kpis(facts())} == {"holds"}


@pytest.mark.parametrize("changed", [{"rejected": 2}, {"contacts": PLAN_ROWS - 11}, {"rows_read": PLAN_ROWS - 1}])
def test_one_row_too_few_is_not_migrated(changed: dict[str, int]) -> None:
    assert kpis(facts(**changed))[0].verdict == "does not hold"


def test_shares_are_none_or_all_only_where_they_are() -> None:
    assert [percent(part, 10**7) for part in (0, 1, 10**7 - 1, 10**7)] == [0.0, 0.001, 99.999, 100.0]
    assert percent(0, 0) == 0.0


def test_the_document_names_every_part(migrated: str) -> None:
    text = to_markdown(report(migrated))
    for words in ("# Migration report: run 1, completed", "**100** of 100 rows read", "✔ holds", "– not shown", "too_short",
                  "number_reformatted", "rows/s", "Ciudad de México (CMX)", "By operator", "TELCEL2022.csv",
                  "uq_contacts_phone_e164", "██"):  # fmt: skip
        assert words in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)


def test_the_report_is_written_as_json_or_markdown(migrated: str, tmp_path: Path) -> None:
    made = report(migrated)
    write(made, tmp_path / "new" / "report.json")
    write(made, tmp_path / "report.md")
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == json.loads(to_json(made))
    assert json.loads(to_json(made))["quality"]["loaded"] == 90
    assert (tmp_path / "report.md").read_text() == to_markdown(made)
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_written_is_said_so(migrated: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Forbidden, match="cannot be written"):
        write(report(migrated), tmp_path / "file" / "report.md")
    with pytest.raises(Forbidden, match="cannot be written"):
        export_rejects(migrated, None, tmp_path / "file" / "rejects.csv")


def test_rejects_are_exported_whole(migrated: str, tmp_path: Path) -> None:
    assert export_rejects(migrated, None, tmp_path / "rejects.csv") == 10
    with (tmp_path / "rejects.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    assert tuple(head[6:]) == ("raw_id", *COLUMNS[1:])
    assert [row[0] for row in rows] == [str(k) for k in range(91, 101)]
    assert rows[0][:6] == ["91", "duplicate", "+525512345600", "1", "1", ""]
    assert rows[0][head.index("numero")] == "0445512345600"
    assert rows[-1][head.index("nombre")] == f"{HEX_PREFIXES[0]}ff7c81"
    assert rows[-1][5] == "country code 1"


def test_cells_of_every_class_can_be_told_apart(tmp_path: Path, database_url: str) -> None:
    cells: tuple[object, ...] = (b"\x00\xff", "A\0", "hex-blob:00", 'A"B,\nC', "", None, 7, "=1+1")
    rows = [{"numero": f"55 {k}", "nombre": cell, "es_valido": 2.5} for k, cell in enumerate(cells)]
    migrate(make_source(tmp_path / "n.db", rows), database_url)
    export_rejects(database_url, 1, tmp_path / "rejects.csv")
    text = (tmp_path / "rejects.csv").read_text(encoding="utf-8")
    with (tmp_path / "rejects.csv").open(newline="", encoding="utf-8") as file:
        found = [row["nombre"] for row in csv.DictReader(file)]
    assert found == [
        "hex-blob:00ff", "hex-text:4100", f"hex-text:{b'hex-blob:00'.hex()}", 'A"B,\nC', "", "", "7", "=1+1",
    ]  # fmt: skip
    assert ',"",' in text  # the empty text, unlike NULL
    assert ",2.5," in text


def test_a_limited_and_an_empty_run_have_a_report(tmp_path: Path, database_url: str) -> None:
    empty = make_source(tmp_path / "empty.db", [])
    migrate(empty, database_url)
    assert "None." in to_markdown(report(database_url))
    source = make_source(tmp_path / "n.db", [{"numero": number} for number in numbers(30)])
    limited = migrate(source, database_url, limit=10)
    made = report(database_url)
    assert (made.run_id, made.status, made.quality.rows_read) == (limited.run_id, "limited", 10)
    assert made.kpis[0].verdict == "does not hold"
    assert "not finished" in to_markdown(made)
    assert report(database_url, 1).quality.rows_read == 0


def test_a_run_that_is_not_there_is_said_so(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        report(database_url)
    with pytest.raises(NotFound):
        export_rejects(database_url, 5, tmp_path / "rejects.csv")
