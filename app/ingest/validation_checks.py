"""What must hold, check by check: expected against found, in words that a person can take to the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.ingest.ledger import Run, Totals
from app.ingest.validation_ranges import SUBJECT_NAMES, Mismatch
from app.ingest.validation_scan import Opinions, RangeOutcome, RowDifference
from app.ingest.validation_sides import MOST_REJECTS, RejectsFound, SideTable
from app.ingest.validation_target import PlanQueries, TargetSums
from app.models.migration import RunStatus

SUBJECT_WORDS = (
    "numbers and the nine columns carried unchanged, by range",
    "dates (fecha_migracion), by range",
    "cities that the source gives, by range",
    "states that the source gives, spelling by spelling, by range",
    "rows that the source marks invalid, by range",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold. `seconds`: of the pass that found it, which several checks may share."""

    name: str
    holds: bool
    expected: str
    found: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Beside:
    """What was found beside the two scans."""

    rejects: RejectsFound
    statistics: SideTable
    missing_ladas: SideTable
    wrong_duplicates: tuple[int, ...]
    is_unique_by_constraint: bool
    repeated_phones: int
    queries: PlanQueries
    rejects_seconds: float
    queries_seconds: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found, before it is judged."""

    run: Run
    totals: Totals
    source_rows: int
    kept_aside: int
    outcomes: tuple[RangeOutcome, ...]
    target: TargetSums
    mismatches: tuple[Mismatch, ...]
    beside: Beside
    seed: int
    scan_seconds: float
    target_seconds: float

    @property
    def read(self) -> int:
        """Rows of the source in the ranges of the run."""
        return sum(it.read for it in self.outcomes)

    def opinions(self, name: str) -> Opinions:
        """What the second opinions of all ranges add up to; `name` is changed or sampled."""
        whole = Opinions()
        for outcome in self.outcomes:
            whole.merge(getattr(outcome, name))
        return whole


def all_checks(findings: Findings) -> tuple[Check, ...]:
    """Every check, in the order in which a person wants to read them."""
    return (
        *_counts(findings), *_subjects(findings), *_opinions(findings), *_kept_aside(findings), *_every_row(findings),
        *_small_tables(findings), _queries(findings),
    )  # fmt: skip


def _equal(name: str, expected: object, found: object, detail: str, seconds: float) -> Check:
    return Check(name, expected == found, _shown(expected), _shown(found), detail, round(seconds, 3))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _counts(it: Findings) -> Iterator[Check]:
    is_whole = it.run.status == RunStatus.COMPLETED
    rows, stands = (it.source_rows, "count(*)") if is_whole else (it.read, "rows of the committed ranges")
    yield _equal(
        "rows", rows, it.target.loaded + it.kept_aside,
        f"{stands} of numeros = contacts of the run + duplicates and rejects kept", it.scan_seconds,
    )  # fmt: skip
    yield _equal("rows_read", rows, it.read, "rows that the scan of the source met", it.scan_seconds)
    yield _equal(
        "kept_aside_exist", it.kept_aside, sum(outcome.rejected for outcome in it.outcomes),
        "duplicates and rejects whose id is in the source", it.scan_seconds,
    )  # fmt: skip
    sums = it.totals
    yield _equal(
        "ledger", f"{it.read:,} = {it.target.loaded:,} + {it.kept_aside:,}",
        f"{sums.rows_read:,} = {sums.loaded:,} + {sums.duplicates + sums.rejected:,}",
        "read = loaded + kept aside: counted here, and summed over the ledger's batches", it.target_seconds,
    )  # fmt: skip
    content = sum(outcome.sums.totals[0] for outcome in it.outcomes) % 2**64
    yield _equal(
        "ledger_fingerprint", f"{content:016x}", f"{sums.fingerprint:016x}",
        "fingerprint of the source as SQLite reads it, and of the ledger's batches", it.scan_seconds,
    )  # fmt: skip


def _subjects(it: Findings) -> Iterator[Check]:
    for subject, (name, words) in enumerate(zip(SUBJECT_NAMES, SUBJECT_WORDS, strict=True)):
        off = [mismatch for mismatch in it.mismatches if name in mismatch.subjects]
        rows = sum(outcome.sums.counts[subject] for outcome in it.outcomes)
        where = "; ".join(f"{m.id_range.first_id} to {m.id_range.last_id}" for m in off[:5]) + "; …" * (len(off) > 5)
        detail = f"{rows:,} rows, {len(it.outcomes)} ranges: {words}" + (f". Not equal: {where}" if off else "")
        yield Check(name, not off, "0 ranges differ", f"{len(off)} ranges differ", detail, round(it.target_seconds, 3))


def _opinions(it: Findings) -> Iterator[Check]:
    texts = {
        "changed": "rows whose number was not ten digits as it stands, all of them, through plain phonenumbers and "
        "compared field by field",
        "sampled": f"random other rows (seed {it.seed}), through plain phonenumbers and compared field by field",
    }
    for name, words in texts.items():
        found = it.opinions(name)
        detail = f"{found.compared:,} {words}" + _listed(found.listed)
        yield Check(
            f"{name}_rows", not found.off, "0 differ", f"{found.off:,} differ", detail, round(it.scan_seconds, 3)
        )


def _listed(rows: Sequence[RowDifference]) -> str:
    if not rows:
        return ""
    named = (f"{row.source_id} {row.kind}" + (f" ({', '.join(row.fields)})" if row.fields else "") for row in rows)
    return ". Source ids: " + "; ".join(named)


def _kept_aside(it: Findings) -> Iterator[Check]:
    found, seconds = it.beside.rejects, it.beside.rejects_seconds
    share = "all" if it.kept_aside <= MOST_REJECTS else f"a random {MOST_REJECTS:,} (seed {it.seed})"
    which = f"{found.compared:,} duplicates and rejects ({share} of {it.kept_aside:,})"
    yield Check(
        "rejects_raw", not found.raw_off, "0 differ", f"{found.raw_off:,} differ",
        f"{which}: the row that was kept is the row of the source" + _ids(found.raw_listed), round(seconds, 3),
    )  # fmt: skip
    yield Check(
        "rejects_reason", not found.reason_off, "0 differ", f"{found.reason_off:,} differ",
        f"{which}: the reason, worked out through plain phonenumbers" + _ids(found.reason_listed), round(seconds, 3),
    )  # fmt: skip
    wrong = it.beside.wrong_duplicates
    yield Check(
        "duplicate_links", not wrong, "0 broken", f"{len(wrong):,} broken",
        "each duplicate names a contact that is there, has its number, and comes from a lower id where it is of this run"
        + _ids(wrong[:20]), round(it.beside.queries_seconds, 3),
    )  # fmt: skip


def _ids(ids: Sequence[int]) -> str:
    return f". Source ids: {', '.join(map(str, ids))}" if ids else ""


def _every_row(it: Findings) -> Iterator[Check]:
    broken, rows, seconds = it.target.violations, it.target.loaded + it.target.others, it.target_seconds
    if it.beside.is_unique_by_constraint:
        yield _equal(
            "unique_phones", "constraint in force", "constraint in force", "on contacts.phone_e164, index valid", 0.0
        )
    else:
        yield Check(
            "unique_phones", False, "constraint in force", f"no constraint, {it.beside.repeated_phones:,} repeated",
            "contacts.phone_e164 has no valid unique constraint: `smsctl migrate run` restores it", 0.0,
        )  # fmt: skip
    texts = (
        ("e164", broken.phones, r"phone_e164 is ^\+52[0-9]{10}$ and ends in phone_national"),
        ("states_known", broken.states, "state_code is one of 32, with its name, or NULL with none"),
        ("line_types", broken.line_types, "line_type is a known one, and is_mobile says the same"),
        ("not_null", broken.nulls, "source id, LADA and reason of invalidity are there where they must be"),
        ("run_references", broken.run_references, "migration_run_id is a run that exists"),
    )
    for name, count, words in texts:
        yield Check(name, not count, "0 rows", f"{count:,} rows", f"{rows:,} contacts: {words}", round(seconds, 3))
    outside = it.target.loaded > 0 and (
        _or_zero(it.target.first_id) < _or_zero(it.run.first_source_id)
        or _or_zero(it.target.last_id) > _or_zero(it.run.last_source_id)
    )
    yield Check(
        "ids_inside", not outside, f"{it.run.first_source_id} to {it.run.last_source_id}",
        f"{it.target.first_id} to {it.target.last_id}", "source ids of the run's contacts are ids of the source",
        round(seconds, 3),
    )  # fmt: skip


def _or_zero(value: int | None) -> int:
    return value or 0


def _small_tables(it: Findings) -> Iterator[Check]:
    for name, table in (("statistics", it.beside.statistics), ("missing_ladas", it.beside.missing_ladas)):
        yield Check(
            name, not table.off and table.source_rows == table.target_rows, f"{table.source_rows:,} rows",
            f"{table.target_rows:,} rows, {table.off:,} differ", "raw row and typed columns, row by row", 0.0,
        )  # fmt: skip


def _queries(it: Findings) -> Check:
    rows = it.target.loaded + it.target.others
    return _equal(
        "plan_queries", f"{rows:,} by state {rows:,}",
        f"{it.beside.queries.total_contacts:,} by state {sum(count for _, count in it.beside.queries.by_state):,}",
        "the plan's count of all contacts and its distribution by state agree with the scan", it.beside.queries_seconds,
    )  # fmt: skip
