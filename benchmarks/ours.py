"""The product's own load, each time in a process of its own, so that its memory and processor time are its own too.

Timed: opening the source, reading its pages, normalising, classifying, finding duplicates, encoding, COPY over the
product's streams, and for each batch the rejects, repairs, check, ledger row, detailed log and COMMIT, until the last one.
Not timed: hashing the file, the tables of the numbering plan and of places, loading the compiled kernels, preparing the
table (keys and indexes off), and everything after the load.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import structlog.testing
from psycopg import Connection

from app.core.config import MigrationSettings
from app.core.database import connect
from app.core.errors import Broken
from app.core.logs import configure_logs
from app.core.plan_store import place_tables
from app.ingest import columns, ledger, loader, target
from app.ingest.columns import Classification, Normaliser
from app.ingest.copy_stream import Batch, CopyStream
from app.ingest.detail_log import DetailLog
from app.ingest.kernels.seen import SeenNumbers
from app.ingest.ledger import Run, Totals
from app.ingest.loader import Loader
from app.ingest.source import RowBlock, Source
from app.services import numbering_service
from benchmarks.machine import Stopwatch, Usage
from benchmarks.server import BenchServer
from benchmarks.source_file import BenchSource

DEFAULTS = MigrationSettings()
"""The product's own defaults, whatever the environment of the benchmark says."""


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What a child process is to load, and how."""

    url: str
    source: BenchSource
    postmaster: int | None
    batch_size: int
    is_checked: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load took and what it did. `reader_cpu_s`: of the thread that reads and normalises; the rest sends."""

    usage: Usage
    totals: Totals
    reader_cpu_s: float


@dataclass(frozen=True, slots=True)
class IndexTimes:
    """Units: seconds. `each` by name, two at a time; `keys_s` until keys and B-trees stand, `fulltext_s` what follows."""

    each: dict[str, float]
    keys_s: float
    fulltext_s: float


class UncheckedStream(CopyStream):
    """A stream that does not compare its batch with the source: to tell what that costs. The product has no such switch."""

    def _verify(self, batch: Batch) -> None:
        """Nothing."""


def open_run(session: Connection, source: BenchSource, batch_size: int) -> Run:
    """A run in the ledger, committed."""
    plan_id = numbering_service.plan_id_in_force(session)
    with session.transaction():
        return ledger.open_run(session, source.facts, str(source.path), plan_id, batch_size)


def load(server: BenchServer, source: BenchSource, url: str, batch_size: int, *, is_checked: bool = True) -> Loaded:
    """Load `source` into the fresh database `url` in a child process.

    Raises: Broken when the ledger does not balance; whatever stopped the load.
    """
    job = LoadJob(url, source, server.postmaster, batch_size, is_checked)
    with closing(connect(url, autocommit=True)) as session:
        target.prepare(session, open_run(session, source, batch_size).id, source.facts.rows)
    server.settle()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        loaded = child.submit(_load, job).result()
    if not loaded.totals.balances(source.facts.rows):
        raise Broken(f"The ledger of the benchmark does not balance: {loaded.totals}", code="bench_unbalanced")
    return loaded


def _load(job: LoadJob) -> Loaded:
    """In the child: everything that is not timed, then what is."""
    configure_logs("WARNING")
    with closing(connect(job.url, autocommit=True)) as session, ExitStack() as around:
        run = ledger.find_run(session)
        tables = Classification(numbering_service.load_plan(session, run.numbering_plan_id or 0), place_tables())
        _warm_up(job.source.path, tables)
        if not job.is_checked:
            around.enter_context(_without_check())
        folder = around.enter_context(tempfile.TemporaryDirectory(prefix="sms-bench-"))
        detail = around.enter_context(closing(DetailLog(Path(folder) / "migrate.jsonl")))
        watch, reader = Stopwatch(job.postmaster), time.thread_time()
        with closing(Source(job.source.path)) as source:
            rows_of = Normaliser(
                source, tables, target.seen_numbers(session), run_id=run.id, id_offset=run.contact_id_offset
            )
            Loader(
                job.url, source, rows_of, run_id=run.id, streams=DEFAULTS.streams, batch_size=job.batch_size,
                stop=threading.Event(), progress=lambda _: None, detail=detail,
            ).load([(run.first_source_id or 0, run.last_source_id or 0)], run.source_rows)  # fmt: skip
            reader = time.thread_time() - reader
            usage = watch.stop(target.peak_rss_mb())
        return Loaded(usage, ledger.totals(session, run.id), reader)


def _warm_up(path: Path, tables: Classification) -> None:
    """Take the compiled kernels from their cache: normalise one block, and forget it."""
    with closing(Source(path)) as source:
        normaliser = Normaliser(source, tables, SeenNumbers(), run_id=0, id_offset=0)
        for block in source.blocks(-1, np.iinfo(np.int64).max, 4096, RowBlock()):
            for _ in normaliser.process(block, Batch(0, 0)):
                pass


@contextmanager
def _without_check() -> Iterator[None]:
    """Neither side computes a fingerprint."""
    no_fingerprint = patch.object(columns, "fingerprint_rows", lambda *_: np.uint64(0))
    with patch.object(loader, "CopyStream", UncheckedStream), no_fingerprint:
        yield


def build_indexes(url: str) -> IndexTimes:
    """Put back what `load` found off, as the product does, and time it."""
    with closing(connect(url, autocommit=True)) as session:
        fulltext = {it.name for it in target.detached(session) if it.stage == target.FULLTEXT}
    began, keys_at = time.perf_counter(), 0.0

    def note(name: str, _done: int, _of: int) -> None:
        nonlocal keys_at
        if name not in fulltext:
            keys_at = time.perf_counter() - began

    configure_logs("INFO")
    with structlog.testing.capture_logs() as lines:
        target.restore(url, fulltext_later=False, progress=note, stop=threading.Event())
    configure_logs("WARNING")
    seconds = time.perf_counter() - began
    each = {str(line["name"]): float(line["seconds"]) for line in lines if line["event"] == "index built"}
    return IndexTimes(each, round(keys_at, 3), round(seconds - keys_at, 3))
