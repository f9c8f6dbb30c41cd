"""The regulator's numbering files: today's layout and the one before July 2025, CSV or zip, told by the header.

Today: whole ten-digit numbers in NUMERACION_INICIAL and NUMERACION_FINAL. Before July 2025: NIR + SERIE + four digits,
with town, municipality and state.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from app.core.database import connect
from app.core.errors import InvalidInput
from app.services.numbering_service import PlanFile, PlanInfo, RangePlace, put_in_force
from app.utils.geo_utils import state_code
from app.utils.numbering_plan import FIXED, MOBILE, NO_DATE

LARGEST_FILE: Final = 1 << 30
OPERATOR_WIDTH: Final = 120
LAYOUT_TODAY, LAYOUT_2019 = "2025", "2019"
_LINE_TYPES: Final = {"CPP": MOBILE, "MPP": MOBILE, "FIJO": FIXED}
_ALWAYS: Final = ("NUMERACION_INICIAL", "NUMERACION_FINAL", "MODALIDAD", "RAZON_SOCIAL")
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class _Columns:
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    line_type: list[int] = field(default_factory=list)
    operator: list[int] = field(default_factory=list)
    assigned_on: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)


class _Reader:
    """Turns the rows of one file into columns; every refusal names the line and what to do."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        delimiter = ";" if text[:4096].count(";") > text[:4096].count(",") else ","
        self.rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        self.columns = _Columns()
        self.operators: dict[str, int] = {}
        self.places: dict[RangePlace, int] = {}
        self.dates: dict[str, int] = {}
        self.header = self._header()
        self.layout = LAYOUT_2019 if {"NIR", "SERIE"} <= self.header.keys() else LAYOUT_TODAY

    def refuse(self, what: str, line: int | None = None) -> NoReturn:
        where = self.rows.line_num if line is None else line
        raise InvalidInput(
            f"{self.name}, line {where}: {what} Nothing was imported; mend that line, or download the file again.",
            code="numbering_file_row",
        )

    def _lines(self) -> Iterator[list[str]]:
        try:
            for row in self.rows:
                if any(cell.strip() for cell in row):
                    yield row
        except csv.Error as error:
            self.refuse(f"the CSV cannot be read ({error}).")

    def _header(self) -> dict[str, int]:
        for row in self._lines():
            names = {_plain(cell): index for index, cell in enumerate(row) if cell.strip()}
            missing = [name for name in _ALWAYS if name not in names]
            if missing:
                raise InvalidInput(
                    f"{self.name} has no column {', '.join(missing)} in its first line: it is not the regulator's "
                    "numbering file (Plan Nacional de Numeración). Give the CSV or zip as downloaded.",
                    code="numbering_file_header",
                )
            return names
        raise InvalidInput(f"{self.name} is empty. Give the CSV or zip as downloaded.", code="numbering_file_empty")

    def read(self) -> _Columns:
        number = self._number_2019 if self.layout == LAYOUT_2019 else self._number_today
        columns = self.columns
        for row in self._lines():
            first, last = number(row, "NUMERACION_INICIAL"), number(row, "NUMERACION_FINAL")
            if first > last:
                self.refuse(f"the range ends ({last}) before it begins ({first}).")
            columns.first.append(first)
            columns.last.append(last)
            columns.line.append(self.rows.line_num)
            columns.line_type.append(self._line_type(row))
            columns.operator.append(self._operator(row))
            columns.assigned_on.append(self._date(row))
            columns.place.append(self._place(row))
        if not columns.first:
            raise InvalidInput(
                f"{self.name} has a header but no ranges. Download it again.", code="numbering_file_empty"
            )
        return columns

    def _cell(self, row: list[str], name: str) -> str:
        index = self.header[name]
        if index >= len(row):
            self.refuse(f"the line ends before {name}.")
        return row[index].strip()

    def _number_today(self, row: list[str], name: str) -> int:
        return self._ten_digits(self._cell(row, name), name)

    def _number_2019(self, row: list[str], name: str) -> int:
        digits = self._cell(row, name)
        if len(digits) != 4:
            self.refuse(f"{name} is {digits!r}, not four digits.")
        return self._ten_digits(self._cell(row, "NIR") + self._cell(row, "SERIE") + digits, f"NIR, SERIE and {name}")

    def _ten_digits(self, digits: str, name: str) -> int:
        if len(digits) != 10 or not (digits.isascii() and digits.isdigit()):
            self.refuse(f"{name} is {digits!r}, not ten digits.")
        return int(digits)

    def _line_type(self, row: list[str]) -> int:
        word = self._cell(row, "MODALIDAD").upper()
        code = _LINE_TYPES.get(word)
        if code is None:
            self.refuse(f"MODALIDAD is {word!r}, none of CPP, MPP, FIJO.")
        return code

    def _operator(self, row: list[str]) -> int:
        name = " ".join(self._cell(row, "RAZON_SOCIAL").replace("\x00", "").split())[:OPERATOR_WIDTH]
        if not name:
            self.refuse("RAZON_SOCIAL is empty.")
        return self.operators.setdefault(name, len(self.operators))

    def _date(self, row: list[str]) -> int:
        index = self.header.get("FECHA_ASIGNACION", len(row))
        text = row[index].strip() if index < len(row) else ""
        if not text:
            return NO_DATE
        days = self.dates.get(text)
        if days is None:
            try:
                day, month, year = map(int, text.split("/"))
                days = self.dates[text] = date(year, month, day).toordinal() - _EPOCH
            except ValueError:
                self.refuse(f"FECHA_ASIGNACION is {text!r}, not a date as dd/mm/yyyy.")
        return days

    def _place(self, row: list[str]) -> int:
        if self.layout != LAYOUT_2019:
            return -1
        town, municipality, state = (self._optional(row, name) for name in ("POBLACION", "MUNICIPIO", "ESTADO"))
        place = RangePlace(town or None, municipality or None, state_code(state))
        return self.places.setdefault(place, len(self.places))

    def _optional(self, row: list[str], name: str) -> str:
        index = self.header.get(name, len(row))
        return row[index].replace("\x00", "").strip() if index < len(row) else ""


def _plain(header: str) -> str:
    decomposed = unicodedata.normalize("NFKD", header.strip().strip('"').strip().upper())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).replace(" ", "_")


def _content(path: Path) -> bytes:
    """The CSV's bytes: the file's own, or out of the one CSV in a zip, or out of gzip."""
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(f"{path} is larger than 1 GB: it is not a numbering file.", code="numbering_file_size")
    raw = path.read_bytes()
    if raw.startswith(b"PK"):
        return _unzip(path, raw)
    if raw.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(raw)) as stream:
            raw = stream.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise InvalidInput(f"{path} holds more than 1 GB: it is not a numbering file.", code="numbering_file_size")
    return raw


def _unzip(path: Path, raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [item for item in archive.infolist() if item.filename.lower().endswith((".csv", ".txt"))]
        if len(members) != 1:
            raise InvalidInput(
                f"{path} holds {len(members)} CSV files, not one. Unpack it and give the numbering CSV itself.",
                code="numbering_file_zip",
            )
        if members[0].file_size > LARGEST_FILE:
            raise InvalidInput(f"{path} holds more than 1 GB: it is not a numbering file.", code="numbering_file_size")
        return archive.read(members[0])


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def read_plan_file(path: Path) -> PlanFile:
    """The ranges of one of the regulator's files, sorted by number.

    Raises: InvalidInput, naming line and remedy, when the file is not there, not one of theirs, or does not hold:
    a number, date or MODALIDAD that cannot be read, or two ranges that share a number.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        text = _text(_content(path))
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror or error}. Check the path.", code="numbering_file_read"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidInput(
            f"{path} is a damaged or unusual archive ({error}). Download it again, or give the CSV inside.",
            code="numbering_file_zip",
        ) from error
    reader = _Reader(path.name, text)
    columns = reader.read()
    return _sorted_plan(reader, columns, path.name, sha256)


def _sorted_plan(reader: _Reader, columns: _Columns, name: str, sha256: str) -> PlanFile:
    first, last = np.array(columns.first, np.int64), np.array(columns.last, np.int64)
    order = np.argsort(first, kind="stable")
    first, last = first[order], last[order]
    shared = np.flatnonzero(first[1:] <= last[:-1])
    if shared.size:
        line = np.array(columns.line)[order]
        before, after = int(line[shared[0]]), int(line[shared[0] + 1])
        reader.refuse(f"the range shares number {first[shared[0] + 1]} with line {before}.", after)
    assigned_on = np.array(columns.assigned_on, np.int32)[order]
    if int(assigned_on.max()) == NO_DATE:
        raise InvalidInput(
            f"{name} has no FECHA_ASIGNACION at all, so its version is unknown. Give the file as downloaded.",
            code="numbering_file_header",
        )
    return PlanFile(
        layout=reader.layout,
        version=str(np.datetime64(int(assigned_on.max()), "D")),
        source_file=name,
        sha256=sha256,
        first=first,
        last=last,
        line_type=np.array(columns.line_type, np.uint8)[order],
        operator=np.array(columns.operator, np.int32)[order],
        operators=tuple(reader.operators),
        assigned_on=assigned_on,
        place=np.array(columns.place, np.int32)[order],
        places=tuple(reader.places),
    )


def import_plan(db_url: str, path: Path) -> PlanInfo:
    """Read `path` and put it in force, in one transaction; a file that is in force already changes nothing.

    Raises: InvalidInput (see read_plan_file), Unavailable when the database cannot be reached.
    """
    plan = read_plan_file(path)
    with connect(db_url) as session:
        return put_in_force(session, plan)
