"""A closer look at the text of a sample of rows: what the loader will have to repair, and how long cells are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from app.ingest.field_mapping import CONTACT_FIELDS
from app.ingest.inspection_scan import TEXT_COLUMNS

_CONTROL: Final = re.compile(rb"[\x01-\x1f\x7f\\]")
_LIMITS: Final = {field.source_column: field.max_length for field in CONTACT_FIELDS}


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One column in the sample: cells with text, their median and greatest length in characters, and what is odd."""

    column: str
    cells: int
    median_length: int
    longest: int
    too_long: int
    with_nul: int
    not_utf8: int
    with_control: int


@dataclass(frozen=True, slots=True)
class TextReport:
    """The sample: how many rows, and each text column."""

    sampled_rows: int
    columns: tuple[TextColumn, ...]


def report_text(rows: list[tuple[object, ...]]) -> TextReport:
    """The report on sampled rows, whose cells stand in the order of TEXT_COLUMNS."""
    return TextReport(
        sampled_rows=len(rows),
        columns=tuple(
            _column(name, [cell for cell in cells if isinstance(cell, bytes)])
            for name, cells in zip(
                TEXT_COLUMNS, zip(*rows, strict=True) if rows else [()] * len(TEXT_COLUMNS), strict=True
            )
        ),
    )


def _column(name: str, cells: list[bytes]) -> TextColumn:
    limit = _LIMITS.get(name)
    lengths = [_length(cell) for cell in cells]
    sizes = [length for length, _ in lengths]
    return TextColumn(
        column=name,
        cells=len(cells),
        median_length=int(median_low(sizes)) if sizes else 0,
        longest=max(sizes, default=0),
        too_long=sum(size > limit for size in sizes) if limit else 0,
        with_nul=sum(b"\0" in cell for cell in cells),
        not_utf8=sum(not is_utf8 for _, is_utf8 in lengths),
        with_control=sum(_CONTROL.search(cell) is not None for cell in cells),
    )


def _length(cell: bytes) -> tuple[int, bool]:
    """(characters, whether it is UTF-8)."""
    if cell.isascii():
        return len(cell), True
    try:
        return len(cell.decode()), True
    except UnicodeDecodeError:
        return len(cell), False
