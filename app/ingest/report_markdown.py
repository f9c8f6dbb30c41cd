"""The report of a migration as a Markdown document that reads well on a terminal too: columns are aligned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ingest.report import Count, MigrationReport

BAR = 20
"""Characters of the longest bar."""

MARKS = {"holds": "✔ holds", "does not hold": "✘ does not hold", "not shown": "– not shown"}
SHOWN_REPAIRS = 20


def percent(part: int, whole: int) -> float:
    """`part` of `whole` in percent, three places; 0 or 100 only where it is none or all."""
    if not whole or part in (0, whole):
        return 100.0 if part and part == whole else 0.0
    return min(max(round(100 * part / whole, 3), 0.001), 99.999)


def document(made: MigrationReport) -> str:
    """The whole document, ending in a line feed."""
    parts = (
        _head(made), _kpis(made), _quality(made), _rejects(made), _repairs(made), _speed(made),
        _distribution("By line type", "line type", made.by_line_type), _distribution("By state", "state", made.by_state),
        _distribution("By LADA, the 20 largest", "LADA", made.by_lada),
        _distribution("By operator, the 20 largest (first assigned; numbers can be ported)", "operator", made.by_operator),
        _source_tables(made), _storage(made),
    )  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """Lines of a table; the columns in `left` are aligned to the left, the others to the right."""
    cells = [list(head), *([str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = (row[k].ljust(widths[k]) if k in left else row[k].rjust(widths[k]) for k in range(len(head)))
        return "| " + " | ".join(padded) + " |"

    yield line(cells[0])
    yield (
        "|"
        + "|".join(":" + "-" * (width + 1) if k in left else "-" * (width + 1) + ":" for k, width in enumerate(widths))
        + "|"
    )
    yield from (line(row) for row in cells[1:])


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds >= 100:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
    return f"{seconds:.1f} s"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _moment(value: datetime | None) -> str:
    return "not finished" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _share(value: float) -> str:
    """A percentage of `percent`: 0 and 100 are exact."""
    return f"{value:.3f} %" if 0 < value < 100 else f"{value:.0f} %"


def _head(made: MigrationReport) -> Iterator[str]:
    held = sum(kpi.verdict == "holds" for kpi in made.kpis)
    missed = sum(kpi.verdict == "does not hold" for kpi in made.kpis)
    q = made.quality
    yield f"# Migration report: run {made.run_id}, {made.status}"
    yield ""
    yield (
        f"**{q.rows_read:,}** of {made.source_rows:,} rows read, **{q.loaded:,}** contacts, {q.duplicates:,} duplicates, "
        f"{q.rejected:,} rejected. Of the plan's {len(made.kpis)} targets {held} hold, {missed} do not, "
        f"{len(made.kpis) - held - missed} are not shown by this run."
    )
    if made.error:
        yield ""
        yield f"It stopped with: {made.error}"
    yield ""
    facts = (
        ("Source", f"`{made.source_path}`, {_size(made.source_bytes)}"),
        ("SHA-256", f"`{made.source_sha256}`"),
        ("Started", _moment(made.started_at)),
        ("Finished", _moment(made.finished_at)),
        ("Numbering plan", f"of {made.numbering_plan_version}" if made.numbering_plan_version else "none"),
        ("Batch", f"{made.batch_size:,} rows"),
        ("Memory of the client", f"{made.peak_rss_mb:,.0f} MB at most" if made.peak_rss_mb else "–"),
        ("Fingerprint", f"`{made.fingerprint}`" if made.fingerprint else "–"),
        ("This report", _moment(made.made_at)),
    )
    yield from (f"- {name}: {value}" for name, value in facts)


def _kpis(made: MigrationReport) -> Iterator[str]:
    yield "## Targets of the plan"
    yield ""
    rows = [(kpi.name, kpi.target, MARKS[kpi.verdict], kpi.found) for kpi in made.kpis]
    yield from _table(("target", "wanted", "verdict", "figure"), rows, left=(0, 1, 2, 3))


def _quality(made: MigrationReport) -> Iterator[str]:
    q = made.quality
    yield "## Quality"
    yield ""
    rows = (
        ("rows read", q.rows_read, "", ""),
        ("loaded", q.loaded, _share(q.loaded_percent), "rows read"),
        ("duplicates", q.duplicates, _share(q.duplicates_percent), "rows read"),
        ("rejected", q.rejected, _share(q.rejected_percent), "rows read"),
        ("repaired: a cell was changed to fit", q.repaired, _part(q.repaired, q.loaded), "contacts"),
        ("valid: assigned, not marked by the source", q.valid, _share(q.valid_percent), "contacts"),
        ("mobile", q.mobile, _share(q.mobile_percent), "contacts"),
        ("E.164, +52 and ten digits", q.e164, _share(q.e164_percent), "contacts"),
        ("state inferred from the LADA", q.state_inferred, _part(q.state_inferred, q.loaded), "contacts"),
        ("city inferred from the LADA", q.city_inferred, _part(q.city_inferred, q.loaded), "contacts"),
        ("time zone inferred", q.time_zone_inferred, _part(q.time_zone_inferred, q.loaded), "contacts"),
    )
    yield from _table(
        ("what", "rows", "share", "of the"), [(name, f"{n:,}", share, of) for name, n, share, of in rows], left=(0, 3)
    )


def _part(part: int, whole: int) -> str:
    return _share(percent(part, whole))


def _rejects(made: MigrationReport) -> Iterator[str]:
    yield "## Rows without a contact of their own"
    yield ""
    if not made.rejects:
        yield "None."
        return
    rows = [(it.value, f"{it.rows:,}", _share(it.percent)) for it in made.rejects]
    yield from _table(("reason", "rows", "of the rows read"), rows)
    yield ""
    yield f"Each is kept whole with its reason: `smsctl migrate report --run {made.run_id} --rejects FILE.csv` writes them."


def _repairs(made: MigrationReport) -> Iterator[str]:
    yield "## Cells that were changed to fit"
    yield ""
    if not made.repairs:
        yield "None."
        return
    rows = [(it.rule, it.field, f"{it.cells:,}") for it in made.repairs[:SHOWN_REPAIRS]]
    if len(made.repairs) > SHOWN_REPAIRS:
        rest = made.repairs[SHOWN_REPAIRS:]
        rows.append((f"{len(rest)} others", "", f"{sum(it.cells for it in rest):,}"))
    yield from _table(("rule", "column", "cells"), rows, left=(0, 1))
    yield ""
    yield "Each cell is kept as it was, in `migration_repairs`."


def _speed(made: MigrationReport) -> Iterator[str]:
    speed = made.speed
    yield "## Speed"
    yield ""
    yield from _table(("stage", "time"), [(it.name, _time(it.seconds)) for it in made.stages])
    yield ""
    yield (
        f"{_rate(speed.rows_per_second)} rows/s over the load. {speed.batches:,} batches; one batch of one stream: "
        f"{_rate(speed.slowest)} rows/s at least, {_rate(speed.median)} in the median, {_rate(speed.fastest)} at most."
    )
    if not speed.lines:
        return
    yield ""
    rows = [
        (f"{it.first_id} to {it.last_id}", f"{it.batches:,}", f"{it.rows_read:,}", f"{it.loaded:,}", f"{it.duplicates:,}",
         f"{it.rejected:,}", f"{it.seconds:,.2f}", _rate(it.rows_per_second))
        for it in speed.lines
    ]  # fmt: skip
    head = ("source ids", "batches", "rows", "loaded", "duplicates", "rejected", "stream seconds", "rows/s")
    yield from _table(head, rows)


def _distribution(title: str, column: str, counts: Sequence[Count]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if not counts:
        yield "None."
        return
    most = max(it.rows for it in counts)
    rows = [(it.value, f"{it.rows:,}", _share(it.percent), _bar(it.rows, most)) for it in counts]
    yield from _table((column, "contacts", "share", ""), rows, left=(0, 3))


def _bar(rows: int, most: int) -> str:
    eighths = round(8 * BAR * rows / most)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _source_tables(made: MigrationReport) -> Iterator[str]:
    yield "## What the makers of the source counted"
    yield ""
    for it in made.statistics:
        figures = (
            ("processed", it.processed_total), ("valid", it.valid_total), ("duplicates", it.duplicate_total),
            ("with a city", it.with_city_total), ("LADAs found", it.ladas_found), ("LADAs missing", it.ladas_missing),
        )  # fmt: skip
        words = ", ".join(f"{name} {value:,}" for name, value in figures if value is not None)
        yield f"- `{it.source_file or 'no file named'}`, {_moment(it.recorded_at)}: {words}; {_time(it.processing_seconds)}."
    yield f"- {made.missing_ladas:,} LADAs that they could not place (`missing_ladas`)."


def _storage(made: MigrationReport) -> Iterator[str]:
    yield "## Table and indexes"
    yield ""
    rows = [
        (it.name, _size(it.bytes), "ready" if it.is_ready else "not usable", "yes" if it.is_unique else "")
        for it in made.indexes
    ]
    rows = [("contacts (table)", _size(made.table_bytes), "", ""), *rows]
    rows.append(("in all", _size(made.table_bytes + made.indexes_bytes), "", ""))
    yield from _table(("object", "size", "state", "unique"), rows, left=(0, 2, 3))
