"""The KPIs that the plan sets for the migration: each with its figure, and whether it holds, does not, or is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PLAN_ROWS = 36_645_692
"""Rows that the plan wants migrated: those of the real file."""

PLAN_VALID_PERCENT = 99.0
PLAN_INDEXES = (
    "pk_contacts", "uq_contacts_phone_e164", "idx_contacts_state_active", "idx_contacts_lada_active",
    "idx_contacts_city_active", "idx_contacts_last_sent", "idx_contacts_send_count", "idx_contacts_name_gin",
    "idx_contacts_address_gin",
)  # fmt: skip
"""The indexes of the plan (day 5.1) and the two keys that stand for 'phone_e164, id'."""

HOLDS, FAILS, NOT_SHOWN = "holds", "does not hold", "not shown"


@dataclass(frozen=True, slots=True)
class Kpi:
    """A target of the plan, what was found, and the verdict: holds, does not hold, not shown."""

    name: str
    target: str
    found: str
    verdict: str


@dataclass(frozen=True, slots=True)
class KpiFacts:
    """What the verdicts rest on. `backup` describes a verified backup made after the run, None without one."""

    source_rows: int
    rows_read: int
    loaded: int
    duplicates: int
    rejected: int
    contacts: int
    e164: int
    valid: int
    is_unique: bool
    repeated: int
    ready_indexes: frozenset[str]
    backup: str | None


def kpis(facts: KpiFacts) -> tuple[Kpi, ...]:
    """The verdicts, in the plan's order."""
    return tuple(_kpis(facts))


def _verdict(*, holds: bool, shown: bool = True) -> str:
    return (HOLDS if holds else FAILS) if shown else NOT_SHOWN


def _kpis(it: KpiFacts) -> Iterator[Kpi]:
    accounted = it.loaded + it.duplicates + it.rejected
    is_whole = it.rows_read == it.source_rows == accounted and it.contacts == it.loaded
    found = f"{accounted:,} of {it.source_rows:,} rows accounted for"
    if it.source_rows != PLAN_ROWS:
        found += "; this source is not the plan's" + ("" if is_whole else ", and not all of it is in")
    yield Kpi(
        "Rows migrated", f"{PLAN_ROWS:,}", found, _verdict(holds=is_whole, shown=it.source_rows == PLAN_ROWS or not is_whole)
    )  # fmt: skip
    kept = 100 * (it.loaded + it.duplicates) / it.rows_read if it.rows_read else 0.0
    yield Kpi(
        "Valid numbers kept", "> 99 %",
        f"{kept:.3f} % of the rows are valid Mexican numbers and in the table; {_percent(it.valid, it.contacts)} of the "
        "contacts are assigned by the plan too and not marked by the source",
        _verdict(holds=kept > PLAN_VALID_PERCENT, shown=it.rows_read > 0),
    )  # fmt: skip
    yield Kpi(
        "E.164", "100 %", f"{it.e164:,} of {it.contacts:,} contacts",
        _verdict(holds=it.e164 == it.contacts, shown=it.contacts > 0),
    )  # fmt: skip
    unique = "0, by a unique constraint in force" if it.is_unique else f"{it.repeated:,}, no constraint in force"
    yield Kpi("Duplicates in the table", "0", unique, _verdict(holds=it.is_unique))
    missing = [name for name in PLAN_INDEXES if name not in it.ready_indexes]
    there = f"{len(PLAN_INDEXES) - len(missing)} of {len(PLAN_INDEXES)}"
    yield Kpi(
        "Indexes", "all of the plan's", there + (f"; missing: {', '.join(missing)}" if missing else ""),
        _verdict(holds=not missing),
    )  # fmt: skip
    yield Kpi(
        "Backup after the migration", "complete", it.backup or "no verified backup since the run finished",
        _verdict(holds=True, shown=it.backup is not None),
    )  # fmt: skip


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f} %" if whole else "0 %"
