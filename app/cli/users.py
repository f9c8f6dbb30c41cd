"""smsctl users: accounts, from the machine itself. Whoever reaches this command has the platform."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.context import console, print_json
from app.cli.transactions import HERE, in_transaction, printable
from app.core.config import get_settings
from app.core.errors import InvalidInput
from app.core.security import PasswordHasher
from app.models.permission import SYSTEM
from app.models.user import Role
from app.services import user_service
from app.services.password_service import require_acceptable
from app.services.user_service import Invited, UserPage, UserView

group = typer.Typer(no_args_is_help=True)

LONGEST_LINE = 4096

Email = Annotated[str, typer.Argument(help="Address of the account.", show_default=False)]
RoleOption = Annotated[Role, typer.Option("--role", help="What it is to the platform.", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="Name of the person.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@group.command()
def create(
    email: Email,
    role: RoleOption,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password, one line, from standard input.")
    ] = False,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Make an account that can sign in at once."""
    if not password_stdin:
        raise InvalidInput("Give --password-stdin, or let the person choose: `smsctl users invite`.", code="password")
    settings = get_settings().auth
    address = user_service.normal_email(email)
    password = _password()
    require_acceptable(password, address, settings.password_min_length)
    hashed = PasswordHasher(settings).hash(password)

    async def work(session: AsyncSession) -> UserView:
        return await user_service.create(
            session, SYSTEM, email=address, role=role, full_name=name, password_hash=hashed, origin=HERE
        )

    _say(in_transaction(work), "was made", as_json)


@group.command()
def invite(
    email: Email,
    role: Annotated[
        Role | None, typer.Option("--role", help="Role of a new account; an old one keeps its own.")
    ] = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Make a token by which a person sets a password: of a new account (with --role), or once more of an old one."""
    settings = get_settings().auth

    async def work(session: AsyncSession) -> Invited:
        if role is not None:
            return await user_service.invite(
                session, SYSTEM, settings, email=email, role=role, full_name=name, origin=HERE
            )
        found = await user_service.find(session, email)
        return await user_service.invite_again(session, SYSTEM, settings, found.public_id, HERE)

    made = in_transaction(work)
    if as_json:
        print_json({"user": _plain(made.user), "token": made.token, "expires_at": made.expires_at.isoformat()})
        return
    console.print(f"Invitation for {printable(made.user.email)}, good until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
    typer.echo(made.token)


@group.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Show every account, in the order in which they were made."""
    users = in_transaction(_all)
    if as_json:
        print_json({"users": [_plain(user) for user in users]})
        return
    table = Table("email", "role", "name", "state", "second factor", "last sign-in (UTC)")
    for user in users:
        state = "disabled" if user.disabled_at else "open" if user.has_password else "invited"
        seen = f"{user.last_login_at:%Y-%m-%d %H:%M}" if user.last_login_at else ""
        cells = (user.email, user.role, user.full_name or "", state, "on" if user.has_second_factor else "", seen)
        table.add_row(*(printable(cell) for cell in cells))
    console.print(table)


@group.command()
def disable(email: Email, as_json: AsJson = False) -> None:
    """Shut an account: its sessions and API keys are over at once."""
    _say(_with(email, lambda session, who: user_service.disable(session, SYSTEM, who, None, HERE)), "is shut", as_json)


@group.command()
def enable(email: Email, as_json: AsJson = False) -> None:
    """Open an account again; its person signs in anew."""
    _say(_with(email, lambda session, who: user_service.enable(session, SYSTEM, who, None, HERE)), "is open", as_json)


@group.command("role")
def change_role(
    email: Email,
    role: Annotated[Role, typer.Argument(help="What it is to be.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Give an account another role; it counts at once."""
    changed = _with(email, lambda session, who: user_service.change_role(session, SYSTEM, who, role, None, HERE))
    _say(changed, f"is {role} now", as_json)


@group.command("reset-second-factor")
def reset_second_factor(email: Email, as_json: AsJson = False) -> None:
    """Take the second factor off an account whose person lost it; its sessions are over."""
    changed = _with(email, lambda session, who: user_service.reset_second_factor(session, SYSTEM, who, HERE))
    _say(changed, "has no second factor now", as_json)


def _with(email: str, change: Callable[[AsyncSession, UUID], Awaitable[UserView]]) -> UserView:
    async def work(session: AsyncSession) -> UserView:
        return await change(session, (await user_service.find(session, email)).public_id)

    return in_transaction(work)


async def _all(session: AsyncSession) -> list[UserView]:
    users: list[UserView] = []
    after: UUID | None = None
    while True:
        page: UserPage = await user_service.list_users(session, after=after, limit=user_service.LARGEST_PAGE)
        users += page.items
        after = page.last_id
        if after is None:
            return users


def _password() -> str:
    """One line of standard input; at a terminal it is asked for, unseen."""
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    raw = sys.stdin.buffer.read(LONGEST_LINE + 1)
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("The password on standard input is not UTF-8.", code="password_input") from error
    if not text or "\n" in text or len(raw) > LONGEST_LINE:
        raise InvalidInput("Standard input must hold the password on one line, and no more.", code="password_input")
    return text


def _say(user: UserView, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"user": _plain(user)})
    else:
        console.print(f"{printable(user.email)} ({user.role}) {what}.")


def _plain(user: UserView) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Role | UUID) else value for name, value in asdict(user).items()}
