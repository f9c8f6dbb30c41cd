"""smsctl api-keys: keys for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.context import console, print_json
from app.cli.transactions import HERE, in_transaction, printable
from app.models.permission import SYSTEM, Permission
from app.services import api_key_service, user_service
from app.services.api_key_service import ApiKeyPage, ApiKeyView, NewKey

group = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@group.command()
def create(
    owner: Annotated[str, typer.Argument(help="Address of the account in whose name it acts.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="What it is for.", show_default=False)],
    scope: Annotated[
        list[Permission], typer.Option("--scope", help="A permission it has; once for each.", show_default=False)
    ],
    days: Annotated[int, typer.Option("--days", help="Days until it ends.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown this once, alone on standard output."""

    async def work(session: AsyncSession) -> NewKey:
        found = await user_service.find(session, owner)
        return await api_key_service.create(
            session, SYSTEM, name=name, scopes=scope, days=days, owner=found.public_id, origin=HERE
        )

    made = in_transaction(work)
    if as_json:
        print_json({"key": made.key, "api_key": _plain(made.view)})
        return
    console.print(f"Key {printable(made.view.name)} of {printable(made.view.owner_email)}; keep it, it is shown once:")
    typer.echo(made.key)


@group.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Show every key, in the order in which they were made."""
    keys = in_transaction(_all)
    if as_json:
        print_json({"api_keys": [_plain(key) for key in keys]})
        return
    table = Table("id", "name", "owner", "begins", "scopes", "ends (UTC)", "last use (UTC)", "state")
    for key in keys:
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else ""
        cells = (
            key.public_id, key.name, key.owner_email, key.prefix, " ".join(key.scopes), f"{key.expires_at:%Y-%m-%d}",
            used, "revoked" if key.revoked_at else "",
        )  # fmt: skip
        table.add_row(*(printable(cell) for cell in cells))
    console.print(table)


@group.command()
def revoke(key_id: Annotated[UUID, typer.Argument(help="Id of the key, as `list` shows it.", metavar="ID")]) -> None:
    """End a key; it works no more at once."""
    key = in_transaction(lambda session: api_key_service.revoke(session, SYSTEM, key_id, HERE))
    console.print(f"Key {printable(key.name)} of {printable(key.owner_email)} is revoked.")


async def _all(session: AsyncSession) -> list[ApiKeyView]:
    keys: list[ApiKeyView] = []
    after: UUID | None = None
    while True:
        page: ApiKeyPage = await api_key_service.list_keys(
            session, SYSTEM, of_all=True, after=after, limit=api_key_service.LARGEST_PAGE
        )
        keys += page.items
        after = page.last_id
        if after is None:
            return keys


def _plain(key: ApiKeyView) -> dict[str, object]:
    return {name: str(value) if isinstance(value, UUID) else value for name, value in asdict(key).items()}
