"""What was measured, in the shape of `--json`, and as a table for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine, Usage

FLOOR_TARGET = 1.25
PGLOADER_TARGET = 4.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One way, measured in every round.

    `rows` is what one round handled; of `rows_of_source` where only a part was, and then `whole_s` is extrapolated.
    Units: seconds; rows/s; processor microseconds a row; MB of 10**6 bytes. All figures are medians of the rounds.
    `to_floor`: whole_s divided by the floor's, None without a floor.
    """

    name: str
    what: str
    rows: int
    runs: tuple[Usage, ...]
    median_s: float
    fastest_s: float
    slowest_s: float
    whole_s: float
    is_extrapolated: bool
    rows_per_s: float
    to_floor: float | None
    client_cpu_us: float
    server_cpu_us: float | None
    other_cpu_share: float | None
    peak_rss_mb: float | None
    detail: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotRun:
    """What is not shown, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexTime:
    """Seconds to build one index of contacts, while another was being built beside it."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run of the benchmarks; `at` is UTC, ISO 8601."""

    at: str
    machine: Machine
    server: dict[str, str]
    source: str
    source_rows: int
    source_bytes: int
    loaded: int
    rounds: int
    batch_size: int
    streams: int
    floor: str | None
    measurements: tuple[Measurement, ...]
    indexes: tuple[IndexTime, ...]
    keys_s: float | None
    fulltext_s: float | None
    check_cost: dict[str, float]
    checks: dict[str, bool | None]
    not_run: tuple[NotRun, ...]


def measured(
    name: str, what: str, runs: Sequence[Usage], rows: int, source_rows: int, detail: dict[str, float] | None = None
) -> Measurement:
    """The medians of `runs`; what handled only a part of the source is extrapolated to all of it."""
    seconds = [run.seconds for run in runs]
    middle = median(seconds)
    others = [run.other_cpu_s / run.seconds for run in runs if run.other_cpu_s is not None and run.seconds]
    return Measurement(
        name=name, what=what, rows=rows, runs=tuple(runs), median_s=round(middle, 3), fastest_s=round(min(seconds), 3),
        slowest_s=round(max(seconds), 3), whole_s=round(middle * source_rows / rows, 3),
        is_extrapolated=rows < source_rows, rows_per_s=round(rows / middle), to_floor=None,
        client_cpu_us=round(median(run.client_cpu_s for run in runs) / rows * 1e6, 3),
        server_cpu_us=_per_row([run.server_cpu_s for run in runs], rows),
        other_cpu_share=round(median(others), 3) if others else None,
        peak_rss_mb=_largest([run.peak_rss_mb for run in runs]), detail=detail or {},
    )  # fmt: skip


def _per_row(seconds: Sequence[float | None], rows: int) -> float | None:
    known = [value for value in seconds if value is not None]
    return round(median(known) / rows * 1e6, 3) if known else None


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def better_floor(measurements: Sequence[Measurement]) -> Measurement | None:
    """The faster of one and two streams; None when they were not measured."""
    floors = [it for it in measurements if it.name.startswith("floor-")]
    return min(floors, key=lambda it: it.median_s, default=None)


def targets(measurements: Sequence[Measurement]) -> dict[str, bool | None]:
    """Whether the two targets of the load hold in this run; None where one side was not measured."""
    found = {it.name: it for it in measurements}
    ours, pgloader = found.get("ours"), found.get("pgloader")
    near = ours.to_floor <= FLOOR_TARGET if ours and ours.to_floor is not None else None
    ahead = ours.rows_per_s >= PGLOADER_TARGET * pgloader.rows_per_s if ours and pgloader else None
    return {"ours_at_most_1.25_floors": near, "ours_at_least_4_times_pgloader": ahead}


def check_cost(measurements: Sequence[Measurement]) -> dict[str, float]:
    """What comparing each batch with its source adds: seconds, and processor µs a row; empty where it was not measured."""
    found = {it.name: it for it in measurements}
    ours, bare = found.get("ours"), found.get("ours-unchecked")
    if ours is None or bare is None:
        return {}
    cost = {"seconds": ours.median_s - bare.median_s, "client_cpu_us": ours.client_cpu_us - bare.client_cpu_us}
    if ours.server_cpu_us is not None and bare.server_cpu_us is not None:
        cost["server_cpu_us"] = ours.server_cpu_us - bare.server_cpu_us
    return {name: round(value, 3) for name, value in cost.items()}


def show(report: Report, console: Console) -> None:
    """Print the report for a person."""
    machine, server = report.machine, report.server
    console.print(
        f"[bold]Migration against its floors[/bold]  {report.at}\n"
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_before} before\n"
        f"PostgreSQL {server['version']}: " + ", ".join(f"{k} {v}" for k, v in server.items() if k != "version") + "\n"
        f"{report.source}: {report.source_rows:,} rows, {report.source_bytes / 1e6:,.0f} MB; {report.loaded:,} loaded; "
        f"batches of {report.batch_size:,} rows, {report.streams} streams; medians of {report.rounds}, interleaved"
    )
    console.print(_table(report))
    for it in report.measurements:
        console.print(f"[bold]{it.name}[/bold]: {it.what}" + _details(it))
    if report.check_cost:
        cost = ", ".join(f"{name} {value:+.2f}" for name, value in report.check_cost.items())
        console.print(f"[bold]the check of each batch[/bold] (ours less ours-unchecked): {cost}")
    if report.keys_s is not None and report.fulltext_s is not None:
        each = ", ".join(f"{it.name} {it.seconds:.2f}" for it in report.indexes)
        console.print(
            f"[bold]indexes[/bold], seconds, two at a time: {each}; keys and B-trees {report.keys_s:.2f}, "
            f"then full text {report.fulltext_s:.2f}"
        )
    for name, holds in report.checks.items():
        word = "not measured" if holds is None else "holds" if holds else "does NOT hold"
        console.print(f"[bold]{name}[/bold]: {word}")
    for missing in report.not_run:
        console.print(f"[bold]{missing.name}[/bold] is not shown: {missing.reason}")


def _table(report: Report) -> Table:
    table = Table(
        caption="CPU in microseconds a row; x floor: time for the whole source, as a multiple of the floor's."
    )
    table.add_column("what")
    for heading in (
        "rows",
        "s (median)",
        "min-max",
        "k rows/s",
        "x floor",
        "client",
        "PostgreSQL",
        "others' cores",
        "MB",
    ):
        table.add_column(heading, justify="right")
    for it in report.measurements:
        ratio = "" if it.to_floor is None else f"{it.to_floor:.2f}" + (" extrapolated" if it.is_extrapolated else "")
        table.add_row(
            f"{it.name} *" if it.name == report.floor else it.name, f"{it.rows:,}", f"{it.median_s:.2f}",
            f"{it.fastest_s:.2f}-{it.slowest_s:.2f}", f"{it.rows_per_s / 1e3:,.1f}", ratio, f"{it.client_cpu_us:.2f}",
            _number(it.server_cpu_us), _number(it.other_cpu_share), _number(it.peak_rss_mb, 0),
        )  # fmt: skip
    return table


def _details(it: Measurement) -> str:
    return "".join(f"; {name} {value:,.2f}" for name, value in it.detail.items())


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
