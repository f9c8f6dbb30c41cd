"""The last step of `smsctl demo`: the API over what was migrated, asked for real, and left running or stopped."""

from __future__ import annotations

import http.client
import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.context import console
from app.cli.server import Announcer, has_admin, prepare_backends, with_port
from app.cli.transactions import HERE, in_transaction
from app.core.config import Settings
from app.core.errors import Broken
from app.core.security import PasswordHasher, new_token
from app.embedded.api_process import ApiChild, is_free
from app.embedded.supervisor import Child, server_children, supervise
from app.models.permission import SYSTEM
from app.models.user import Role
from app.services import user_service
from app.services.user_service import UserView

FIRST_ADMIN = "admin@example.com"
PATIENCE_S = 30.0
OK = 200


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose password is known here, and nowhere else."""

    user: UserView
    password: str


def check(settings: Settings) -> None:
    """Start the API on a free port, see that it is ready and that an account can sign in, and stop it.

    Raises: Broken when it does not answer as it must; what starting it raises.
    """
    api = ApiChild(with_port(settings, 0), prepare_backends)
    try:
        address = api.start()
        with _passing_account(settings) as account:
            _ask_for_real(address, account)
        console.print(f"  {address} was ready, an account signed in, and it was stopped again.", markup=False)
    finally:
        api.stop()


def serve(settings: Settings) -> None:
    """Run the API in the foreground until Ctrl-C, with a first administrator when there is none yet."""
    port = None if is_free(settings.api.host, settings.api.port) else 0
    account = _first_admin(settings)
    api = ApiChild(with_port(settings, port), prepare_backends)
    told = Announcer(api)

    def announce(child: Child, address: str) -> None:
        told(child, address)
        if child is api:
            _ask_for_real(address, account)
            console.print("Ctrl-C stops everything; `smsctl up` starts it again.", markup=False)

    if account is not None:
        console.print(
            f"  First administrator: {FIRST_ADMIN}, password (shown this once): {account.password}", markup=False
        )
    supervise(settings, [*server_children(settings), api], announce)


def _first_admin(settings: Settings) -> Account | None:
    """An administrator, if there is none and somebody is there to read the password."""
    if not sys.stderr.isatty() or has_admin():
        return None
    return _make(settings, FIRST_ADMIN, Role.ADMIN)


@contextmanager
def _passing_account(settings: Settings) -> Iterator[Account]:
    """An account for the length of the block; disabled afterwards, as accounts are never deleted."""
    account = _make(settings, f"demo-{secrets.token_hex(6)}@example.com", Role.ANALYST)
    yield account

    async def disable(session: AsyncSession) -> UserView:
        return await user_service.disable(session, SYSTEM, account.user.public_id, None, HERE)

    in_transaction(disable)


def _make(settings: Settings, email: str, role: Role) -> Account:
    password = new_token()
    hashed = PasswordHasher(settings.auth).hash(password)

    async def make(session: AsyncSession) -> UserView:
        return await user_service.create(session, SYSTEM, email=email, role=role, password_hash=hashed, origin=HERE)

    return Account(in_transaction(make), password)


def _ask_for_real(address: str, account: Account | None) -> None:
    """Ask whether it is ready, and sign in. Raises: Broken."""
    status, answer = _request(address, "GET", "/health/ready")
    if status != OK:
        raise Broken(f"The API is not ready: {answer}.", code="demo_not_ready")
    if account is None:
        return
    credentials = {"email": account.user.email, "password": account.password}
    status, answer = _request(address, "POST", "/api/v1/auth/login", credentials)
    if status == OK:
        status, answer = _request(address, "GET", "/api/v1/auth/me", bearer=answer["access_token"])
    if status != OK or answer["email"] != account.user.email:
        raise Broken(f"Signing in does not work: {answer.get('code', status)}.", code="demo_sign_in")


def _request(
    address: str, method: str, path: str, body: dict[str, str] | None = None, bearer: str | None = None
) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(address)
    headers = {"Content-Type": "application/json"} if body else {}
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)) as connection:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
