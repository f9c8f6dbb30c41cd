"""The numbering plan in the database: the one in force, a newer one, and what it says about a number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import class_row

from app.core.clock import utc_now
from app.core.errors import Broken, NotFound
from app.core.plan_store import PLAN_SOURCE, PLAN_VERSION, packaged_plan, packaged_plan_sha256, place_tables
from app.utils.geo_utils import STATE_NAMES, place_of_lada
from app.utils.numbering_plan import (
    GEOGRAPHIC,
    LINE_TYPES,
    MOBILE,
    NO_DATE,
    NON_GEOGRAPHIC,
    UNASSIGNED,
    NumberingPlan,
    line_type_code,
)
from app.utils.phone_utils import PhoneVerdict, clean, lada_of, normalize

# One at a time changes which plan is in force; a number of our own choosing.
PLAN_LOCK: Final = 7_340_001
# A row of numbering_ranges.sql.
_ROW: Final = np.dtype([("first", ">i8"), ("last", ">i8"), ("type", ">i2"), ("operator", ">i4"), ("day", ">i4")])
_COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_INFO: Final = (
    b"SELECT id, version, layout, source_file, sha256::text AS sha256, range_count, number_count, imported_at, in_force"
    b" FROM numbering_plans "
)


@dataclass(frozen=True, slots=True)
class RangePlace:
    """Where a range is at home, in the words of the regulator's file of before July 2025."""

    city: str | None
    municipality: str | None
    state_code: str | None


@dataclass(frozen=True, slots=True, eq=False)
class PlanFile:
    """A plan as read from a file: R ranges sorted by number, columns as in NumberingPlan.

    `place` int32[R] is an index into `places`, -1 for none.
    """

    layout: str
    version: str
    source_file: str
    sha256: str
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    line_type: NDArray[np.uint8]
    operator: NDArray[np.int32]
    operators: tuple[str, ...]
    assigned_on: NDArray[np.int32]
    place: NDArray[np.int32]
    places: tuple[RangePlace, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """One version of the plan in the database. `outcome`: imported, reinstated, unchanged; '' when only looked at."""

    id: int
    version: str
    layout: str
    source_file: str
    sha256: str
    range_count: int
    number_count: int
    imported_at: datetime
    in_force: bool
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What is known about a number; `why` is one sentence for a person."""

    number: str
    e164: str | None
    national: str | None
    valid: bool
    line_type: str | None
    is_mobile: bool
    operator: str | None
    lada: str | None
    city: str | None
    state_code: str | None
    state_name: str | None
    time_zone: str | None
    reason: str | None
    why: str
    plan_version: str


def ensure_packaged_plan(session: Connection) -> int:
    """Id of the plan in force, after the packaged one was put in force where none is, or an older packaged one.

    A plan that somebody imported is never replaced. Inside the caller's transaction.
    """
    session.execute("SELECT pg_advisory_xact_lock(%s)", (PLAN_LOCK,))
    held = _in_force(session)
    newer = held is not None and held.source_file == PLAN_SOURCE and held.version < PLAN_VERSION
    if held is not None and not newer:
        return held.id
    plan = packaged_plan()
    none = np.full(len(plan), -1, np.int32)
    return put_in_force(
        session,
        PlanFile(
            "2025", plan.version, PLAN_SOURCE, packaged_plan_sha256(), plan.first, plan.last, plan.line_type,
            plan.operator, plan.operators, plan.assigned_on, none,
        ),
    ).id  # fmt: skip


def put_in_force(session: Connection, plan: PlanFile) -> PlanInfo:
    """Store `plan` and make it the one in force, inside the caller's transaction.

    The same file (by SHA-256) is not stored twice: in force already it changes nothing, else it comes back in force.
    """
    session.execute("SELECT pg_advisory_xact_lock(%s)", (PLAN_LOCK,))
    with session.cursor(row_factory=class_row(PlanInfo)) as cursor:
        known = cursor.execute(_INFO + b"WHERE sha256 = %s", (plan.sha256,)).fetchone()
    if known is not None and known.in_force:
        return _with_outcome(session, known.id, "unchanged")
    session.execute("UPDATE numbering_plans SET in_force = false WHERE in_force")
    if known is not None:
        session.execute("UPDATE numbering_plans SET in_force = true WHERE id = %s", (known.id,))
        return _with_outcome(session, known.id, "reinstated")
    row = session.execute(
        "INSERT INTO numbering_plans (version, layout, source_file, sha256, range_count, number_count, imported_at,"
        " in_force) VALUES (%s, %s, %s, %s, %s, %s, %s, true) RETURNING id",
        (
            *(plan.version, plan.layout, plan.source_file, plan.sha256, len(plan.first)),
            *(int((plan.last - plan.first + 1).sum()), utc_now()),
        ),
    ).fetchone()
    if row is None:
        raise Broken("PostgreSQL gave no id for a new numbering plan.", code="numbering_plan_id")
    with session.cursor().copy(
        "COPY numbering_ranges (plan_id, first_number, last_number, line_type, operator, assigned_on, city,"
        " municipality, state_code) FROM STDIN"
    ) as copy:
        copy.write(_copy_lines(int(row[0]), plan))
    session.execute("ANALYZE numbering_ranges")
    return _with_outcome(session, int(row[0]), "imported")


def _copy_lines(plan_id: int, plan: PlanFile) -> str:
    types = LINE_TYPES
    operators = [name.translate(_COPY_ESCAPES) for name in plan.operators]
    places = ["\t".join(_copy_text(part) for part in (p.city, p.municipality, p.state_code)) for p in plan.places]
    places.append("\\N\t\\N\t\\N")
    dates = {
        days: "\\N" if days == NO_DATE else str(np.datetime64(days, "D")) for days in set(plan.assigned_on.tolist())
    }
    columns = (plan.first, plan.last, plan.line_type, plan.operator, plan.assigned_on, plan.place)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return "".join(
        f"{plan_id}\t{first}\t{last}\t{types[kind]}\t{operators[operator]}\t{dates[day]}\t{places[place]}\n"
        for first, last, kind, operator, day, place in rows
    )


def _copy_text(value: str | None) -> str:
    return "\\N" if value is None else value.translate(_COPY_ESCAPES)


def _with_outcome(session: Connection, plan_id: int, outcome: str) -> PlanInfo:
    with session.cursor(row_factory=class_row(PlanInfo)) as cursor:
        cursor.execute(
            "SELECT id, version, layout, source_file, sha256::text AS sha256, range_count, number_count, imported_at,"
            " in_force, %s AS outcome FROM numbering_plans WHERE id = %s",
            (outcome, plan_id),
        )
        info = cursor.fetchone()
    if info is None:
        raise NotFound(f"There is no numbering plan {plan_id}.", code="numbering_plan_unknown")
    return info


def _in_force(session: Connection) -> PlanInfo | None:
    with session.cursor(row_factory=class_row(PlanInfo)) as cursor:
        return cursor.execute(_INFO + b"WHERE in_force").fetchone()


def describe(session: Connection) -> list[PlanInfo]:
    """Every plan in the database: the one in force first, then the newest."""
    with session.cursor(row_factory=class_row(PlanInfo)) as cursor:
        return cursor.execute(_INFO + b"ORDER BY in_force DESC, version DESC, id DESC").fetchall()


def plan_in_force(session: Connection) -> NumberingPlan:
    """The plan in force, with its id, ready for look-up.

    Raises: NotFound when the database has none yet.
    """
    return load_plan(session, plan_id_in_force(session))


def plan_id_in_force(session: Connection) -> int:
    """The id of the plan in force. Raises: NotFound when the database has none yet."""
    info = _in_force(session)
    if info is None:
        raise NotFound(
            "No numbering plan is in force. Run `smsctl db upgrade`, or `smsctl numbering import FILE`.",
            code="numbering_plan_missing",
        )
    return info.id


def load_plan(session: Connection, plan_id: int) -> NumberingPlan:
    """The plan of that id, ready for look-up.

    Raises: NotFound when there is none.
    """
    info = _with_outcome(session, plan_id, "")
    names = session.execute("SELECT DISTINCT operator FROM numbering_ranges WHERE plan_id = %s", (plan_id,)).fetchall()
    operators = sorted(str(name) for (name,) in names)
    parameters = {"operators": operators, "plan_id": plan_id}
    row = session.cursor(binary=True).execute(read_sql("numbering_ranges.sql"), parameters).fetchone()
    table = np.frombuffer(row[0] or b"" if row else b"", _ROW)
    table = table[np.argsort(table["first"])]
    if len(table) != info.range_count:
        raise Broken(
            f"Numbering plan {plan_id} has {len(table)} ranges in the database and {info.range_count} in its record.",
            code="numbering_plan_incomplete",
        )
    return NumberingPlan.from_columns(
        version=info.version,
        first=table["first"].astype(np.int64),
        last=table["last"].astype(np.int64),
        line_type=table["type"].astype(np.uint8),
        operator=table["operator"].astype(np.int32),
        operators=tuple(operators),
        assigned_on=table["day"].astype(np.int32),
        plan_id=plan_id,
    )


@lru_cache(maxsize=16)
def read_sql(name: str) -> bytes:
    """The text of app/services/sql/`name`."""
    return files("app.services").joinpath("sql", name).read_bytes()


def lookup(plan: NumberingPlan, text: str) -> LookupResult:
    """What `plan` and the packaged places say of the number in `text`; never raises, whatever the text is.

    `valid` is the platform's: accepted, and assigned in the plan or a non-geographic service.
    """
    verdict = normalize(text)
    if verdict.national is None:
        return _refused(plan, text, verdict)
    number = verdict.national
    index = plan.find(number)
    code = line_type_code(number, index, plan.line_type, NON_GEOGRAPHIC)
    lada = lada_of(number)
    place = place_of_lada(place_tables().ladas, lada)
    is_service = NON_GEOGRAPHIC[number // 10**7] != GEOGRAPHIC
    return LookupResult(
        number=text,
        e164=verdict.e164,
        national=f"{number:010d}",
        valid=code != UNASSIGNED,
        line_type=LINE_TYPES[code],
        is_mobile=code == MOBILE,
        operator=None if index < 0 or is_service else plan.operators[plan.operator[index]],
        lada=lada,
        city=place.city if place else None,
        state_code=place.state_code if place else None,
        state_name=STATE_NAMES[place.state_code] if place else None,
        time_zone=place.time_zone if place else None,
        reason="unassigned" if code == UNASSIGNED else None,
        why=_why_accepted(plan, index, code, is_service=is_service),
        plan_version=plan.version,
    )


def _why_accepted(plan: NumberingPlan, index: int, code: int, *, is_service: bool) -> str:
    if is_service:
        return f"{LINE_TYPES[code].replace('_', '-')} service number: it belongs to no place and no operator's range"
    if index < 0:
        return f"not assigned in the plan of {plan.version}"
    day = _day(int(plan.assigned_on[index]))
    assigned = f" on {day}" if day else ""
    return f"assigned to {plan.operators[plan.operator[index]]} as {LINE_TYPES[code]}{assigned}"


def _day(days: int) -> date | None:
    return None if days == NO_DATE else date.fromordinal(days + date(1970, 1, 1).toordinal())


def _refused(plan: NumberingPlan, text: str, verdict: PhoneVerdict) -> LookupResult:
    return LookupResult(
        number=text, e164=None, national=None, valid=False, line_type=None, is_mobile=False, operator=None, lada=None,
        city=None, state_code=None, state_name=None, time_zone=None, reason=verdict.reason,
        why=_why_refused(text, verdict), plan_version=plan.version,
    )  # fmt: skip


def _why_refused(text: str, verdict: PhoneVerdict) -> str:
    digits = sum(char.isdecimal() for char in clean(text))
    count = f"{digits} digit{'' if digits == 1 else 's'}"
    reasons = {
        "empty": "nothing to look up: no characters but white space",
        "not_a_number": "not a phone number",
        "too_short": f"too short: {count}, a Mexican number has ten",
        "too_long": f"too long: {count}, a Mexican number has ten",
        "foreign": f"foreign number (+{verdict.country_code})",
        "invalid": "not a valid number: phonenumbers knows no Mexican area code like it",
    }
    if verdict.reason == "invalid" and verdict.country_code != 52:
        country = f"+{verdict.country_code}" if verdict.country_code else "any country"
        return f"not a valid number of {country}"
    return reasons[verdict.reason or "not_a_number"]
