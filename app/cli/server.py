"""`smsctl up` and `smsctl down`: the embedded servers in the foreground, and stopping or removing them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.core.config import get_settings
from app.core.database import hide_password
from app.core.errors import InvalidInput
from app.embedded.servers import stop_all
from app.embedded.supervisor import Child, server_children, supervise


def up() -> None:
    """Run PostgreSQL and Valkey in the foreground until Ctrl-C; what already runs is adopted and stopped too."""
    settings = get_settings()
    children = server_children(settings)
    if not children:
        raise InvalidInput(
            "DATABASE_URL and REDIS_URL are both set, so there is no server to run here; unset one to use ours.",
            code="nothing_to_run",
        )
    supervise(settings, children, _announce)
    typer.echo("Stopped.")


def _announce(child: Child, address: str) -> None:
    typer.echo(f"{child.name:<12}{hide_password(address)}")
    sys.stdout.flush()


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the servers' data. Backups stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
) -> None:
    """Stop the embedded PostgreSQL and Valkey, and `smsctl up` if it runs."""
    settings = get_settings()
    if purge and not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("Deleting the servers' data without a terminal needs --yes.", code="confirmation")
        if not typer.confirm(f"Delete all data of the embedded servers of {settings.data_dir}?"):
            raise typer.Exit(1)
    for line in stop_all(settings, purge=purge) or ["Nothing was running."]:
        typer.echo(line)
