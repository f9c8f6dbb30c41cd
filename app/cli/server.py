"""`smsctl up` and `smsctl down`: the service in the foreground with the servers it needs, and stopping or removing them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from app.cli.context import application_url, database_url, redis_url
from app.cli.transactions import in_transaction
from app.core.config import ApiSettings, Settings, get_settings
from app.core.database import hide_password
from app.core.errors import InvalidInput
from app.embedded.api_process import ApiChild, Backends
from app.embedded.servers import stop_all
from app.embedded.supervisor import Child, server_children, supervise
from app.services import schema_service, user_service

PortOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one. Default: SMS_API__PORT.")
]
FIRST_USER = "smsctl users create you@example.com --role admin --password-stdin"


def up(port: PortOption = None) -> None:
    """Run the API in the foreground until Ctrl-C, with PostgreSQL and Valkey of its own unless their URLs are given.

    The schema is brought up to date first. What already runs is adopted and stopped too.
    """
    settings = with_port(get_settings(), port)
    api = ApiChild(settings, prepare_backends)
    supervise(settings, [*server_children(settings), api], Announcer(api))
    typer.echo("Stopped.")


def with_port(settings: Settings, port: int | None) -> Settings:
    """The settings with another port of the API; None leaves it."""
    if port is None:
        return settings
    api = ApiSettings.model_validate(settings.api.model_dump() | {"port": port})
    return settings.model_copy(update={"api": api})


def prepare_backends() -> Backends:
    """Bring the schema up to date and say how the API reaches its servers.

    Raises: as schema_service.upgrade.
    """
    upgrade_schema()
    return Backends(application_url(), redis_url())


def upgrade_schema() -> None:
    """`smsctl db upgrade`, but for a database of yours that is up to date: its application's role could not."""
    settings, url = get_settings(), database_url(admin=True)
    if (
        settings.database_url
        and not settings.database_admin_url
        and schema_service.current(url) == schema_service.head()
    ):
        return
    schema_service.upgrade(url)


@dataclass(slots=True)
class Announcer:
    """Prints what runs and where. A server that came back at another address makes the API start anew with it."""

    api: ApiChild

    def __call__(self, child: Child, address: str) -> None:
        """Say where `child` is reached."""
        typer.echo(f"{child.name:<12}{hide_password(address)}")
        if child is self.api:
            typer.echo(f"{'Docs':<12}{address}/docs")
            typer.echo(f"{'Sign in':<12}{how_to_sign_in(address)}")
        elif self.api.is_alive() and not self.api.uses(address):
            self.api.stop()
        sys.stdout.flush()


def how_to_sign_in(address: str) -> str:
    """One line: the request that signs in, or the command that makes the first administrator."""
    if has_admin():
        return f'POST {address}/api/v1/auth/login {{"email": …, "password": …}}'
    return f"there is no administrator yet; make one: {FIRST_USER}"


def has_admin() -> bool:
    """Whether an administrator could sign in."""
    return in_transaction(user_service.has_admin)


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the servers' data. Backups stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
) -> None:
    """Stop `smsctl up` if it runs, with its API, and the embedded PostgreSQL and Valkey."""
    settings = get_settings()
    if purge and not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("Deleting the servers' data without a terminal needs --yes.", code="confirmation")
        if not typer.confirm(f"Delete all data of the embedded servers of {settings.data_dir}?"):
            raise typer.Exit(1)
    for line in stop_all(settings, purge=purge) or ["Nothing was running."]:
        typer.echo(line)
