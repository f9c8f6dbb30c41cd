"""The benchmarks run, and say what they measured: a small run whose figures mean nothing."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from app.ingest.source import COLUMNS
from benchmarks import migration, pgloader, results
from benchmarks.machine import Usage
from benchmarks.row_by_row import normalize_mexican_number

pytestmark = pytest.mark.xdist_group("server_settings")
ROWS = 2_000


@pytest.fixture(scope="module")
def report(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> results.Report:
    """A whole run of one round over 2,000 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMS_BENCH_DIR", str(tmp_path_factory.mktemp("bench")))
        return migration.measure(migration.Options(rows=ROWS, runs=1, server_url=server_url), lambda _: None)


def test_every_way_is_measured_or_named_with_its_reason(report: results.Report) -> None:
    shown = [it.name for it in report.measurements]
    absent = {it.name: it.reason for it in report.not_run}
    assert sorted(shown + list(absent)) == sorted(migration.WHAT)
    assert absent == ({} if pgloader.version() else {"pgloader": pgloader.PACKAGE_HINT})


def test_ratios_are_to_the_better_floor_of_the_same_run(report: results.Report) -> None:
    floors = {it.name: it.median_s for it in report.measurements if it.name.startswith("floor-")}
    assert report.floor in floors
    assert floors[report.floor] == min(floors.values())
    for it in report.measurements:
        assert it.to_floor == pytest.approx(it.whole_s / floors[report.floor], abs=1e-3)


def test_cost_is_split_between_client_and_server(report: results.Report) -> None:
    found = {it.name: it for it in report.measurements}
    assert found["ours"].client_cpu_us > 0
    assert found["ours"].peak_rss_mb
    assert {"seconds", "client_cpu_us"} <= report.check_cost.keys()
    assert found["pages"].server_cpu_us is None
    assert all(len(it.runs) == 1 and it.rows == ROWS for it in report.measurements)
    assert 0 < report.loaded <= report.source_rows == ROWS


def test_indexes_are_timed_one_by_one(report: results.Report) -> None:
    names = {it.name for it in report.indexes}
    assert {"uq_contacts_phone_e164", "idx_contacts_name_gin"} <= names
    assert report.keys_s is not None
    assert report.fulltext_s is not None


def test_report_is_json_and_reads_as_a_table(report: results.Report) -> None:
    written = json.loads(json.dumps(asdict(report)))
    assert {"machine", "server", "measurements", "not_run", "checks", "at"} <= written.keys()
    out = io.StringIO()
    results.show(report, Console(file=out, width=160))
    for it in report.measurements:
        assert it.name in out.getvalue()


def test_a_part_is_extrapolated_and_says_so() -> None:
    usage = Usage(seconds=2.0, client_cpu_s=1.0, server_cpu_s=0.5, other_cpu_s=0.0)
    part = results.measured("row-by-row", "", [usage], rows=500, source_rows=2_000)
    assert (part.whole_s, part.is_extrapolated, part.rows_per_s) == (8.0, True, 250)
    assert (part.client_cpu_us, part.server_cpu_us) == (2000.0, 1000.0)


def test_targets_are_unknown_where_one_side_is_missing() -> None:
    assert set(results.targets([]).values()) == {None}
    assert results.check_cost([]) == {}


def test_only_restricts_what_is_measured() -> None:
    options, json_file = migration.parse_options(["--only", "ours", "floor-1", "--json", "out.json"])
    assert options.wants("ours")
    assert not options.wants("pgloader")
    assert json_file == Path("out.json")


def test_plan_way_makes_the_six_values_of_the_plan() -> None:
    found = normalize_mexican_number("5512345678")
    assert found is not None
    assert found[:3] == ("+525512345678", "55 1234 5678", True)
    assert normalize_mexican_number("no number") is None
    assert len(COLUMNS) == 16
