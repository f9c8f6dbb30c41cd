"""Progress of long commands on standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.cli.context import console
from app.core.logs import configure_logs
from app.ingest.outcome import StageProgress

LINE_EVERY_S = 5.0
WORDS = {
    "hash": "Hashing the source",
    "prepare": "Preparing contacts",
    "load": "Loading",
    "index": "Building keys and indexes",
    "analyze": "Gathering statistics",
    "reconcile": "Balancing the ledger",
}


class ProgressView:
    """What a long command calls as it goes on."""

    def __init__(self, live: Progress | None) -> None:
        self._live = live
        self._tasks: dict[str, TaskID] = {}
        self._said = 0.0
        self._last = ""
        self._began: dict[str, float] = {}

    def __call__(self, progress: StageProgress) -> None:
        """Show the state of a migration."""
        detail = progress.detail
        if progress.stage == "load":
            detail = f"{progress.loaded:,} in, {progress.duplicates:,} duplicates, {progress.rejected:,} rejected"
        self._show(progress.stage, progress.done, progress.total, detail)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show a named stage without details."""
        self._show(name, done, total, "")

    def objects(self, stage: str, name: str, done: int, total: int) -> None:
        """Show that the object `name` is done."""
        self._show(stage, done, total, name)

    def _show(self, stage: str, done: int, total: int, detail: str) -> None:
        words = WORDS.get(stage) or (stage if "_" in stage else stage.capitalize())
        if self._live is not None:
            if stage not in self._tasks:
                self._finish_others(stage)
                self._tasks[stage] = self._live.add_task(words, total=None, rate="", detail="")
                self._began[stage] = time.monotonic()
            self._live.update(
                self._tasks[stage], completed=done, total=total or None, detail=detail, rate=self._rate(stage, done)
            )
            return
        now = time.monotonic()
        if stage != self._last or now - self._said >= LINE_EVERY_S or (total and done == total):
            share = f" {done:,}/{total:,}" if total else ""
            console.print(f"{words}{share}{f' ({detail})' if detail else ''}", markup=False)
            self._last, self._said = stage, now

    def _rate(self, stage: str, done: int) -> str:
        spent = time.monotonic() - self._began[stage]
        return f"{done / spent:,.0f}/s" if stage == "load" and spent > 0.5 else ""

    def _finish_others(self, stage: str) -> None:
        if self._live is None:
            return
        for name, task in self._tasks.items():
            if name != stage:
                known = self._live.tasks[task].total
                self._live.update(task, total=known or 1, completed=known or 1)


@contextmanager
def shown_progress() -> Iterator[ProgressView]:
    """A view for the length of a command. On a terminal, routine log lines give way to the live bars."""
    if not console.is_terminal:
        yield ProgressView(None)
        return
    configure_logs("WARNING")
    columns = (
        SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description:<26}"), BarColumn(bar_width=28),
        MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, refresh_per_second=8) as live:
        view = ProgressView(live)
        yield view
        view._finish_others("")
