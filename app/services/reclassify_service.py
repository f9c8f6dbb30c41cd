"""Contacts brought up to date with the numbering plan in force, window by window, resumably."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection

from app.core.clock import utc_now
from app.core.database import connect
from app.core.errors import Conflict
from app.services.numbering_service import plan_in_force, read_sql
from app.utils.numbering_plan import GEOGRAPHIC, LINE_TYPES, MOBILE, NON_GEOGRAPHIC, UNASSIGNED, NumberingPlan
from app.utils.phone_utils import lada_of

WINDOW: Final = 50_000
# One run at a time, across processes; a number of our own choosing.
RECLASSIFY_LOCK: Final = 7_340_002
LOCK_PATIENCE: Final = "30s"
# A row of reclassify_read.sql.
_ROW: Final = np.dtype(
    [("id", ">i8"), ("number", ">i8"), ("type", ">i2"), ("operator", ">i4"), ("lada", ">i4"), ("flags", ">i4")]
)
# Bits of `flags` in reclassify_read.sql.
_IS_MOBILE, _IS_VALID, _UNASSIGNED, _FLAGGED, _ACTIVE, _INVALID, _ERASED = (1 << bit for bit in range(7))


@dataclass(frozen=True, slots=True)
class ReclassifyProgress:
    """How far a run is: contacts looked at and changed, the last contact's id, and the highest there was."""

    examined: int
    changed: int
    last_contact_id: int
    highest_contact_id: int


@dataclass(frozen=True, slots=True)
class ReclassifyResult:
    """What a finished run did, with the runs that it went on from."""

    plan_id: int
    plan_version: str
    examined: int
    changed: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class _Run:
    id: int
    last_contact_id: int
    examined: int
    changed: int
    resumed: bool


def reclassify(
    db_url: str, progress: Callable[[ReclassifyProgress], None] | None = None, *, window: int = WINDOW
) -> ReclassifyResult:
    """Bring line type, operator, LADA and validity of every contact up to date with the plan in force.

    Windows of `window` contacts by id, each committed with its watermark: a run that was broken off goes on where it
    was, as long as the same plan is in force. Writes only rows that change; ERASED contacts are left alone; of the
    states only ACTIVE and INVALID change into each other. The source's own flag stays as it is.
    Raises: Conflict when another run is under way or contacts are locked by others, NotFound without a plan.
    """
    with connect(db_url) as session, _alone(session):
        plan = plan_in_force(session)
        run = _open_run(session, plan)
        highest = int(_one(session, b"SELECT coalesce(max(id), 0) FROM contacts"))
        session.commit()
        while True:
            contacts = _read_window(session, plan, run.last_contact_id, window)
            if contacts.size == 0:
                break
            changed = _write(session, plan, contacts)
            run = _advance(session, run, int(contacts["id"][-1]), int(contacts.size), changed)
            session.commit()
            if progress is not None:
                progress(ReclassifyProgress(run.examined, run.changed, run.last_contact_id, highest))
        session.execute("UPDATE numbering_reclassifications SET finished_at = %s WHERE id = %s", (utc_now(), run.id))
        session.commit()
        return ReclassifyResult(plan.id or 0, plan.version, run.examined, run.changed, run.resumed)


@contextmanager
def _alone(session: Connection) -> Iterator[None]:
    session.execute("SELECT set_config('lock_timeout', %s, false)", (LOCK_PATIENCE,))
    taken = bool(_one(session, b"SELECT pg_try_advisory_lock(%s)", (RECLASSIFY_LOCK,)))
    session.commit()
    if not taken:
        raise Conflict("Another `numbering reclassify` is under way. Wait for it to end.", code="reclassify_running")
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        session.rollback()
        raise Conflict(
            "Contacts are locked by another program (a migration, an index). Run `numbering reclassify` again later: "
            "it goes on where it stopped.",
            code="contacts_locked",
        ) from error


def _one(session: Connection, query: bytes, parameters: tuple[object, ...] = ()) -> Any:
    row = session.execute(query, parameters).fetchone()
    return row[0] if row else None


def _open_run(session: Connection, plan: NumberingPlan) -> _Run:
    row = session.execute(
        "SELECT id, last_contact_id, examined, changed FROM numbering_reclassifications"
        " WHERE finished_at IS NULL AND plan_id = %s ORDER BY id DESC LIMIT 1",
        (plan.id,),
    ).fetchone()
    if row is not None:
        return _Run(int(row[0]), int(row[1]), int(row[2]), int(row[3]), resumed=int(row[1]) > 0)
    created = _one(
        session,
        b"INSERT INTO numbering_reclassifications (plan_id, last_contact_id, examined, changed, started_at)"
        b" VALUES (%s, 0, 0, 0, %s) RETURNING id",
        (plan.id, utc_now()),
    )
    return _Run(int(created), 0, 0, 0, resumed=False)


def _advance(session: Connection, run: _Run, last_id: int, examined: int, changed: int) -> _Run:
    advanced = _Run(run.id, last_id, run.examined + examined, run.changed + changed, run.resumed)
    session.execute(
        "UPDATE numbering_reclassifications SET last_contact_id = %s, examined = %s, changed = %s WHERE id = %s",
        (advanced.last_contact_id, advanced.examined, advanced.changed, run.id),
    )
    return advanced


def _read_window(session: Connection, plan: NumberingPlan, after_id: int, rows: int) -> NDArray[np.void]:
    """The next contacts by id, a structured array of _ROW."""
    parameters = {"after_id": after_id, "rows": rows, "line_types": list(LINE_TYPES), "operators": list(plan.operators)}
    row = session.cursor(binary=True).execute(read_sql("reclassify_read.sql"), parameters).fetchone()
    return np.frombuffer(row[0] or b"" if row else b"", _ROW)


def _write(session: Connection, plan: NumberingPlan, contacts: NDArray[np.void]) -> int:
    """Update the contacts of a window that the plan says otherwise of; how many were."""
    numbers = contacts["number"].astype(np.int64)
    ranges = plan.classify(numbers)
    types = plan.line_type_codes(numbers, ranges)
    is_service = NON_GEOGRAPHIC[np.clip(numbers // 10**7, 0, 999)] != GEOGRAPHIC
    operators = np.where((ranges < 0) | is_service, -1, plan.operator[np.maximum(ranges, 0)])
    stale = np.flatnonzero(_is_stale(contacts, numbers, types, operators))
    if stale.size == 0:
        return 0
    chosen = [int(number) for number in numbers[stale]]
    cursor = session.execute(
        read_sql("reclassify_write.sql"),
        {
            "ids": contacts["id"][stale].tolist(),
            "numbers": chosen,
            "line_types": [LINE_TYPES[code] for code in types[stale].tolist()],
            "operators": [plan.operators[at] if at >= 0 else None for at in operators[stale].tolist()],
            "ladas": [lada_of(number) for number in chosen],
        },
    )
    return cursor.rowcount


def _is_stale(
    contacts: NDArray[np.void], numbers: NDArray[np.int64], types: NDArray[np.uint8], operators: NDArray[np.int32]
) -> NDArray[np.bool_]:
    flags = contacts["flags"].astype(np.int32)
    two_digits = numbers // 10**8
    ladas = np.where(np.isin(two_digits, (33, 55, 56, 81)), two_digits, numbers // 10**7)
    unassigned = types == UNASSIGNED
    valid = ~unassigned & ((flags & _FLAGGED) == 0)
    differs = (
        (contacts["type"] != types.astype(np.int16) + 1)
        | (contacts["operator"] != operators + 1)
        | (contacts["lada"] != ladas)
        | (((flags & _IS_MOBILE) != 0) != (types == MOBILE))
        | (((flags & _IS_VALID) != 0) != valid)
        | (((flags & _UNASSIGNED) != 0) != unassigned)
        | (((flags & _ACTIVE) != 0) & ~valid)
        | (((flags & _INVALID) != 0) & valid)
    )
    stale: NDArray[np.bool_] = differs & ((flags & _ERASED) == 0)
    return stale
