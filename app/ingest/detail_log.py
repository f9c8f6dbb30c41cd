"""The detailed log of a migration: one JSON object a line, in a file that a person can search when something is asked."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from app.core.clock import utc_now
from app.core.logs import get_logger
from app.ingest.copy_stream import Batch


class DetailLog:
    """Appends events to a file; without a usable path it says so once and drops them. Holds no number and no name."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            get_logger("migrate").warning("no detailed log", path=str(path), reason=error.strerror)

    def write(self, event: str, **fields: object) -> None:
        """One line: when, what, and the fields."""
        self._write_lines([{"at": utc_now().isoformat(), "event": event, **fields}])

    def write_batch(self, run_id: int, batch: Batch) -> None:
        """A committed batch, then a line for each row that was rejected, a duplicate, or repaired."""
        at = utc_now().isoformat()
        lines: list[dict[str, object]] = [
            {
                "at": at, "event": "batch", "run": run_id, "first_id": batch.first_id, "last_id": batch.last_id,
                "rows_read": batch.rows_read, "loaded": batch.loaded, "duplicates": batch.duplicates,
                "rejected_by_reason": batch.rejected_by_reason(), "repairs": len(batch.repairs),
                "fingerprint": f"{batch.fingerprint:016x}", "seconds": round(batch.seconds, 3),
            }
        ]  # fmt: skip
        lines += [{"event": "row", "source_id": it.source_id, "reason": it.reason} for it in batch.rejects]
        lines += [
            {"event": "repair", "source_id": it.source_id, "field": it.field, "rule": it.rule} for it in batch.repairs
        ]
        self._write_lines(lines)

    def _write_lines(self, lines: list[dict[str, object]]) -> None:
        if self._file is None:
            return
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
        with self._lock:
            self._append(text)

    def _append(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:  # a full disk: the ledger in the database has it all, the load goes on
            get_logger("migrate").warning("the detailed log ends here", reason=error.strerror)
            self._drop()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            # Closing writes what is still in the buffer, which a full disk refuses again.
            with suppress(OSError):
                self._file.close()
            self._file = None
