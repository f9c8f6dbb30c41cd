"""One row by the scalar rules: what the columnar path hands over because a cell is unusual, and the form it is kept in."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.ingest.source import COLUMNS, SLOT, Cell, RawText
from app.utils import geo_utils
from app.utils.phone_utils import lada_of

SOURCE_NAME = "numeros.db"
TEXT_LIMITS = {
    "campo1_original": 200, "nombre": 500, "direccion": 1000, "colonia": 300, "municipio_cof": 300,
    "ciudad_por_lada": 300, "campo3": 300, "municipio_csv": 300, "estado_sep": 300, "municipio_sep": 300,
}  # fmt: skip
"""Characters of a text column that are stored; what is beyond is kept with the row's repair. A B-tree key may have 2,700
bytes and a tsvector a megabyte: these keep every index buildable."""

CARRIED = (
    "campo1_original", "nombre", "direccion", "colonia", "municipio_cof", "campo3", "municipio_csv", "estado_sep",
    "municipio_sep",
)  # fmt: skip
"""Columns carried over unchanged, in the order of the fingerprint."""

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?")
_FALSE = frozenset({"0", "0.0", "f", "false", "falso", "n", "no"})
_TRUE = frozenset({"1", "1.0", "t", "true", "verdadero", "s", "si", "sí", "y", "yes"})


@dataclass(frozen=True, slots=True)
class Reject:
    """A source row without a contact of its own. `raw` is the whole row as JSON."""

    source_id: int
    reason: str
    phone_e164: str | None
    detail: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class Repair:
    """A cell that was changed to fit: column of numeros, rule, and the cell as JSON."""

    source_id: int
    field: str
    rule: str
    raw: str


@dataclass(frozen=True, slots=True)
class LineClass:
    """What the numbering plan says of a number."""

    line_type: str
    operator: str | None
    is_mobile: bool
    is_assigned: bool


def raw_cell(cell: Cell) -> object:
    """`cell` for JSON, without loss: null, number, string, or {"type", "hex" or "value"} where JSON has no such thing."""
    if isinstance(cell, float):
        return {"type": "real", "value": repr(cell)}
    if isinstance(cell, str):
        return {"type": "text", "hex": cell.encode().hex()} if "\0" in cell else cell
    if isinstance(cell, bytes):
        return {"type": "text" if isinstance(cell, RawText) else "blob", "hex": cell.hex()}
    return cell


def raw_json(names: Sequence[str], cells: Sequence[Cell]) -> str:
    """A whole row as one JSON object, column → cell, for a jsonb column (which takes no NUL)."""
    return json.dumps(dict(zip(names, map(raw_cell, cells), strict=True)), ensure_ascii=False)


def cell_text(cell: Cell, real_as_text: Callable[[float], str]) -> tuple[str | None, list[str]]:
    """(text, rules): the text of any cell as PostgreSQL can hold it, with the rules that changed it.

    Rules: 'storage_class' a number or BLOB where text belongs; 'windows_1252' bytes that are not UTF-8, read as
    Windows-1252; 'replaced' bytes that it lacks, each now U+FFFD; 'nul_removed' NUL characters dropped.
    """
    if cell is None:
        return None, []
    rules: list[str] = []
    if not isinstance(cell, str) and not isinstance(cell, RawText):
        rules.append("storage_class")
    if isinstance(cell, bytes):
        try:
            text = cell.decode()
        except UnicodeDecodeError:
            text = cell.decode("cp1252", errors="replace")
            rules.append("replaced" if "\ufffd" in text else "windows_1252")
    elif isinstance(cell, float):
        text = real_as_text(cell)
    else:
        text = str(cell)
    if "\0" in text:
        text = text.replace("\0", "")
        rules.append("nul_removed")
    return text, rules


def moment_of(cell: Cell) -> tuple[int | None, bool]:
    """(microseconds since 2000-01-01 UTC or None, whether it could be read) of fecha_migracion. Without offset: UTC."""
    if cell is None:
        return None, True
    if not isinstance(cell, str) or not _MOMENT.fullmatch(cell.strip()):
        return None, False
    try:
        moment = datetime.fromisoformat(cell.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - POSTGRES_EPOCH) // timedelta(microseconds=1), True
    except (ValueError, OverflowError):
        return None, False


def flag_of(cell: Cell) -> tuple[bool, str | None]:
    """(whether es_valido marks the row invalid, rule to record). NULL and what cannot be read mark nothing."""
    if cell is None:
        return False, None
    if isinstance(cell, bool | int) and cell in (0, 1):
        return cell == 0, None
    word = cell.decode("cp1252", "replace") if isinstance(cell, bytes) else str(cell)
    word = word.strip().strip("\0").casefold()
    if word in _FALSE or word in _TRUE:
        return word in _FALSE, "storage_class"
    return False, "unreadable_flag"


def invalid_reason(*, is_assigned: bool, is_flagged: bool) -> str | None:
    """Why a loaded number is not valid, or None."""
    causes = ["unassigned"] * (not is_assigned) + ["source_flag"] * is_flagged
    return "+".join(causes) or None


def text_field(value: str | None) -> bytes:
    """`value` as a field of a binary COPY row."""
    if value is None:
        return b"\xff\xff\xff\xff"
    data = value.encode()
    return len(data).to_bytes(4, "big") + data


@dataclass(frozen=True, slots=True)
class ScalarRow:
    """A row ready to be copied. `encoded` is one binary COPY row; `carried` the stored texts in the order of CARRIED."""

    encoded: bytes
    carried: tuple[str | None, ...]
    repairs: tuple[Repair, ...]


class RowRules:
    """The scalar rules for whole rows, with the tables of this run."""

    def __init__(
        self,
        *,
        line_class: Callable[[int], LineClass],
        ladas: dict[str, geo_utils.Place],
        zones: dict[tuple[str, str], str],
        real_as_text: Callable[[float], str],
        run_id: int,
        id_offset: int,
    ) -> None:
        self._line_class = line_class
        self._ladas = ladas
        self._zones = zones
        self._real_as_text = real_as_text
        self._run_id = run_id
        self._id_offset = id_offset

    def number_text(self, cell: Cell) -> str:
        """The text of numero that the phone rules read."""
        return cell_text(cell, self._real_as_text)[0] or ""

    def build(self, cells: Sequence[Cell], number: int) -> ScalarRow:
        """The row `cells` with its national number, ready to be copied, and what was changed in it."""
        source_id = cells[0]
        if not isinstance(source_id, int):
            raise TypeError("a row id is an integer")
        repairs: list[Repair] = []

        def note(field: str, rule: str) -> None:
            repairs.append(cell_repair(source_id, field, rule, cells[SLOT[field]]))

        texts = {name: self._stored_text(cells[SLOT[name]], name, note) for name in TEXT_LIMITS}
        moment, is_readable = moment_of(cells[SLOT["fecha_migracion"]])
        if not is_readable:
            note("fecha_migracion", "unreadable_date")
        is_flagged, flag_rule = flag_of(cells[SLOT["es_valido"]])
        if flag_rule:
            note("es_valido", flag_rule)
        spelling, _ = cell_text(cells[SLOT["estado_cof"]], self._real_as_text)
        state = geo_utils.state_code(spelling) if spelling and spelling.strip(" ") else None
        if state is None and spelling and spelling.strip(" "):
            note("estado_cof", "unrecognised_state")
        encoded = self._encode(source_id, number, texts, state, moment, is_flagged=is_flagged)
        return ScalarRow(encoded, tuple(texts[name] for name in CARRIED), tuple(repairs))

    def _stored_text(self, cell: Cell, name: str, note: Callable[[str, str], None]) -> str | None:
        text, rules = cell_text(cell, self._real_as_text)
        for rule in rules:
            note(name, rule)
        if text is not None and len(text) > TEXT_LIMITS[name]:
            note(name, "shortened")
            return text[: TEXT_LIMITS[name]]
        return text

    def _encode(
        self, source_id: int, number: int, texts: dict[str, str | None], state: str | None, moment: int | None,
        *, is_flagged: bool,
    ) -> bytes:  # fmt: skip
        line = self._line_class(number)
        lada = lada_of(number)
        at = geo_utils.locate(
            self._ladas.get(lada), self._zones, state=state, municipality=texts["municipio_cof"],
            city=texts["ciudad_por_lada"],
        )  # fmt: skip
        reason = invalid_reason(is_assigned=line.is_assigned, is_flagged=is_flagged)
        fixed = struct.pack(">hiqiqii", 28, 8, source_id + self._id_offset, 8, source_id, 4, self._run_id) + (
            b"\xff\xff\xff\xff" if moment is None else struct.pack(">iq", 8, moment)
        )
        fixed += struct.pack(">ihi?i?", 2, at.inferred, 1, line.is_mobile, 1, reason is None)
        digits, state_name = f"{number:010d}", geo_utils.STATE_NAMES[at.state_code] if at.state_code else None
        fields = (
            f"+52{digits}", digits, texts["campo1_original"], texts["nombre"], texts["direccion"], texts["colonia"],
            texts["municipio_cof"], at.state_code, state_name, lada,
            at.city, line.line_type, line.operator, reason, "ACTIVE" if reason is None else "INVALID", at.time_zone,
            SOURCE_NAME, texts["campo3"], texts["municipio_csv"], texts["estado_sep"], texts["municipio_sep"],
        )  # fmt: skip
        return fixed + b"".join(map(text_field, fields))


def cell_repair(source_id: int, field: str, rule: str, cell: Cell) -> Repair:
    """The repair of one cell."""
    return Repair(source_id, field, rule, json.dumps(raw_cell(cell), ensure_ascii=False))


def reject_row(cells: Sequence[Cell], reason: str, phone_e164: str | None, detail: str | None) -> Reject:
    """The reject of a whole row."""
    source_id = cells[0]
    if not isinstance(source_id, int):
        raise TypeError("a row id is an integer")
    return Reject(source_id, reason, phone_e164, detail, raw_json(COLUMNS, cells))
