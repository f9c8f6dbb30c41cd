"""One connection that loads batches: COPY, the ledger's row and the check of the batch in one transaction."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources

import psycopg
from psycopg import sql
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.types.json import Jsonb

from app.core.database import connect
from app.core.errors import Broken
from app.ingest.ledger import LOADING
from app.ingest.rows import Reject, Repair

CONTACT_COLUMNS = (
    "id", "source_id", "migration_run_id", "migrated_at", "inferred", "is_mobile", "is_valid", "phone_e164",
    "phone_national", "phone_original", "full_name", "address", "neighborhood", "municipality", "state_code",
    "state_name", "lada", "city", "line_type", "operator", "invalid_reason", "status", "time_zone", "source", "campo3",
    "municipio_csv", "estado_sep", "municipio_sep",
)  # fmt: skip
"""The columns that are copied, in the order in which rows are encoded; the others take their defaults."""

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
LEDGER_LOCK_WAIT = "30s"
SEND_BYTES = 1 << 16
Encoded = bytes | memoryview
"""Whole binary COPY rows, one behind the other."""


def statement(name: str) -> sql.SQL:
    """The statement in app/ingest/sql/`name`.sql."""
    return sql.SQL(resources.files("app.ingest").joinpath("sql", f"{name}.sql").read_text())


def server_error(state: bytes | None, message: bytes) -> psycopg.Error:
    """The psycopg exception for an error that libpq reported; without a SQLSTATE the connection was lost."""
    lines = message.decode(errors="replace").strip()
    if state is None:
        return psycopg.OperationalError(lines or "the connection was lost")
    return psycopg.errors.lookup(state.decode())(lines)


@dataclass(slots=True)
class Batch:
    """What was made of one range of source ids. Ids are inclusive; fingerprint is modulo 2**64."""

    first_id: int
    last_id: int
    rows_read: int = 0
    loaded: int = 0
    fingerprint: int = 0
    rejects: list[Reject] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def duplicates(self) -> int:
        """Rows whose number was there already."""
        return sum(reject.reason == "duplicate" for reject in self.rejects)

    @property
    def rejected(self) -> int:
        """Rows without a usable number."""
        return len(self.rejects) - self.duplicates

    def rejected_by_reason(self) -> dict[str, int]:
        """Reason → rows, without the duplicates."""
        counts: dict[str, int] = {}
        for reject in self.rejects:
            if reject.reason != "duplicate":
                counts[reject.reason] = counts.get(reject.reason, 0) + 1
        return counts


class CopyStream:
    """A loading connection. One batch at a time: `begin`, `write` …, then `commit` or `abort`."""

    def __init__(self, url: str, run_id: int) -> None:
        self._run_id = run_id
        self.connection = connect(url, application_name=LOADING)
        self.connection.autocommit = True
        self.connection.execute("SELECT set_config('sms.migration_run', %s, false)", (str(run_id),))
        self.connection.execute("SET synchronous_commit = off")
        self.connection.execute("SET statement_timeout = 0")
        self.connection.execute(sql.SQL("SET lock_timeout = {}").format(LEDGER_LOCK_WAIT))
        columns = sql.SQL(", ").join(map(sql.Identifier, CONTACT_COLUMNS))
        self._copy = sql.SQL("COPY contacts ({}) FROM STDIN (FORMAT binary)").format(columns).as_bytes(None)
        self._ledger = statement("batch_insert")

    def begin(self) -> None:
        """Open the batch's transaction and its COPY."""
        self.connection.execute("BEGIN")
        result = self.connection.pgconn.exec_(self._copy)
        if result.status != ExecStatus.COPY_IN:
            raise server_error(result.error_field(DiagnosticField.SQLSTATE), result.error_message)
        self._send(COPY_HEADER)

    def write(self, rows: Encoded) -> None:
        """Send encoded rows. Waits while the server is busy, without holding other threads up."""
        self._send(rows)

    def _send(self, rows: Encoded) -> None:
        # psycopg's own Copy.write hands over 32 kB a call and waits in Python between; libpq takes more at once, but moves
        # what the socket did not take to the front of its buffer each time, so pieces stay small.
        connection, data = self.connection.pgconn, memoryview(rows)
        for begin in range(0, len(data), SEND_BYTES):
            connection.put_copy_data(data[begin : begin + SEND_BYTES])
            while connection.flush():
                select.select([connection.socket], [connection.socket], [])
                connection.consume_input()

    def _end_copy(self) -> int:
        """Rows that the server says it took."""
        connection = self.connection.pgconn
        self._send(COPY_TRAILER)
        connection.put_copy_end()
        while connection.flush():
            select.select([], [connection.socket], [])
        result = None
        while True:
            while connection.is_busy():
                select.select([connection.socket], [], [])
                connection.consume_input()
            latest = connection.get_result()
            if latest is None:
                break
            result = latest
        if result is None or result.status != ExecStatus.COMMAND_OK:
            state = result.error_field(DiagnosticField.SQLSTATE) if result else None
            raise server_error(state, result.error_message if result else connection.error_message)
        return result.command_tuples or 0

    def commit(self, batch: Batch) -> None:
        """Close the COPY, keep rejects and repairs, check the batch against its source, write its ledger row, commit.

        Raises: Broken when what the server holds is not what the source says; nothing of the batch is kept then.
        """
        taken = self._end_copy()
        if taken != batch.loaded:
            raise Broken(
                f"Rows {batch.first_id} to {batch.last_id}: {batch.loaded} rows were sent and {taken} taken; "
                "the batch was rolled back.",
                code="batch_count",
            )
        self._keep_rejects(batch)
        self._verify(batch)
        self.connection.execute(
            self._ledger,
            {
                "run_id": self._run_id, "first_id": batch.first_id, "last_id": batch.last_id,
                "rows_read": batch.rows_read, "loaded": batch.loaded, "duplicates": batch.duplicates,
                "rejected": batch.rejected,
                "repaired": len({repair.source_id for repair in batch.repairs}),
                "rejected_by_reason": Jsonb(batch.rejected_by_reason()), "fingerprint": batch.fingerprint,
                "seconds": batch.seconds,
            },
        )  # fmt: skip
        self.connection.execute("COMMIT")

    def _keep_rejects(self, batch: Batch) -> None:
        with self.connection.cursor() as cursor:
            if batch.rejects:
                with cursor.copy(
                    "COPY migration_rejects (run_id, source_id, reason, phone_e164, detail, raw) FROM STDIN"
                ) as copy:
                    for reject in batch.rejects:
                        copy.write_row(
                            (
                                self._run_id,
                                reject.source_id,
                                reject.reason,
                                reject.phone_e164,
                                reject.detail,
                                reject.raw,
                            )
                        )
            if batch.repairs:
                with cursor.copy("COPY migration_repairs (run_id, source_id, field, rule, raw) FROM STDIN") as copy:
                    for repair in batch.repairs:
                        copy.write_row((self._run_id, repair.source_id, repair.field, repair.rule, repair.raw))

    def _verify(self, batch: Batch) -> None:
        """The plan's continuous validation: the stored rows, hashed by the server, against the cells of the source.

        The server sums them in a trigger as they are stored: rows are put wherever the table has room, and reading a batch
        back would mean looking for it (measured: 30 times the table's size at 36 million rows).
        """
        row = self.connection.execute(
            "SELECT current_setting('sms.batch_rows', true), current_setting('sms.batch_fingerprint', true)"
        ).fetchone()
        count, total = (int(row[0] or 0), int(row[1] or 0) % 2**64) if row else (0, 0)
        if (count, total) != (batch.loaded, batch.fingerprint):
            raise Broken(
                f"Rows {batch.first_id} to {batch.last_id}: the source gives {batch.loaded} rows with fingerprint "
                f"{batch.fingerprint:016x}, the table took {count} with {total:016x}; the batch was rolled back.",
                code="batch_fingerprint",
            )

    def interrupt(self) -> None:
        """Cut the wire under whatever another thread does with the connection: that thread finds it lost, and ends.

        Closing it here would free what libpq still uses there.
        """
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    def abort(self) -> None:
        """Drop the connection: the server rolls the open batch back."""
        self.connection.close()
