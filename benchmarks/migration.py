"""`make bench`: the migration against its floor, the plan's way and pgloader, interleaved in one run.

    python -m benchmarks.migration [--rows N | --source FILE] [--runs N] [--only NAME ...] [--json FILE]

Every round measures every way once, so that a machine that grows slower meanwhile slows all of them. Before each one the
server writes out what is dirty. What cannot be measured here is named with its reason; nothing is filled in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from rich.console import Console

from app.core.clock import utc_now
from app.core.config import get_settings
from app.core.errors import AppError, Broken, Unavailable
from app.core.logs import configure_logs
from benchmarks import floor, ours, pgloader, readers, results, row_by_row
from benchmarks.machine import Usage, this_machine
from benchmarks.ours import IndexTimes, Loaded
from benchmarks.results import IndexTime, Measurement, NotRun, Report, measured
from benchmarks.server import BenchServer, bench_server
from benchmarks.source_file import BenchSource, given_source, synthetic_source

PLAN_BATCH = 10_000
FLOORS = {"floor-1": 1, "floor-2": 2}
LOADS = {
    "ours": (ours.DEFAULTS.batch_size, True),
    "ours-10k": (PLAN_BATCH, True),
    "ours-unchecked": (ours.DEFAULTS.batch_size, False),
}
WHAT = {
    "floor-1": "server-side COPY of the finished rows, one stream, a transaction a batch",
    "floor-2": "the same, two streams; the better of the two is the floor (*)",
    "ours": "read, normalise, classify, de-duplicate, load, check and commit each batch; indexes come later",
    "ours-10k": f"the same in the plan's batches of {PLAN_BATCH:,} rows",
    "ours-unchecked": "the same as ours without the comparison of each batch with its source, on both sides",
    "row-by-row": "the plan's way: phonenumbers' six calls a row, COPY by 10,000, one thread, no key, no index",
    "pgloader": "the 16 columns as they are, from a source without dirt; the whole command",
    "pages": "the product's page reader alone",
    "sqlite3": "Python's sqlite3 alone, all 16 columns",
}
NAMES = (*WHAT, "indexes")
WIDTH = 140
"""Columns where standard output is a file."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure. `only` empty: everything."""

    rows: int = 2_000_000
    source: Path | None = None
    runs: int = 3
    only: tuple[str, ...] = ()
    server_url: str | None = None

    def wants(self, *names: str) -> bool:
        """Whether any of `names` is to be measured."""
        return not self.only or any(name in self.only for name in names)


@dataclass(slots=True)
class Collected:
    """What the rounds brought so far."""

    usages: dict[str, list[Usage]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    reader_cpu_s: dict[str, list[float]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    loaded: int = 0
    fingerprint: int | None = None
    indexes: IndexTimes | None = None


class Bench:
    """One run over all ways. `tell` is called with one line for each measurement."""

    def __init__(self, options: Options, server: BenchServer, source: BenchSource, tell: Callable[[str], None]) -> None:
        self._options = options
        self._server = server
        self._source = source
        self._tell = tell
        self._files: list[Path] = []
        self.found = Collected()

    def run(self) -> None:
        """Prepare the finished rows, then all rounds."""
        with ExitStack() as around:
            self._prepare(around)
            for turn in range(1, self._options.runs + 1):
                for name in WHAT:
                    if self._options.wants(name) and name not in self.found.not_run:
                        self._measure(name, turn)

    def _prepare(self, around: ExitStack) -> None:
        """A load that is not counted: it leaves the finished rows for the floor, and then its indexes are timed."""
        with self._server.fresh_database() as url:
            self._tell("preparing: a load that is not counted")
            self._keep(ours.load(self._server, self._source, url, ours.DEFAULTS.batch_size))
            if self._options.wants("indexes"):
                self._tell("indexes")
                self._server.settle()
                self.found.indexes = ours.build_indexes(url)
            if self._options.wants(*FLOORS):
                try:
                    directory = around.enter_context(self._server.rows_directory())
                except Unavailable as error:
                    self.found.not_run.update(dict.fromkeys(FLOORS, str(error)))
                else:
                    self._tell("preparing: the finished rows as files")
                    self._files = floor.write_finished_rows(url, directory)

    def _keep(self, loaded: Loaded) -> None:
        """Every load of the same source ends in the same rows."""
        if self.found.fingerprint not in (None, loaded.totals.fingerprint):
            raise Broken("Two loads of the same source differ.", code="bench_fingerprint")
        self.found.loaded, self.found.fingerprint = loaded.totals.loaded, loaded.totals.fingerprint

    def _measure(self, name: str, turn: int) -> None:
        try:
            usage, rows = self._once(name)
        except Unavailable as error:
            self.found.not_run[name] = str(error)
            return
        self.found.usages.setdefault(name, []).append(usage)
        self.found.rows[name] = rows
        self._tell(f"round {turn}: {name} {usage.seconds:.2f} s")

    def _once(self, name: str) -> tuple[Usage, int]:
        server, source, rows = self._server, self._source, self._source.facts.rows
        if name in FLOORS:
            return floor.measure(server, source, self._files, FLOORS[name], self.found.loaded), rows
        if name in LOADS:
            return self._load(name), rows
        if name == "row-by-row":
            return row_by_row.measure(server, source)
        if name == "pgloader":
            if pgloader.version() is None:
                raise Unavailable(pgloader.PACKAGE_HINT, code="pgloader")
            return pgloader.measure(server, self._plain_source()), rows
        return (readers.measure_pages(source) if name == "pages" else readers.measure_sqlite3(source)), rows

    def _plain_source(self) -> BenchSource:
        """The source for programs that stop at dirt: of the same size and without any, unless one was given."""
        return self._source if self._options.source else synthetic_source(self._source.facts.rows, dirty=0)

    def _load(self, name: str) -> Usage:
        batch_size, is_checked = LOADS[name]
        with self._server.fresh_database() as url:
            loaded = ours.load(self._server, self._source, url, batch_size, is_checked=is_checked)
        if is_checked:
            self._keep(loaded)
        self.found.reader_cpu_s.setdefault(name, []).append(loaded.reader_cpu_s)
        return loaded.usage


def measure(options: Options, tell: Callable[[str], None]) -> Report:
    """The whole benchmark. Raises: AppError where a measurement is not what it should be, and then there is no report."""
    machine = this_machine()
    source = given_source(options.source) if options.source else synthetic_source(options.rows)
    with bench_server(options.server_url) as server:
        bench = Bench(options, server, source, tell)
        settings = server.settings()
        bench.run()
    found = bench.found
    ways = _measurements(found, source.facts.rows)
    best = results.better_floor(ways)
    ways = [replace(it, to_floor=round(it.whole_s / best.median_s, 3) if best else None) for it in ways]
    indexes = found.indexes
    skipped = [NotRun(name, "not asked for (--only)") for name in NAMES if not options.wants(name)]
    return Report(
        at=utc_now().isoformat(timespec="seconds"), machine=machine, server=settings, source=source.made_of,
        source_rows=source.facts.rows, source_bytes=source.facts.size, loaded=found.loaded, rounds=options.runs,
        batch_size=ours.DEFAULTS.batch_size, streams=ours.DEFAULTS.streams, floor=best.name if best else None,
        measurements=tuple(ways),
        indexes=tuple(IndexTime(name, seconds) for name, seconds in indexes.each.items()) if indexes else (),
        keys_s=indexes.keys_s if indexes else None, fulltext_s=indexes.fulltext_s if indexes else None,
        check_cost=results.check_cost(ways), checks=results.targets(ways),
        not_run=(*(NotRun(name, why) for name, why in found.not_run.items()), *skipped),
    )  # fmt: skip


def _measurements(found: Collected, source_rows: int) -> list[Measurement]:
    ways = []
    for name, runs in found.usages.items():
        what, detail = WHAT[name], {}
        if name in found.reader_cpu_s:
            detail["CPU of the reading thread, µs a row"] = median(found.reader_cpu_s[name]) / source_rows * 1e6
        if name == "pgloader":
            what = f"pgloader {pgloader.version()}: {what}; {pgloader.SETTINGS}"
        ways.append(measured(name, what, runs, found.rows[name], source_rows, detail))
    return ways


def parse_options(arguments: Sequence[str]) -> tuple[Options, Path | None]:
    """Options of the command line, and the file for the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migration", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=Options().rows, help="rows of the synthetic source")
    parser.add_argument("--source", type=Path, help="a numeros.db to use in its place; it is only read")
    parser.add_argument("--runs", type=int, default=Options().runs, help="rounds; medians of them are shown")
    parser.add_argument("--only", nargs="+", default=(), choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", type=Path, help="write everything here as JSON")
    given = parser.parse_args(arguments)
    if given.runs < 1 or given.rows < 1:
        parser.error("--rows and --runs start at 1")
    settings = get_settings()
    url = settings.database_admin_url or settings.database_url
    options = Options(given.rows, given.source, given.runs, tuple(given.only), url.get_secret_value() if url else None)
    return options, given.json


def main(arguments: Sequence[str]) -> int:
    """Run, print the table, write the JSON; returns the exit code."""
    configure_logs("WARNING")
    options, json_file = parse_options(arguments)
    progress = Console(stderr=True, highlight=False)
    try:
        report = measure(options, progress.print)
    except AppError as error:
        progress.print(f"[red]{error}[/red]")
        return error.exit_code
    results.show(report, Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH))
    if json_file:
        json_file.write_text(json.dumps(asdict(report), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
