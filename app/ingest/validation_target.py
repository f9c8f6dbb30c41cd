"""contacts for the validator: sums per range, rows of a range, contacts by id, and what the server itself guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from app.core.errors import Conflict, NotFound, Unavailable
from app.ingest.copy_stream import statement
from app.ingest.kernels.validation import SUBJECTS
from app.ingest.validation_rules import ContactFields, PlanRanges
from app.models.contact import LineType
from app.utils.geo_utils import STATE_NAMES

PARALLEL_WORKERS = 2
PLAN_QUERIES = {
    "total_contacts": "SELECT COUNT(*) AS total_contacts FROM contacts",
    "valid_phones": "SELECT COUNT(*) AS valid_phones FROM contacts WHERE is_valid = true",
    "by_state": "SELECT state_code, COUNT(*) FROM contacts GROUP BY state_code ORDER BY COUNT(*) DESC",
    "top_ladas": "SELECT lada, COUNT(*) FROM contacts GROUP BY lada ORDER BY COUNT(*) DESC LIMIT 20",
}
"""The four validation queries of the plan, word for word."""


@dataclass(frozen=True, slots=True)
class RangeSums:
    """What a range adds up to on one side: rows; and per subject (content, date, city, state, flag) how many rows have it
    and the sum of its hashes modulo 2**64."""

    rows: int
    counts: tuple[int, ...]
    totals: tuple[int, ...]


NOTHING = RangeSums(0, (0,) * SUBJECTS, (0,) * SUBJECTS)


@dataclass(frozen=True, slots=True)
class Violations:
    """Rows of contacts, of any run or none, that break a rule that must hold for every row."""

    phones: int
    states: int
    line_types: int
    nulls: int
    run_references: int


@dataclass(frozen=True, slots=True)
class TargetSums:
    """contacts in one pass. `by_range[k]` is the k-th range (0: before the first); ids are source ids of the run."""

    by_range: dict[int, RangeSums]
    loaded: int
    others: int
    first_id: int | None
    last_id: int | None
    violations: Violations


@dataclass(frozen=True, slots=True)
class PlanQueries:
    """Answers to the four validation queries of the plan; pairs are (value, contacts), most first."""

    total_contacts: int
    valid_phones: int
    by_state: tuple[tuple[str | None, int], ...]
    top_ladas: tuple[tuple[str | None, int], ...]


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors of the server as one line that says what to do.

    Raises: Conflict (schema_missing) on a database without our tables; Unavailable (database_error) for anything else.
    """
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise Conflict(
            "The database has not the tables of this program: run `smsctl db upgrade`.", code="schema_missing"
        ) from error
    except psycopg.Error as error:
        message = (error.diag.message_primary or str(error)).strip().splitlines() or ["the connection was lost"]
        raise Unavailable(f"PostgreSQL stopped the work: {message[0]}. Run it again.", code="database_error") from error


def prepare_session(session: Connection) -> None:
    """Let the long scans run in parallel and to their end."""
    session.execute("SET statement_timeout = 0")
    session.execute("SET jit = off")
    session.execute("SELECT set_config('max_parallel_workers_per_gather', %s, false)", (str(PARALLEL_WORKERS),))


def range_sums(session: Connection, run_id: int, thresholds: Sequence[int]) -> TargetSums:
    """Sums per range and violations, from one scan of contacts."""
    parameters = {
        "run_id": run_id, "thresholds": list(thresholds), "codes": list(STATE_NAMES), "lines": [str(it) for it in LineType],
        "runs": [row[0] for row in session.execute("SELECT id FROM migration_runs")],
    }  # fmt: skip
    query = statement("validate_ranges").format(fingerprint=statement("contacts_fingerprint"))
    rows = session.execute(query, parameters).fetchall()
    mine = [row for row in rows if row[0] is not None]
    broken = [sum(int(row[k]) for row in rows) for k in range(13, 18)]
    return TargetSums(
        by_range={int(row[0]): _sums(row) for row in mine},
        loaded=sum(int(row[1]) for row in mine),
        others=sum(int(row[1]) for row in rows if row[0] is None),
        first_id=min((int(row[11]) for row in mine if row[11] is not None), default=None),
        last_id=max((int(row[12]) for row in mine if row[12] is not None), default=None),
        violations=Violations(*broken),
    )


def _sums(row: Sequence[Any]) -> RangeSums:
    pairs = [(row[1], row[2]), *((row[k], row[k + 1]) for k in range(3, 11, 2))]
    return RangeSums(
        int(row[1]),
        tuple(int(count) for count, _ in pairs),
        tuple(int(total or 0) % 2**64 for _, total in pairs),
    )


@dataclass(frozen=True, slots=True)
class RowHashes:
    """Rows of some ranges. Shapes: ids int64[n], not sorted, may repeat; hashes uint64[n, SUBJECTS], 0 for none."""

    ids: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]


def row_hashes(session: Connection, run_id: int, thresholds: Sequence[int], ranges: Sequence[int]) -> RowHashes:
    """Every contact of the run in `ranges` (indexes into thresholds, 1 to n), hashed subject by subject."""
    query = statement("validate_rows").format(fingerprint=statement("contacts_fingerprint"))
    with session.cursor(binary=True) as cursor:
        rows = cursor.execute(
            query, {"run_id": run_id, "thresholds": list(thresholds), "ranges": list(ranges)}
        ).fetchall()
    table = np.array([[value or 0 for value in row] for row in rows], dtype=np.int64).reshape(-1, SUBJECTS + 1)
    return RowHashes(table[:, 0].copy(), table[:, 1:].astype(np.uint64))


def contacts_by_id(session: Connection, ids: Sequence[int]) -> dict[int, ContactFields]:
    """Contact id → what is stored, for those of `ids` that exist."""
    if not ids:
        return {}
    with session.cursor(row_factory=class_row(ContactFields)) as cursor:
        return {row.id: row for row in cursor.execute(statement("validate_contacts"), {"ids": list(ids)})}


def plan_ranges(session: Connection, plan_id: int) -> PlanRanges:
    """The numbering plan of that id, sorted by number.

    Raises: NotFound when it has no ranges.
    """
    rows = session.execute(
        "SELECT first_number, last_number, line_type, operator FROM numbering_ranges WHERE plan_id = %s ORDER BY 1",
        (plan_id,),
    ).fetchall()
    if not rows:
        raise NotFound(f"There is no numbering plan {plan_id}.", code="numbering_plan_unknown")
    first, last, line_type, operator = (list(column) for column in zip(*rows, strict=True))
    return PlanRanges(first, last, line_type, operator)


def plan_in_force_id(session: Connection) -> int | None:
    """Id of the numbering plan in force."""
    row = session.execute("SELECT id FROM numbering_plans WHERE in_force").fetchone()
    return int(row[0]) if row else None


def reject_ids(session: Connection, run_id: int) -> npt.NDArray[np.int64]:
    """Source ids of the run's duplicates and rejects, ascending."""
    rows = session.execute("SELECT source_id FROM migration_rejects WHERE run_id = %s ORDER BY 1", (run_id,))
    return np.fromiter((row[0] for row in rows), dtype=np.int64)


def has_unique_phone(session: Connection) -> bool:
    """True when the server itself keeps phone_e164 unique."""
    row = session.execute(statement("validate_unique_phone")).fetchone()
    return bool(row and row[0])


def repeated_phones(session: Connection) -> int:
    """Contacts beyond the first of each number: what to count where no constraint keeps them out."""
    row = session.execute("SELECT count(*) - count(DISTINCT phone_e164) FROM contacts").fetchone()
    return int(row[0]) if row else 0


def wrong_duplicates(session: Connection, run_id: int) -> list[int]:
    """Source ids of duplicates whose link to a contact does not hold, ascending."""
    return [int(row[0]) for row in session.execute(statement("validate_duplicates"), {"run_id": run_id})]


def plan_queries(session: Connection) -> PlanQueries:
    """The plan's four queries, run as they are."""
    total, valid, by_state, top_ladas = (
        session.execute(query).fetchall() for query in map(str.encode, PLAN_QUERIES.values())
    )
    return PlanQueries(
        int(total[0][0]),
        int(valid[0][0]),
        tuple((code, int(count)) for code, count in by_state),
        tuple((lada, int(count)) for lada, count in top_ladas),
    )
