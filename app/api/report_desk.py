"""Reports of migrations for the API: made beside the event loop, one at a time, and kept a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import monotonic

import psycopg

from app.core.database import translate_error
from app.ingest import report
from app.ingest.report import MigrationReport

KEPT_S = 60.0
MOST_KEPT = 20


class ReportDesk:
    """Makes the report of a run when it is asked for. Each reads all contacts, so two never run at once here."""

    def __init__(self, db_url: str) -> None:
        self._db_url = db_url
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[int, tuple[float, MigrationReport]] = OrderedDict()

    async def report(self, run_id: int) -> MigrationReport:
        """The report of a run, at most KEPT_S seconds old.

        Raises: NotFound when there is no such run; Unavailable when the database cannot be asked.
        """
        async with self._turn:
            if (kept := self._kept.get(run_id)) and monotonic() - kept[0] < KEPT_S:
                return kept[1]
            try:
                made = await asyncio.to_thread(report.report, self._db_url, run_id)
            except psycopg.Error as error:
                raise translate_error(error) from error
            self._kept[run_id] = (monotonic(), made)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return made
