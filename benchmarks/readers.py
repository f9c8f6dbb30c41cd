"""Reading alone: what the source costs before anything is done with its rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np

from app.core.errors import Broken
from app.ingest.source import COLUMNS, RowBlock, Source
from benchmarks.machine import Stopwatch, Usage
from benchmarks.source_file import BenchSource

ROWS_A_FETCH = 10_000


def measure_pages(source: BenchSource) -> Usage:
    """The product's reader: pages into memory, cells located and typed, no Python object made of any. One thread.

    Raises: Broken when it does not find every row.
    """
    with closing(Source(source.path)) as warm:
        next(iter(warm.blocks(-1, np.iinfo(np.int64).max, 1, RowBlock())))
    watch, rows = Stopwatch(None), 0
    with closing(Source(source.path)) as opened:
        for block in opened.blocks(-1, np.iinfo(np.int64).max, source.facts.rows, RowBlock()):
            rows += block.rows
    usage = watch.stop()
    _expect(source, rows)
    return usage


def measure_sqlite3(source: BenchSource) -> Usage:
    """Python's sqlite3: all 16 columns as Python objects, 10,000 rows a fetch. One thread.

    Raises: Broken when it does not find every row.
    """
    watch, rows = Stopwatch(None), 0
    with closing(sqlite3.connect(f"{source.path.as_uri()}?mode=ro", uri=True)) as connection:
        # The dirt holds TEXT that is not UTF-8, on which str would raise.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        cursor = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM numeros ORDER BY id")
        while found := cursor.fetchmany(ROWS_A_FETCH):
            rows += len(found)
    usage = watch.stop()
    _expect(source, rows)
    return usage


def _expect(source: BenchSource, rows: int) -> None:
    if rows != source.facts.rows:
        raise Broken(f"The reader found {rows} rows of {source.facts.rows}.", code="bench_rows")
