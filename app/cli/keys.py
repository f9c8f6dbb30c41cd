"""smsctl keys: the keys that sign access tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from app.cli.context import console, print_json
from app.cli.transactions import HERE, in_transaction
from app.core.config import get_settings
from app.core.security import Vault, secret_key
from app.models.permission import SYSTEM
from app.services import token_service

group = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@group.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Show every key, the newest first."""
    keys = in_transaction(token_service.list_keys)
    if as_json:
        print_json({"keys": [asdict(key) for key in keys]})
        return
    table = Table("kid", "made (UTC)", "state")
    for key in keys:
        state = "signs" if key.signs else "retired" if key.retired_at else "verifies"
        table.add_row(key.kid, f"{key.created_at:%Y-%m-%d %H:%M}", state)
    console.print(table)


@group.command()
def rotate() -> None:
    """Make a key that signs from now on; those before it still verify."""
    vault = Vault(secret_key(get_settings()))
    kid = in_transaction(lambda session: token_service.rotate(session, vault, SYSTEM, HERE))
    minutes = get_settings().auth.access_minutes
    console.print(f"Key {kid} signs. In {minutes + 1} minutes no token of the one before is left: retire it then.")


@group.command()
def retire(kid: Annotated[str, typer.Argument(help="The key, as `list` shows it.", show_default=False)]) -> None:
    """End a key: no token that it signed is accepted any more; whoever has one refreshes it."""
    in_transaction(lambda session: token_service.retire(session, kid, SYSTEM, HERE))
    console.print(f"Key {kid} is retired.", markup=False)
