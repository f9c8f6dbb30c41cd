"""An application over a database of its own, with an account of every role, to ask questions of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx2
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.core.async_database import Database
from app.core.config import ApiSettings, AuthSettings, LimitSettings, Settings
from app.core.database import connect
from app.core.security import PasswordHasher
from app.main import create_app
from app.models.permission import SYSTEM, Origin
from app.models.user import Role
from app.services import user_service

PASSWORD = "sunlit-otter-carries-9-lanterns"
PROXY = "10.255.255.1"
"""Where requests of these tests come from: a proxy that is believed, so that each test can have an address of its own."""
CONTACTS = """
INSERT INTO contacts (is_mobile, is_valid, phone_e164, phone_national, line_type, source, full_name, address,
                      neighborhood, state_code, lada, invalid_reason)
SELECT n %% 2 = 0, n %% 10 <> 0, '+5255' || lpad(n::text, 8, '0'), '55' || lpad(n::text, 8, '0'),
       CASE WHEN n %% 2 = 0 THEN 'mobile' ELSE 'fixed' END, 'test', 'María Pérez ' || n, 'Calle ' || n, 'Centro',
       CASE WHEN n %% 3 = 0 THEN 'JAL' ELSE 'CMX' END, '55', CASE WHEN n %% 10 = 0 THEN 'unassigned' END
FROM generate_series(1, %s) AS n
"""


def address() -> str:
    """A client address that no other test has."""
    return ".".join(["10", *(str(random.randrange(1, 250)) for _ in range(3))])


@dataclass(frozen=True, slots=True)
class Account:
    """An account and what it signs in with."""

    email: str
    password: str
    public_id: UUID


@dataclass(slots=True)
class Service:
    """A running application and its accounts."""

    settings: Settings
    client: TestClient
    accounts: dict[Role, Account]
    tokens: dict[Role, str] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """Its database."""
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    def ask(self, method: str, path: str, role: Role | None = None, **more: Any) -> httpx2.Response:
        """The answer to a request of somebody with a role, from an address of its own; without one nobody signed in."""
        headers = {"X-Forwarded-For": address(), **(more.pop("headers", None) or {})}
        if role is not None:
            headers["Authorization"] = f"Bearer {self.token(role)}"
        return self.client.request(method, path, headers=headers, **more)

    def token(self, role: Role) -> str:
        """An access token of the account with that role."""
        if role not in self.tokens:
            self.tokens[role] = self.login(self.accounts[role])["access_token"]
        return self.tokens[role]

    def login(self, account: Account, **more: str) -> dict[str, Any]:
        """The answer to a sign-in that must succeed."""
        body = {"email": account.email, "password": account.password, **more}
        answer = self.ask("POST", "/api/v1/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def add_account(self, role: Role) -> Account:
        """One more account."""
        return make_accounts(self.settings, [role])[role]


def settings_for(
    settings: Settings, database_url: str, redis_url: str | None, *, api: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
) -> Settings:  # fmt: skip
    """Settings of an application on the test run's servers."""
    return Settings(
        _env_file=None,
        data_dir=settings.data_dir,
        environment="test",
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url) if redis_url else None,
        api=ApiSettings(**{"trusted_proxies": [PROXY], "pool_size": 5, **(api or {})}),
        auth=AuthSettings(logins_per_account="1000/minute", logins_per_address="1000/minute"),
        limits=LimitSettings(
            **{
                "per_user": "100000/minute",
                "per_key": "100000/minute",
                "per_address": "100000/minute",
                **(limits or {}),
            }
        ),
    )


@contextmanager
def application(settings: Settings) -> Iterator[TestClient]:
    """The application, started, and a client that sees what a proxy in front of it would see."""
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False, client=(PROXY, 50_000)) as client:
        yield client


@contextmanager
def service(settings: Settings, roles: tuple[Role, ...] = tuple(Role)) -> Iterator[Service]:
    """The application with an account of each of `roles`."""
    accounts = make_accounts(settings, roles)
    with application(settings) as client:
        yield Service(settings, client, accounts)


def fill_contacts(url: str, rows: int) -> None:
    """Contacts 1 to `rows`: half of them mobile, a third in Jalisco, a tenth invalid."""
    with closing(connect(url)) as session:
        session.execute(CONTACTS, (rows,))
        session.commit()


def make_accounts(settings: Settings, roles: Iterable[Role]) -> dict[Role, Account]:
    """An account of each of `roles`."""
    return asyncio.run(_accounts(settings, roles))


async def _accounts(settings: Settings, roles: Iterable[Role]) -> dict[Role, Account]:
    assert settings.database_url is not None
    db = Database(settings.database_url.get_secret_value(), settings.api)
    hashed = PasswordHasher(settings.auth).hash(PASSWORD)
    made = {}
    try:
        for role in roles:
            email = f"{role}-{uuid4().hex[:10]}@example.com"
            async with db.transaction() as session:
                view = await user_service.create(
                    session, SYSTEM, email=email, role=role, password_hash=hashed, origin=Origin()
                )
            made[role] = Account(email, PASSWORD, view.public_id)
    finally:
        await db.close()
    return made
