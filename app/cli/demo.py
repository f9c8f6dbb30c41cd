"""smsctl demo: the whole of it on synthetic data, or on the file that is given, from nothing to a running service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli import demo_service, migrate
from app.cli import source as source_command
from app.cli.backup import pg_tools
from app.cli.context import console, database_url, redis_url
from app.core.config import get_settings
from app.core.database import hide_password
from app.core.errors import Broken
from app.embedded.servers import stop_all
from app.ingest import report, validation
from app.services import backup_service, schema_service

DEMO_SEED = 2026
DEMO_DIRTY = 0.005


def demo(
    rows: Annotated[int, typer.Option(min=1, help="Rows of the synthetic numeros.db.")] = 1_000_000,
    source: Annotated[Path | None, typer.Option(help="Use this numeros.db in place of a synthetic one.")] = None,
    leave: Annotated[
        bool, typer.Option("--exit", help="Check the API and stop every server at the end, in place of staying.")
    ] = False,
) -> None:
    """Set up, migrate, validate, report, back up, and run the API over it until Ctrl-C."""
    try:
        _demo(rows, source)
        _say(7, "Service")
        if leave:
            demo_service.check(get_settings())
        else:
            demo_service.serve(get_settings())
    finally:
        if leave:
            for line in stop_all(get_settings()):
                console.print(line, markup=False)


def _demo(rows: int, source: Path | None) -> None:
    settings = get_settings()
    _say(1, "Servers and schema")
    url = database_url(admin=True)
    redis_url()
    state = schema_service.upgrade(url)
    console.print(f"  PostgreSQL and Valkey answer; schema {state.after}.  {hide_password(url)}", markup=False)
    _say(2, "Source")
    path = source or settings.data_dir / "demo" / f"numeros-{rows}.db"
    if source is None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source_command.generate(path, rows=rows, seed=DEMO_SEED, dirty=DEMO_DIRTY)
    else:
        console.print(f"  {path}: {path.stat().st_size / 1e6:,.0f} MB", markup=False)
    _say(3, "Migration")
    result = migrate.run_migration(path)
    if result.status != "completed":
        raise Broken(f"The migration ended as {result.status}; run the same command to go on.", code="demo_migration")
    migrate.show_result(result, as_json=False)
    _say(4, "Validation: the source read again, by another reader, and compared")
    proof = migrate.run_validation(url, result.run_id)
    sys.stdout.write(validation.to_text(proof))
    if not proof.holds:
        raise Broken("The validation does not hold: see above.", code="demo_validation")
    _say(5, "Backup")
    backup = backup_service.create_full(
        url, settings.data_dir / "backups", pg_tools(), label="demo", run_id=result.run_id
    )
    console.print(f"  {backup.path}: {(backup.bytes or 0) / 1e6:,.0f} MB, {backup.state}", markup=False)
    _say(6, "Report")
    made = report.report(url, result.run_id)
    output = settings.data_dir / "reports" / f"migration-{result.run_id}.md"
    report.write(made, output)
    sys.stdout.write(report.to_markdown(made))
    _next_steps(output)


def _say(step: int, what: str) -> None:
    console.print(f"\n[bold cyan]{step}/7[/] [bold]{what}[/]")


def _next_steps(output: Path) -> None:
    console.print(
        f"\n[bold green]Every step held.[/] The report is in {output}\n\n"
        "Next:\n"
        "  .venv/bin/smsctl numbering lookup 5512345678       ask the numbering plan\n"
        "  .venv/bin/smsctl source inspect /their/numeros.db  analyse your own file\n"
        "  make demo SOURCE=/their/numeros.db                 migrate it\n"
        "  .venv/bin/smsctl db url                            the address for psql and other programs\n"
        "  .venv/bin/smsctl up                                run the service on it again\n"
        "  .venv/bin/smsctl down                              stop the servers (--purge removes the data)\n",
        soft_wrap=True,
        markup=True,
    )
