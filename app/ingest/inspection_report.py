"""What the analysis of a source found, as values: made by `inspection`, shown by the CLI, printed as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.ingest.field_mapping import FieldMapping
from app.ingest.inspection_numbers import NumberReport
from app.ingest.inspection_schema import SchemaCheck
from app.ingest.inspection_text import TextReport


@dataclass(frozen=True, slots=True)
class Attention:
    """Something to know before moving: `level` 'blocker' (the migration will refuse), 'warning' or 'note'."""

    level: str
    message: str


@dataclass(frozen=True, slots=True)
class SmallTables:
    """estadisticas_migracion and ladas_faltantes: rows, and what total_con_ciudad means where it is a BLOB."""

    statistics_rows: int | None
    statistics_total_valid: int | None
    total_con_ciudad_class: str | None
    total_con_ciudad: int | None
    missing_ladas_rows: int | None


@dataclass(frozen=True, slots=True)
class ColumnFill:
    """NULLs of one column, and its cells of storage classes that do not belong."""

    column: str
    nulls: int
    foreign: dict[str, int]


@dataclass(frozen=True, slots=True)
class StateSpelling:
    """One spelling in estado_cof, its rows, and the code it becomes (None: not recognised)."""

    spelling: str
    rows: int
    code: str | None


@dataclass(frozen=True, slots=True)
class LadaReport:
    """Column lada: how many values, the commonest with their rows, and rows whose lada is not that of their number.

    `compared` are the rows with a lada and a number of ten characters; of the mismatches `cut_to_three` have three
    digits of a number whose LADA has two.
    """

    distinct: int
    top: tuple[tuple[str, int], ...]
    compared: int
    mismatches: int
    cut_to_three: int


@dataclass(frozen=True, slots=True)
class RowsReport:
    """Everything about the rows of numeros. States are commonest first."""

    rows: int
    first_id: int
    last_id: int
    missing_ids: int
    columns: tuple[ColumnFill, ...]
    states: tuple[StateSpelling, ...]
    ladas: LadaReport
    numbers: NumberReport
    text: TextReport
    flagged_valid: int
    flagged_invalid: int
    flag_null: int
    flag_other: int
    dates_readable: int
    dates_null: int
    dates_other: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The batches, and the time and space that the migration is expected to take."""

    batch_size: int
    batches: int
    rows_a_second: int
    load_seconds: float
    keys_seconds: float
    full_text_seconds: float
    target_bytes: int
    wal_bytes: int
    free_bytes: int
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Inspection:
    """The whole analysis. `rows` is None where the schema does not let the rows be read."""

    path: Path
    file_bytes: int
    page_size: int
    encoding: str
    is_wal: bool
    schema: SchemaCheck
    small_tables: SmallTables
    rows: RowsReport | None
    mapping: tuple[FieldMapping, ...]
    estimate: Estimate
    attention: tuple[Attention, ...]
