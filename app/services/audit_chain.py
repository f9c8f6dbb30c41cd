"""The proof of the audit log: every hash worked out again, here, without the trigger that wrote it.

What it finds: an event changed, removed, put elsewhere, added past the trigger, or cut off the end. What nothing inside
the database can find is a chain that somebody with all rights has rewritten from some event to the end, with its head:
against that `verify` tells the end of the chain, to be kept elsewhere and given again as `anchor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from psycopg import Connection, IsolationLevel

from app.core.database import connect
from app.services.numbering_service import read_sql

NO_HASH = bytes(32)
"""What the first event follows."""
ROWS_AT_ONCE = 2_000
OCCURRED_AT = 1
"""Place of the only value that is not written into the hash as PostgreSQL prints it."""
MICROSECONDS = 1_000_000

HEAD = "SELECT last_id, last_hash FROM audit_head"
UNGUARDED = """
SELECT wanted.name FROM (VALUES ('audit_events', 'chain', 'OA'), ('audit_events', 'append_only', 'A'),
                                ('audit_head', 'one_row', 'A'), ('audit_head', 'moved_by_trigger', 'A'))
       AS wanted (relation, name, states)
WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ('public.' || wanted.relation)::regclass
                  AND tgname = wanted.name AND position(tgenabled IN wanted.states) > 0)
ORDER BY 1
"""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Anchor:
    """An event as an earlier verification told it: the chain must still hold it."""

    event_id: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `events` were read; of a chain that does not hold, `what` says of the first bad id what is wrong.

    `end` is the newest event, for keeping elsewhere; `unguarded` names triggers that are off or gone.
    """

    events: int
    ok: bool
    first_bad_id: int | None = None
    what: str | None = None
    end: Anchor | None = None
    unguarded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Break:
    id: int
    what: str


@dataclass(frozen=True, slots=True)
class _Event:
    id: int
    prev_hash: bytes
    hash: bytes
    values: tuple[str | None, ...]


def event_hash(prev_hash: bytes, values: Sequence[str | None]) -> bytes:
    """The hash of an event: SHA-256 of the hash before and of each value as length in bytes, colon, UTF-8; NULL: minus.

    `values` are the columns from id to detail, times as microseconds since 1970.
    """
    digest = sha256(prev_hash)
    for value in values:
        text = b"" if value is None else value.encode()
        digest.update(b"-" if value is None else b"%d:%b" % (len(text), text))
    return digest.digest()


def verify(db_url: str, progress: Progress | None = None, *, anchor: Anchor | None = None) -> Verdict:
    """Read the whole log in one snapshot and say whether it is what was written. `progress` is told (read, of).

    Locks nothing and holds ROWS_AT_ONCE events in memory; the snapshot keeps VACUUM from removing dead rows meanwhile.
    Raises: Unavailable when the database cannot be reached.
    """
    with closing(connect(db_url, application_name="smsctl audit")) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        unguarded = tuple(name for (name,) in connection.execute(UNGUARDED))
        head = connection.execute(HEAD).fetchone()
        walk = _Walk(0 if head is None else int(head[0]), progress, anchor)
        broken = walk.run(_events(connection)) or _end(walk, head)
    if broken is None and anchor is not None and anchor.event_id > walk.last_id:
        broken = _Break(anchor.event_id, f"event {anchor.event_id}, which was there once, is not there any more")
    if broken is not None:
        return Verdict(walk.read, False, broken.id, broken.what, unguarded=unguarded)
    end = Anchor(walk.last_id, walk.last_hash.hex()) if walk.last_id else None
    return Verdict(walk.read, not unguarded, end=end, unguarded=unguarded)


class _Walk:
    """One pass over the events in order: what was read so far, and what the next one must follow."""

    def __init__(self, total: int, progress: Progress | None, anchor: Anchor | None) -> None:
        self.total, self.progress, self.anchor = total, progress, anchor
        self.read, self.last_id, self.last_hash = 0, 0, NO_HASH

    def run(self, events: Iterator[_Event]) -> _Break | None:
        """Stop at the first event that is not what it must be."""
        for event in events:
            self.read += 1
            broken = self._wrong(event)
            if broken is not None:
                return broken
            self.last_id, self.last_hash = event.id, event.hash
            if self.progress is not None and self.read % ROWS_AT_ONCE == 0:
                self.progress(self.read, max(self.total, self.read))
        return None

    def _wrong(self, event: _Event) -> _Break | None:
        expected = self.last_id + 1
        if event.id > expected:
            missing = f"event {expected} is" if event.id == expected + 1 else f"events {expected} to {event.id - 1} are"
            return _Break(expected, f"{missing} missing")
        if event.id < expected:
            return _Break(event.id, f"event {event.id} is not one that the chain can hold, or it is there twice")
        if event_hash(event.prev_hash, event.values) != event.hash:
            return _Break(event.id, f"event {event.id} was changed after it was written")
        if event.prev_hash != self.last_hash:
            return _Break(
                event.id, f"event {event.id} does not follow the one before: one of the two was replaced or moved"
            )
        if self.anchor is not None and event.id == self.anchor.event_id and event.hash.hex() != self.anchor.hash:
            return _Break(event.id, f"event {event.id} is not the one that was there: the chain was written anew")
        return None


def _events(connection: Connection) -> Iterator[_Event]:
    with connection.cursor(name="audit_chain") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(read_sql("audit_chain_read.sql"))
        for event_id, prev_hash, found, *values in cursor:
            values[OCCURRED_AT] = _microseconds(values[OCCURRED_AT])
            yield _Event(event_id, bytes(prev_hash or b""), bytes(found or b""), tuple(values))


def _microseconds(seconds: str | None) -> str | None:
    """Seconds since 1970 as PostgreSQL prints them, in microseconds; 'Infinity', which nobody wrote, stays as it is."""
    if seconds is None:
        return None
    number = Decimal(seconds)
    return str(int(number * MICROSECONDS)) if number.is_finite() else seconds


def _end(walk: _Walk, head: tuple[Any, ...] | None) -> _Break | None:
    """What the head says beside the last event."""
    if head is None:
        return _Break(walk.last_id + 1, "audit_head is empty: nobody knows where the chain ended")
    last_id, last_hash = int(head[0]), bytes(head[1])
    if last_id > walk.last_id:
        return _Break(walk.last_id + 1, f"{last_id - walk.last_id} events were cut off the end: {last_id} were written")
    if last_id < walk.last_id:
        return _Break(last_id + 1, f"events after {last_id} were added past the trigger")
    if last_hash != walk.last_hash:
        return _Break(last_id, f"event {last_id} is not the one that was written last")
    return None
