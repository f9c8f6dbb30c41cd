"""smsctl migrate: move numeros.db, prove it, report it, undo it."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.cli.backup import pg_tools
from app.cli.context import console, database_url, print_json
from app.cli.migrate_progress import shown_progress
from app.core.config import get_settings
from app.core.database import connect
from app.core.errors import AppError, InvalidInput
from app.ingest import ledger, report, rollback, target, validation
from app.ingest.detail_log import DetailLog
from app.ingest.migration_manager import MigrationManager
from app.ingest.outcome import MigrationOptions, MigrationResult
from app.services import backup_service

group = typer.Typer(no_args_is_help=True)
EXIT_INTERRUPTED = 130
EXIT_NOT_PROVEN = 7

RunOption = Annotated[int | None, typer.Option("--run", help="Number of the run; the latest by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--database-url", help="PostgreSQL to load into; default: DATABASE_URL, else the embedded one."),
]


@group.command()
def run(
    path: Annotated[Path, typer.Argument(help="The numeros.db to move. It is only read.")],
    url: UrlOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows per committed batch.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows of the source, in all.")] = None,
    backup_dir: Annotated[
        Path | None, typer.Option(help="Copy the source and back the database up here, before and during the run.")
    ] = None,
    backup_every: Annotated[int, typer.Option(min=0, help="Rows between incremental backups; needs --backup-dir.")] = 0,
    fulltext_later: Annotated[
        bool, typer.Option("--fulltext-later", help="Leave the two full-text indexes to `smsctl migrate indexes`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move a numeros.db into PostgreSQL. Stopped or killed, the same command goes on; done, it changes nothing."""
    if backup_every and backup_dir is None:
        raise InvalidInput("--backup-every needs --backup-dir DIR.", code="backup_dir_missing")
    result = run_migration(
        path, url, batch_size, limit=limit, backup_dir=backup_dir, backup_every=backup_every,
        fulltext_later=fulltext_later, as_json=as_json,
    )  # fmt: skip
    show_result(result, as_json=as_json)
    if result.status == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def run_migration(
    path: Path,
    url: str | None = None,
    batch_size: int | None = None,
    *,
    limit: int | None = None,
    backup_dir: Path | None = None,
    backup_every: int = 0,
    fulltext_later: bool = False,
    as_json: bool = False,
) -> MigrationResult:
    """Migrate with progress on standard error; Ctrl-C and SIGTERM stop it after rolling the open batches back."""
    hook = None
    address = url or (lambda: database_url(admin=True))  # asked again after a lost connection
    if backup_dir is not None:
        hook = backup_service.migration_hook(address, path, backup_dir, pg_tools())
    stop = threading.Event()
    with shown_progress() as show, closing(DetailLog(get_settings().data_dir / "logs" / "migrate.jsonl")) as detail:
        manager = MigrationManager(
            path, address, batch_size,
            options=MigrationOptions(limit, fulltext_later, hook, backup_every), progress=show, stop=stop, detail=detail,
        )  # fmt: skip
        previous = {number: signal.signal(number, lambda *_: _stop(stop)) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return manager.run()
        except AppError:
            if as_json and manager.last_result is not None:
                print_json(asdict(manager.last_result))
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _stop(stop: threading.Event) -> None:
    """The first signal asks for a stop; the second takes it."""
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


def show_result(result: MigrationResult, *, as_json: bool) -> None:
    """One JSON object, or a few lines for a person."""
    if as_json:
        print_json(asdict(result))
        return
    words = {
        "completed": "Done: the ledger balances.",
        "limited": "Stopped at the limit; the same command without --limit goes on.",
        "interrupted": "Interrupted; nothing half-done was kept, and the same command goes on.",
    }
    sys.stdout.write(
        f"Run {result.run_id} {result.status}. {words.get(result.status, '')}\n"
        f"{result.source_rows:>14,} rows read\n{result.loaded:>14,} loaded\n{result.duplicates:>14,} duplicates\n"
        f"{result.rejected:>14,} rejected"
        + (f" ({', '.join(f'{reason} {count:,}' for reason, count in result.rejected_by_reason.items())})\n"
           if result.rejected_by_reason else "\n")
        + f"{result.seconds:>14,.1f} s in all, {result.rows_per_second:,.0f} rows/s in the load, "
        f"{result.index_seconds:,.1f} s for keys and indexes, {result.peak_rss_mb:,.0f} MB at most\n"
        f"    fingerprint {result.fingerprint}\n"
    )  # fmt: skip


@group.command()
def indexes(url: UrlOption = None) -> None:
    """Build the indexes that `run --fulltext-later` left, while contacts are in use."""
    address = url or database_url(admin=True)
    with shown_progress() as show, closing(connect(address, autocommit=True)) as session:
        ledger.hold_lock(session)
        built = target.build_concurrently(session, lambda name, done, total: show.objects("index", name, done, total))
    sys.stdout.write(f"Built: {', '.join(built)}.\n" if built else "Every index is there.\n")


@group.command()
def status(run_id: RunOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """How far a run is, and whether somebody is at it now."""
    with closing(connect(url or database_url(), autocommit=True)) as session:
        state = ledger.progress(session, run_id)
    if as_json:
        print_json(asdict(state))
        return
    sys.stdout.write(
        f"Run {state.run_id} of {state.source_path}: {state.status}"
        + (", running now" if state.is_live else "")
        + f"\nstage {state.stage}: {state.source_rows:,} of {state.total_rows:,} rows ({state.percent:.1f} %)\n"
        f"{state.loaded:,} loaded, {state.duplicates:,} duplicates, {state.rejected:,} rejected in {state.batches:,} "
        f"batches; last batch {state.last_batch_at or 'none yet'}\n" + (f"{state.error}\n" if state.error else "")
    )


@group.command()
def validate(run_id: RunOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Compare source and target, independently of what the loader counted. Exit 0 only when every check holds."""
    address = url or database_url()
    result = run_validation(address, run_id)
    if as_json:
        print_json(asdict(result))
    else:
        sys.stdout.write(validation.to_text(result))
    if not result.holds:
        raise typer.Exit(EXIT_NOT_PROVEN)


def run_validation(address: str, run_id: int | None) -> validation.ValidationResult:
    """Validate a run against the file it came from, with progress on standard error."""
    with closing(connect(address, autocommit=True)) as session:
        source_path = Path(ledger.find_run(session, run_id).source_path)
    with shown_progress() as show:
        return validation.validate(source_path, address, run_id, progress=show.stage)


@group.command("report")
def report_command(
    run_id: RunOption = None,
    url: UrlOption = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file: .json, or Markdown.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Also write every reject and duplicate to this CSV file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Quality, speed and distribution of a run, as Markdown or JSON."""
    address = url or database_url()
    made = report.report(address, run_id)
    if rejects is not None:
        report.export_rejects(address, made.run_id, rejects)
        console.print(f"Rejects and duplicates: {rejects}")
    if output is not None:
        report.write(made, output)
        console.print(f"Report: {output}")
    elif as_json:
        print_json(asdict(made))
    else:
        sys.stdout.write(report.to_markdown(made))


@group.command("rollback")
def rollback_command(run_id: RunOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Remove exactly one run's rows, statistics and LADAs, and prove that nothing else changed."""
    with shown_progress() as show:
        result = rollback.rollback(url or database_url(admin=True), run_id, lambda what: show.stage(what, 0, 0))
    if as_json:
        print_json(asdict(result))
        return
    sys.stdout.write(
        f"Run {result.run_id} is rolled back in {result.seconds:,.1f} s: {result.contacts_removed:,} contacts, "
        f"{result.statistics_removed} statistics, {result.missing_ladas_removed} LADAs, {result.rejects_removed:,} rejects "
        f"removed; {result.remaining} left.\nOther contacts: {result.others_before[0]:,} before, "
        f"{result.others_after[0]:,} after, fingerprint {result.others_after[1]} unchanged.\n"
    )
