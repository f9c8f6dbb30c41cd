"""smsctl db: schema, connection URL, server settings."""

from __future__ import annotations

import typer
from rich.table import Table

from app.cli.context import console, database_url
from app.core.database import libpq_url
from app.services import schema_service, tuning_service
from app.services.tuning_service import TuneResult

group = typer.Typer(no_args_is_help=True)
tune = typer.Typer(no_args_is_help=True)
group.add_typer(tune, name="tune", help="Server settings for a bulk load, and back; only what needs no restart.")


@group.command()
def upgrade() -> None:
    """Bring the schema up to date and load the packaged numbering plan; running it again changes nothing."""
    state = schema_service.upgrade(database_url(admin=True))
    done = (
        f"from {state.before or 'an empty database'} to {state.after}" if state.changed else f"already at {state.after}"
    )
    console.print(f"Schema: {done}.")


@group.command()
def url() -> None:
    """Print the database's URL, password included, as psql takes it: psql "$(smsctl db url)"."""
    typer.echo(libpq_url(database_url()))


@group.command()
def check() -> None:
    """Compare the shipped migrations with the models, in a scratch database; exit 1 when they differ."""
    differences = schema_service.check_shipped(database_url(admin=True))
    for difference in differences:
        typer.echo(difference)
    if differences:
        raise typer.Exit(1)
    console.print("Migrations and models agree.")


@tune.command()
def bulk() -> None:
    """Set the server for a bulk load; `serve` puts back what was there."""
    _print(tuning_service.apply_bulk(database_url(admin=True)), nothing="The server is already set for a bulk load.")


@tune.command()
def serve() -> None:
    """Put back the settings that were there before `bulk` or a migration."""
    _print(tuning_service.restore(database_url(admin=True)), nothing="Nothing was changed, nothing to put back.")


@tune.command()
def show() -> None:
    """Show the settings that matter, and what `serve` would put back."""
    table = Table("setting", "now", "after `tune serve`")
    for setting in tuning_service.show(database_url(admin=True)):
        changed = setting.after != setting.before
        table.add_row(setting.name, setting.before, (setting.after or "default") if changed else "")
    console.print(table)


def _print(result: TuneResult, *, nothing: str) -> None:
    for setting in result.applied:
        console.print(f"{setting.name}: {setting.before} → {setting.after or 'default'}", markup=False)
    if result.refused:
        console.print(result.refused, markup=False)
    elif not result.applied:
        console.print(nothing, markup=False)
