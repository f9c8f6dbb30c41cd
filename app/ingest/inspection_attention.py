"""What of an inspection needs a person's attention, as sentences: blockers first."""

from __future__ import annotations

from collections.abc import Iterator

from app.ingest.inspection_report import Attention, Estimate, RowsReport, SmallTables
from app.ingest.inspection_schema import SchemaCheck

LEVELS = ("blocker", "warning", "note")


def attention_of(
    schema: SchemaCheck, small: SmallTables, rows: RowsReport | None, estimate: Estimate
) -> tuple[Attention, ...]:
    """Everything worth saying, blockers first. An empty tuple: nothing at all stands out."""
    found = [*_of_schema(schema), *_of_space(estimate), *_of_small_tables(small, rows)]
    if rows is not None:
        found += [*_of_numbers(rows), *_of_columns(rows), *_of_text(rows)]
    return tuple(sorted(found, key=lambda item: LEVELS.index(item.level)))


def _of_schema(schema: SchemaCheck) -> Iterator[Attention]:
    for table in schema.missing_tables:
        yield Attention("blocker", f"Table {table} is missing: this is not a whole numeros.db.")
    for check in schema.problems:
        name = f"{check.table}.{check.column}"
        level = "blocker" if check.table == "numeros" else "warning"
        match check.verdict:
            case "missing":
                yield Attention(level, f"Column {name} is missing.")
            case "key":
                yield Attention(level, f"Column {name} is not the primary key.")
            case "extra":
                yield Attention(level, f"Column {name} is unknown: no mapping keeps it.")
            case _:
                yield Attention(
                    "note", f"Column {name} is declared {check.found or 'without a type'} instead of {check.expected}."
                )
    if schema.is_readable and not schema.numero_is_unique:
        yield Attention("warning", "numeros.numero is not UNIQUE here: the same text may stand in several rows.")
    for index in schema.missing_indexes:
        yield Attention("note", f"Index on {index} is missing; the migration does not need it.")
    if schema.extra_tables:
        yield Attention("warning", f"Tables that are not moved: {', '.join(schema.extra_tables)}.")
    if schema.other_objects:
        yield Attention("note", f"Not moved: {', '.join(schema.other_objects)}.")


def _of_space(estimate: Estimate) -> Iterator[Attention]:
    needed = estimate.target_bytes + estimate.wal_bytes
    if needed > estimate.free_bytes:
        yield Attention(
            "warning",
            f"{needed / 1e9:.1f} GB are needed and {estimate.data_dir} has {estimate.free_bytes / 1e9:.1f} GB free. "
            "This counts only where the database is the embedded one.",
        )


def _of_small_tables(small: SmallTables, rows: RowsReport | None) -> Iterator[Attention]:
    if small.total_con_ciudad_class == "blob":
        meaning = f"it reads {small.total_con_ciudad:,}" if small.total_con_ciudad is not None else "it has no 8 bytes"
        yield Attention(
            "note", f"estadisticas_migracion.total_con_ciudad is a BLOB; as a little-endian integer {meaning}."
        )
    if rows and small.statistics_total_valid is not None and small.statistics_total_valid != rows.rows:
        yield Attention(
            "warning",
            f"estadisticas_migracion says {small.statistics_total_valid:,} valid rows, numeros has {rows.rows:,}.",
        )


def _of_numbers(rows: RowsReport) -> Iterator[Attention]:
    numbers = rows.numbers
    if rows.rows == 0:
        yield Attention("warning", "numeros has no rows.")
    not_valid = numbers.plain - numbers.plain_valid
    if not_valid:
        yield Attention("warning", f"{not_valid:,} numbers of ten digits are not valid in Mexico: to be rejected.")
    if numbers.odd:
        yield Attention(
            "note",
            f"{numbers.odd:,} numbers are not ten plain digits. Of {numbers.judged:,} put to the phone rules, "
            f"{numbers.accepted:,} are good once cleaned ({numbers.collide:,} of them are another row's number: "
            f"duplicates) and {numbers.judged - numbers.accepted:,} are rejected.",
        )
    if rows.ladas.mismatches:
        yield Attention(
            "note",
            f"{rows.ladas.mismatches:,} of {rows.ladas.compared:,} LADAs are not their number's "
            f"({rows.ladas.cut_to_three:,} have three digits of 33, 55, 56 or 81): the number's own is used.",
        )


def _of_columns(rows: RowsReport) -> Iterator[Attention]:
    foreign = {fill.column: sum(fill.foreign.values()) for fill in rows.columns if fill.foreign}
    if foreign:
        listed = ", ".join(f"{column} {cells:,}" for column, cells in foreign.items())
        yield Attention("note", f"Cells of a storage class that does not belong, each repaired and recorded: {listed}.")
    unknown = [state for state in rows.states if state.code is None]
    if unknown:
        yield Attention(
            "note",
            f"{len(unknown):,} spellings of states in {sum(state.rows for state in unknown):,} rows are not "
            "recognised: the LADA decides there.",
        )
    if rows.dates_other:
        yield Attention("note", f"{rows.dates_other:,} dates not 'YYYY-MM-DD HH:MM:SS'.")
    if rows.flag_other:
        yield Attention("note", f"{rows.flag_other:,} values of es_valido are neither 0 nor 1.")


def _of_text(rows: RowsReport) -> Iterator[Attention]:
    for name, what in (
        ("too_long", "longer than their target: shortened, kept whole in the ledger"),
        ("with_nul", "with a NUL character: removed and recorded"),
        ("not_utf8", "not UTF-8: read as Windows-1252 and recorded"),
    ):
        cells = sum(getattr(column, name) for column in rows.text.columns)
        if cells:
            yield Attention("note", f"In a sample of {rows.text.sampled_rows:,} rows, {cells:,} text cells are {what}.")
