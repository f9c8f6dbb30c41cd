"""The load: one thread reads and normalises in id order, each stream sends and commits its batch in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from app.core.logs import get_logger
from app.ingest.columns import Normaliser
from app.ingest.copy_stream import Batch, CopyStream, Encoded
from app.ingest.detail_log import DetailLog
from app.ingest.source import RowBlock, Source

PIECES_AHEAD = 32
"""Encoded blocks (2 MB each) that may wait for a stream: a whole batch, so that the reader can begin the next one for the
other stream while this one is still copied."""

WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Told after each committed batch, and now and then between."""

    rows_read: int
    committed: Batch | None = None


class LoadStopped(Exception):
    """The load was asked to stop; what was not committed is rolled back."""


class StreamWorker:
    """A CopyStream in a thread. The reader puts pieces; what goes wrong is raised in the reader, at its next call."""

    def __init__(self, url: str, run_id: int, on_commit: Callable[[Batch], None]) -> None:
        self._stream = CopyStream(url, run_id)
        self._on_commit = on_commit
        self._pieces: queue.Queue[Encoded | Batch | None] = queue.Queue(PIECES_AHEAD)
        self._idle = threading.Event()
        self._idle.set()
        self._error: BaseException | None = None
        self._begun = 0.0
        self._thread = threading.Thread(target=self._work, name="copy-stream", daemon=True)
        self._thread.start()

    def start_batch(self) -> None:
        """Wait until the last batch of this stream is committed, then take the next."""
        while not self._idle.wait(WAIT_S):
            self.check()
        self.check()
        self._idle.clear()
        self._begun = time.monotonic()

    def put(self, piece: Encoded | Batch | None) -> None:
        """Hand over encoded rows, or the finished Batch, or None to end. Waits while the stream is behind."""
        while True:
            self.check()
            try:
                self._pieces.put(piece, timeout=WAIT_S)
            except queue.Full:
                continue
            return

    def check(self) -> None:
        """Raise what went wrong in the thread."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for the batch that is under way."""
        while not self._idle.wait(WAIT_S):
            self.check()
        self.check()

    def close(self, *, abort: bool) -> None:
        """End the thread. With `abort` the open batch is rolled back at once."""
        if abort:
            self._stream.interrupt()
            self._error = self._error or LoadStopped()
        while self._thread.is_alive():
            try:
                self._pieces.put(None, timeout=0.05)
            except queue.Full:
                if self._error is not None:
                    with suppress(queue.Empty):
                        self._pieces.get_nowait()
            self._thread.join(0.05)
        self._stream.abort()

    def _work(self) -> None:
        try:
            while (piece := self._pieces.get()) is not None:
                self._stream.begin()
                while not isinstance(piece, Batch):
                    if piece is None:
                        return
                    self._stream.write(piece)
                    piece = self._pieces.get()
                piece.seconds = time.monotonic() - self._begun
                self._stream.commit(piece)
                self._on_commit(piece)
                self._idle.set()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the reader raises it
            self._error = self._error or error


class Loader:
    """Loads ranges of source ids through several streams."""

    def __init__(
        self, url: str, source: Source, normaliser: Normaliser, *, run_id: int, streams: int, batch_size: int,
        stop: threading.Event, progress: Callable[[LoadProgress], None], detail: DetailLog,
    ) -> None:  # fmt: skip
        self._url = url
        self._source = source
        self._normaliser = normaliser
        self._run_id = run_id
        self._streams = streams
        self._batch_size = batch_size
        self._stop = stop
        self._progress = progress
        self._detail = detail
        self.rows_read = 0
        self._log = get_logger("migrate")

    def load(self, ranges: list[tuple[int, int]], most_rows: int) -> None:
        """Load the rows of `ranges` (inclusive ids, ascending), at most `most_rows`, batch by batch.

        Raises: LoadStopped when `stop` was set; whatever a stream or the source raised. Committed batches stay.
        """
        workers = [StreamWorker(self._url, self._run_id, self._committed) for _ in range(self._streams)]
        is_whole = False
        try:
            turn = 0
            for first, last in ranges:
                after = first - 1
                while after < last and most_rows > 0:
                    worker = workers[turn % len(workers)]
                    turn += 1
                    batch = self._read_batch(worker, after, last, min(most_rows, self._batch_size))
                    most_rows -= batch.rows_read
                    after = batch.last_id
            for worker in workers:
                worker.wait()
            is_whole = True
        finally:
            for worker in workers:
                worker.close(abort=not is_whole)

    def _read_batch(self, worker: StreamWorker, after: int, last: int, most_rows: int) -> Batch:
        worker.start_batch()
        batch = Batch(after + 1, last)
        for block in self._source.blocks(after, last, most_rows, RowBlock()):
            for piece in self._normaliser.process(block, batch):
                worker.put(piece)
            self.rows_read += block.rows
            self._progress(LoadProgress(self.rows_read))
            if batch.rows_read == most_rows:
                batch.last_id = int(block.ids[block.rows - 1])
            if self._stop.is_set():
                raise LoadStopped
        worker.put(batch)
        return batch

    def _committed(self, batch: Batch) -> None:
        self._log.info(
            "batch committed", run=self._run_id, first_id=batch.first_id, last_id=batch.last_id, rows=batch.rows_read,
            loaded=batch.loaded, duplicates=batch.duplicates, rejected=batch.rejected,
            seconds=round(batch.seconds, 3),
        )  # fmt: skip
        self._detail.write_batch(self._run_id, batch)
        self._progress(LoadProgress(self.rows_read, batch))
