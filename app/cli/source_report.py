"""The human face of `smsctl source inspect`."""

from __future__ import annotations

from collections import defaultdict
from shlex import quote

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.ingest.field_mapping import TEXT_REPAIRS
from app.ingest.inspection_report import Estimate, Inspection, RowsReport, StateSpelling
from app.ingest.inspection_text import TextColumn
from app.ingest.source_connection import shown
from app.utils.geo_utils import STATE_NAMES

MOST_SPELLINGS = 6
MOST_UNKNOWN = 12
MOST_LADAS = 12
STYLES = {"blocker": "bold red", "warning": "yellow", "note": "cyan"}
MARKS = {"blocker": "✗", "warning": "!", "note": "·"}


def print_report(inspection: Inspection) -> None:
    """Print the whole analysis to standard output, what needs attention last."""
    out = Console(highlight=False)
    _print_head(out, inspection)
    _print_schema(out, inspection)
    _print_mapping(out, inspection)
    if inspection.rows is not None:
        _print_numbers(out, inspection.rows)
        _print_states(out, inspection.rows)
        _print_ladas(out, inspection.rows)
        _print_plan(out, inspection.estimate)
    _print_attention(out, inspection)


def _title(out: Console, text: str) -> None:
    out.print()
    out.print(f"[bold]{escape(text)}[/]")


def _grid(*headers: str, numbers: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in numbers else "left", overflow="fold")
    return table


def _count(cells: int) -> str:
    return f"{cells:,}" if cells else "–"


def _share(part: int, whole: int) -> str:
    if not part:
        return "–"
    share = 100 * part / max(whole, 1)
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def _print_head(out: Console, inspection: Inspection) -> None:
    out.print(f"[bold]{escape(shown(inspection.path))}[/]", soft_wrap=True)
    facts = [f"{inspection.file_bytes / 1e6:,.0f} MB", f"{inspection.encoding}, pages of {inspection.page_size:,} B"]
    if inspection.is_wal:
        facts.append("WAL mode")
    if (rows := inspection.rows) is not None:
        facts.insert(1, f"{rows.rows:,} rows")
        if rows.rows:
            facts.append(f"ids {rows.first_id:,} to {rows.last_id:,}, {rows.missing_ids:,} of them missing")
    out.print(" · ".join(facts))


def _print_schema(out: Console, inspection: Inspection) -> None:
    schema, small = inspection.schema, inspection.small_tables
    _title(out, "Schema")
    if schema.missing_tables:
        out.print(f"[red]missing tables: {', '.join(schema.missing_tables)}[/]")
    if schema.problems:
        table = _grid("column", "expected", "found", "verdict")
        for check in schema.problems:
            found = check.found if check.found is not None else "–"
            table.add_row(escape(f"{check.table}.{check.column}"), check.expected or "–", escape(found), check.verdict)
        out.print(table)
    elif not schema.missing_tables:
        out.print(f"[green]✓[/] three tables with {len(schema.columns)} columns, exactly as expected")
    if schema.missing_indexes:
        out.print(escape(f"missing indexes: {', '.join(schema.missing_indexes)}"))
    if small.statistics_rows is not None and small.missing_ladas_rows is not None:
        out.print(
            f"estadisticas_migracion {small.statistics_rows:,} row(s), ladas_faltantes {small.missing_ladas_rows:,}: "
            "both are moved whole"
        )


def _print_mapping(out: Console, inspection: Inspection) -> None:
    _title(out, "Mapping: numeros → contacts")
    rows = inspection.rows
    fills = {fill.column: fill for fill in rows.columns} if rows else {}
    texts = {column.column: column for column in rows.text.columns} if rows else {}
    table = _grid("column", "→", "NULL", "odd class", "length", "what happens to it", numbers=(2, 3, 4))
    for field in inspection.mapping:
        if field.source_table != "numeros":
            continue
        fill, text = fills.get(field.source_column), texts.get(field.source_column)
        table.add_row(
            field.source_column,
            "[green]" + ", ".join(field.target_columns) + "[/]",
            _share(fill.nulls, rows.rows) if fill and rows else "",
            _count(sum(fill.foreign.values())) if fill else "",
            _length(text),
            escape(field.transformation),
        )
    out.print(table)
    kept = [field.source_column for field in inspection.mapping if not field.in_plan]
    out.print(f"[dim]Unchanged: {escape(TEXT_REPAIRS)}[/]")
    out.print(f"[dim]Left out by the plan, kept in contacts under their own names: {', '.join(kept)}.[/]")
    if rows:
        out.print(f"[dim]length: median / longest of a sample of {rows.text.sampled_rows:,} rows.[/]")


def _length(text: TextColumn | None) -> str:
    return f"{text.median_length:,} / {text.longest:,}" if text and text.cells else ""


def _print_numbers(out: Console, rows: RowsReport) -> None:
    numbers = rows.numbers
    _title(out, "Numbers")
    table = _grid("form", "rows", "share", numbers=(1, 2))
    table.add_row("dddddddddd", f"{numbers.plain:,}", _share(numbers.plain, rows.rows))
    for shape, count in numbers.shapes:
        table.add_row(escape(shape), f"{count:,}", _share(count, rows.rows))
    out.print(table)
    if numbers.examined < numbers.odd:
        out.print(f"[dim]Forms other than the first: a sample of {numbers.examined:,} of {numbers.odd:,}.[/]")
    if numbers.judged:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in numbers.rejected_by_reason.items())
        scope = "all of them" if numbers.judged == numbers.odd else f"a sample of {numbers.judged:,} of {numbers.odd:,}"
        out.print(
            f"What is not ten plain digits ({scope}): {numbers.accepted:,} good once cleaned, "
            f"{numbers.collide:,} of these duplicate another row; {numbers.judged - numbers.accepted:,} rejected"
            f"{f' ({reasons})' if reasons else ''}."
        )
    out.print(
        f"es_valido: 1 {rows.flagged_valid:,} · 0 {rows.flagged_invalid:,} · NULL {rows.flag_null:,} · other "
        f"{rows.flag_other:,}    fecha_migracion: plain {rows.dates_readable:,} · NULL {rows.dates_null:,} · other "
        f"{rows.dates_other:,}"
    )


def _print_states(out: Console, rows: RowsReport) -> None:
    by_code: dict[str, list[StateSpelling]] = defaultdict(list)
    for state in rows.states:
        by_code[state.code or ""].append(state)
    unknown = by_code.pop("", [])
    _title(out, f"States: {len(rows.states):,} spellings, {len(by_code)} states, {len(unknown):,} not recognised")
    table = _grid("code", "state", "rows", "spellings", numbers=(2,))
    for code, states in sorted(by_code.items(), key=lambda item: -sum(state.rows for state in item[1])):
        total = sum(state.rows for state in states)
        table.add_row(code, STATE_NAMES[code], f"{total:,}", _spellings(states, MOST_SPELLINGS))
    if unknown:
        total = sum(state.rows for state in unknown)
        table.add_row("[yellow]–[/]", "[yellow]not recognised[/]", f"{total:,}", _spellings(unknown, MOST_UNKNOWN))
    out.print(table)


def _spellings(states: list[StateSpelling], most: int) -> str:
    shown = " · ".join(f"{escape(_visible(state.spelling))} {state.rows:,}" for state in states[:most])
    return shown + (f" · {len(states) - most:,} more" if len(states) > most else "")


def _visible(text: str) -> str:
    """Text for a terminal: control and invisible characters escaped, nothing longer than 30."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return (shown if len(shown) <= 30 else shown[:29] + "…") or "''"


def _print_ladas(out: Console, rows: RowsReport) -> None:
    ladas = rows.ladas
    _title(out, f"LADAs: {ladas.distinct:,} values")
    out.print(" · ".join(f"{escape(_visible(lada))} {count:,}" for lada, count in ladas.top[:MOST_LADAS]))
    share = _share(ladas.mismatches, ladas.compared)
    out.print(
        f"Not the number's own: {ladas.mismatches:,} of {ladas.compared:,} ({share}), of "
        f"which {ladas.cut_to_three:,} are three digits of 33, 55, 56 or 81."
    )


def _print_plan(out: Console, estimate: Estimate) -> None:
    _title(out, "Plan")
    table = _grid("", "", "")
    table.show_header = False
    table.add_row(
        "batches", f"{estimate.batches:,} × {estimate.batch_size:,} rows", "each committed with its ledger row"
    )
    table.add_row("load", _duration(estimate.load_seconds), f"at {estimate.rows_a_second:,} rows/s, 2 cores")
    table.add_row("keys and B-trees", _duration(estimate.keys_seconds), "linear from measurements at 32 million rows")
    table.add_row("full text", _duration(estimate.full_text_seconds), "may follow while the table is in use")
    table.add_row("target on disk", _size(estimate.target_bytes), "460 B a row, indexes included")
    table.add_row("WAL meanwhile", f"up to {_size(estimate.wal_bytes)}", "")
    table.add_row("free now", _size(estimate.free_bytes), escape(shown(estimate.data_dir)))
    out.print(table)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 10**9 else f"{count / 1e9:,.1f} GB"


def _print_attention(out: Console, inspection: Inspection) -> None:
    _title(out, "Needs attention" if inspection.attention else "Nothing needs attention")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for item in inspection.attention:
        table.add_row(f"[{STYLES[item.level]}]{MARKS[item.level]}[/]", escape(item.message))
    out.print(table)
    if inspection.rows is not None and not any(item.level == "blocker" for item in inspection.attention):
        out.print()
        out.print(f"Next: smsctl migrate run {escape(quote(shown(inspection.path)))}", soft_wrap=True)
