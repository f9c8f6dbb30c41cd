"""What a source row must have become, worked out once more: plain phonenumbers, plain bisect, no kernel of the loader.

Slow (about 0.2 ms a row) and meant to be: it is the second opinion on every changed number and on a random sample.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

from app.core.plan_store import PlaceTables
from app.ingest.kernels.fingerprint import MARK_OF_NULL, hash_text, padded
from app.ingest.kernels.validation import FLAG_SEED, SUBJECTS, hash_int8, hash_moment
from app.ingest.rows import CARRIED, SOURCE_NAME, TEXT_LIMITS, cell_text, flag_of
from app.ingest.source import SLOT, Cell
from app.utils import geo_utils

MEXICO = 52
LONGEST_NUMBER = 250
"""Characters beyond which phonenumbers reads nothing."""

_UNSEEN = re.compile(
    "[\\s\\x00\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-"
    "\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0]"
)
_WRITTEN = re.compile(r"[\-‐-―−ー－-／./()\[\]（）［］~⁓∼～\d]*")
_OLD_PREFIX = re.compile(r"(?:0052|01|044|045|(?:00)?52(?:1|01|044|045))(\d{10})")
_OLD_PREFIX_PLUS = re.compile(r"52(?:1|01|044|045)(\d{10})")
_TEN_DIGITS = re.compile(r"[0-9]{10}")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SERVICES = {
    PhoneNumberType.TOLL_FREE: "toll_free", PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost", PhoneNumberType.PERSONAL_NUMBER: "personal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlainPhone:
    """What plain phonenumbers says of a text. `national` (ten digits) and `e164` where it is a valid Mexican number."""

    national: str | None
    e164: str | None
    is_foreign: bool = False
    is_empty: bool = False


@dataclass(frozen=True, slots=True)
class ContactFields:
    """The columns of a contact that a migration fills, as expected or as stored. migrated_at: microseconds since 1970 UTC."""

    id: int
    source_id: int
    phone_e164: str
    phone_national: str
    phone_original: str | None
    full_name: str | None
    address: str | None
    neighborhood: str | None
    municipality: str | None
    state_code: str | None
    state_name: str | None
    lada: str | None
    city: str | None
    line_type: str
    is_mobile: bool
    operator: str | None
    is_valid: bool
    invalid_reason: str | None
    status: str
    time_zone: str | None
    inferred: int
    source: str
    campo3: str | None
    municipio_csv: str | None
    estado_sep: str | None
    municipio_sep: str | None
    migrated_at: int | None


CONTACT_FIELDS = tuple(field.name for field in fields(ContactFields))
BY_PLAN = frozenset({"line_type", "is_mobile", "operator", "is_valid", "invalid_reason", "status"})
"""Fields that `numbering reclassify` may have brought up to date with a newer plan."""

_CARRIED_TO = (
    "phone_original", "full_name", "address", "neighborhood", "municipality", "campo3", "municipio_csv", "estado_sep",
    "municipio_sep",
)  # fmt: skip
"""The contact's columns that CARRIED goes to, in its order."""


def plain_phone(text: str) -> PlainPhone:
    """`text` without white space, invisible characters and abolished dialling prefixes, through phonenumbers."""
    bare = _UNSEEN.sub("", text)
    if not bare:
        return PlainPhone(None, None, is_empty=True)
    has_plus = bare.lstrip("-‐‑‒–—―−ー－/／.．()（）[］［]~⁓∼～")[:1] in ("+", "＋")
    written = bare.replace("+", "", 1).replace("＋", "", 1) if has_plus else bare
    if len(bare) <= LONGEST_NUMBER and _WRITTEN.fullmatch(written):
        digits = "".join(str(int(char)) for char in written if char.isdecimal())
        old = (_OLD_PREFIX_PLUS if has_plus else _OLD_PREFIX).fullmatch(digits)
        bare = old[1] if old else bare
    try:
        number = phonenumbers.parse(bare, "MX")
    except NumberParseException:
        return PlainPhone(None, None)
    if not phonenumbers.is_valid_number(number):
        return PlainPhone(None, None)
    if number.country_code != MEXICO:
        return PlainPhone(None, None, is_foreign=True)
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    return PlainPhone(e164.removeprefix("+52"), e164)


@lru_cache(maxsize=1024)
def _service(lead: str) -> str | None:
    """The service that numbers beginning with these three digits are for, or None."""
    number = phonenumbers.PhoneNumber(country_code=MEXICO, national_number=int(lead + "0000000"))
    return _SERVICES.get(phonenumbers.number_type(number))


@dataclass(frozen=True, slots=True)
class PlanRanges:
    """A numbering plan as sorted lists: first and last number, line type and operator of each range."""

    first: list[int]
    last: list[int]
    line_type: list[str]
    operator: list[str]

    def line_of(self, national: str) -> tuple[str, str | None]:
        """(line type, operator) of ten digits."""
        service = _service(national[:3])
        if service:
            return service, None
        at = bisect_right(self.first, int(national)) - 1
        if at < 0 or int(national) > self.last[at]:
            return "unassigned", None
        return self.line_type[at], self.operator[at]


@dataclass(frozen=True, slots=True)
class ExpectedContact:
    """What a loaded row must be: its fields by the run's plan, and by the plan in force where that is another."""

    fields: ContactFields
    by_newer_plan: ContactFields | None

    def differing(self, stored: ContactFields) -> tuple[str, ...]:
        """Names of the fields that are stored otherwise; a contact that people set aside may have another status."""
        off = _differing(self.fields, stored)
        if off and BY_PLAN.issuperset(off) and self.by_newer_plan:
            off = _differing(self.by_newer_plan, stored)
        return tuple(name for name in off if name != "status" or stored.status in ("ACTIVE", "INVALID"))


def _differing(expected: ContactFields, stored: ContactFields) -> tuple[str, ...]:
    return tuple(name for name in CONTACT_FIELDS if getattr(expected, name) != getattr(stored, name))


class ContactRules:
    """The rules of the mapping for one row at a time, with the plans and places of this run."""

    def __init__(
        self, plans: Sequence[PlanRanges], places: PlaceTables, real_as_text: Callable[[float], str], id_offset: int
    ) -> None:
        self._plans = plans
        self._places = places
        self._real_as_text = real_as_text
        self._id_offset = id_offset

    def is_as_written(self, cells: Sequence[Cell]) -> bool:
        """True when numero is ten ASCII digits as it stands."""
        cell = cells[SLOT["numero"]]
        return isinstance(cell, str) and _TEN_DIGITS.fullmatch(cell) is not None

    def opinion(self, cells: Sequence[Cell]) -> str | None:
        """The ten digits that plain phonenumbers reads in numero, or None."""
        return self.phone(cells).national

    def phone(self, cells: Sequence[Cell]) -> PlainPhone:
        """What plain phonenumbers says of numero."""
        return plain_phone(self._text(cells[SLOT["numero"]]) or "")

    def national(self, cells: Sequence[Cell]) -> str | None:
        """The ten digits of a row that was loaded: as they stand, or by opinion."""
        cell = cells[SLOT["numero"]]
        return str(cell) if self.is_as_written(cells) else self.opinion(cells)

    def _text(self, cell: Cell) -> str | None:
        return cell_text(cell, self._real_as_text)[0]

    def _stored(self, cells: Sequence[Cell], name: str) -> str | None:
        text = self._text(cells[SLOT[name]])
        return text if text is None else text[: TEXT_LIMITS[name]]

    def _state(self, cells: Sequence[Cell]) -> str | None:
        spelling = self._text(cells[SLOT["estado_cof"]]) or ""
        return geo_utils.state_code(spelling) if spelling.strip(" ") else None

    def hashes(self, cells: Sequence[Cell], national: str) -> tuple[int, ...]:
        """The row's hashes by subject, as `kernels.validation.hash_rows` fills them."""
        source_id = _id_of(cells)
        seed = source_id % 2**64
        content = seed
        for text in (national, *(self._stored(cells, name) for name in CARRIED)):
            content = _hash(text, content)
        moment, city = instant(cells[SLOT["fecha_migracion"]]), self._stored(cells, "ciudad_por_lada")
        state = self._state(cells)
        found = [0] * SUBJECTS
        found[0] = content
        if moment is not None:
            found[1] = int(hash_moment(moment, _seed(seed)))
        if city and city.strip(" "):
            found[2] = _hash(city, seed)
        if state:
            found[3] = _hash(state, seed)
        if flag_of(cells[SLOT["es_valido"]])[0]:
            found[4] = int(hash_int8(source_id, _seed(FLAG_SEED)))
        return tuple(found)

    def expect(self, cells: Sequence[Cell], national: str) -> ExpectedContact:
        """The contact that the row `cells`, whose number is `national`, must have become."""
        by_plan = [self._expect(cells, national, plan) for plan in self._plans]
        return ExpectedContact(by_plan[0], by_plan[1] if len(by_plan) > 1 else None)

    def _expect(self, cells: Sequence[Cell], national: str, plan: PlanRanges) -> ContactFields:
        source_id = _id_of(cells)
        line_type, operator = plan.line_of(national)
        lada = national[:2] if national[:2] in ("33", "55", "56", "81") else national[:3]
        place = self._places.ladas.get(lada)
        state, inferred, zone = self._state(cells), 0, place.time_zone if place else None
        if state:
            town = (self._stored(cells, "municipio_cof") or "").strip(" ")
            zone, is_certain = geo_utils.time_zone(self._places.zones, state, town or None)
            inferred = 0 if is_certain else 4
        elif place:
            state, inferred = place.state_code, 1 + 4
        city = self._stored(cells, "ciudad_por_lada")
        if place and not (city or "").strip(" "):
            city, inferred = place.city, inferred + 2
        causes = ["unassigned"] * (line_type == "unassigned") + ["source_flag"] * flag_of(cells[SLOT["es_valido"]])[0]
        carried = {to: self._stored(cells, name) for to, name in zip(_CARRIED_TO, CARRIED, strict=True)}
        return ContactFields(
            id=source_id + self._id_offset, source_id=source_id, phone_e164=f"+52{national}", phone_national=national,
            state_code=state, state_name=geo_utils.STATE_NAMES[state] if state else None, lada=lada, city=city,
            line_type=line_type, is_mobile=line_type == "mobile", operator=operator, is_valid=not causes,
            invalid_reason="+".join(causes) or None, status="INVALID" if causes else "ACTIVE", time_zone=zone,
            inferred=inferred, source=SOURCE_NAME, migrated_at=instant(cells[SLOT["fecha_migracion"]]), **carried,
        )  # fmt: skip


def instant(cell: Cell) -> int | None:
    """Microseconds since 1970-01-01 UTC of a TEXT cell in ISO form, without offset UTC; None for anything else."""
    found = _MOMENT.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    fraction, sign, off_hours, off_minutes = found[7] or "", -1 if found[8] == "-" else 1, found[9], found[10]
    try:
        moment = datetime(year, month, day, hour, minute, second, int(fraction.ljust(6, "0")), UTC)
    except ValueError:
        return None
    offset = sign * timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
    if abs(offset) >= timedelta(days=1) or int(off_minutes or 0) > 59:
        return None
    return (moment - _EPOCH - offset) // timedelta(microseconds=1)


def _id_of(cells: Sequence[Cell]) -> int:
    if not isinstance(cells[0], int):
        raise TypeError("a row id is an integer")
    return cells[0]


def _hash(text: str | None, seed: int) -> int:
    data = bytes([MARK_OF_NULL]) if text is None else text.encode()
    return int(hash_text(padded(data), 0, len(data), _seed(seed)))


def _seed(value: int) -> np.uint64:
    return np.uint64(value)
