"""What tests of sign-in share: a service desk over a database and the run's Valkey, accounts, a clock they turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import uuid4

from app.core.async_database import Database
from app.core.cache import Cache
from app.core.config import ApiSettings, AuthSettings, Settings
from app.core.database import connect
from app.core.rate_limits import RateLimiter
from app.core.security import PasswordHasher, Vault, secret_key
from app.models.permission import SYSTEM, Caller, Origin
from app.models.user import Role
from app.services import user_service
from app.services.auth_service import AuthService, SignIn
from app.services.token_service import TokenSigner
from app.services.user_service import UserView

PASSWORD = "sunlit-otter-carries-9-lanterns"


class Clock:
    """Stands still but for a millisecond at each look, so that what is made later is later; turned by `forward`."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 15, 2, tzinfo=UTC)

    def utc_now(self) -> datetime:
        """The present instant."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def forward(self, **by: float) -> None:
        """Let time pass, as timedelta has it."""
        self.now += timedelta(**by)


@lru_cache(maxsize=1)
def hasher() -> PasswordHasher:
    """One for all tests: it is slow on purpose."""
    return PasswordHasher(AuthSettings())


@lru_cache(maxsize=8)
def hash_of(password: str) -> str:
    """The hash of a password that many tests use."""
    return hasher().hash(password)


def somewhere() -> Origin:
    """A client that no other test has been."""
    octets = ".".join(str(random.randrange(1, 250)) for _ in range(3))
    return Origin(address=f"10.{octets}", user_agent="tests", request_id="r-1")


def some_email() -> str:
    """An address that no other test has."""
    return f"ana.{uuid4().hex[:12]}@example.com"


@dataclass(slots=True)
class Desk:
    """One process of the service: its connections, and what it knows of keys."""

    url: str
    settings: Settings
    db: Database
    cache: Cache
    limiter: RateLimiter
    vault: Vault
    signer: TokenSigner
    auth: AuthService
    origin: Origin = field(default_factory=somewhere)

    async def add(self, role: Role = Role.MARKETER, *, password: str | None = PASSWORD, email: str = "") -> UserView:
        """One more account."""
        async with self.db.transaction() as session:
            return await user_service.create(
                session, SYSTEM, email=email or some_email(), role=role, origin=self.origin,
                password_hash=hash_of(password) if password else None,
            )  # fmt: skip

    async def login(self, user: UserView, otp: str | None = None, *, password: str = PASSWORD) -> SignIn:
        """A sign-in."""
        return await self.auth.login(user.email, password, otp, self.origin)

    async def enter(self, user: UserView) -> tuple[SignIn, Caller]:
        """A sign-in, and who the service takes one for then."""
        signed_in = await self.login(user)
        return signed_in, await self.auth.authenticate(signed_in.access_token, self.origin)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database holds, asked as its owner."""
        with connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def events(self) -> list[tuple[str, str]]:
        """(action, result) of the audit log, the oldest first, without the making of accounts and keys."""
        found = self.rows("SELECT action, result FROM audit_events ORDER BY id")
        return [(action, result) for action, result in found if action not in ("user.create", "signing_key.rotate")]


@asynccontextmanager
async def open_desk(settings: Settings, url: str, redis_url: str | None, **auth: Any) -> AsyncIterator[Desk]:
    """A process of the service for the length of the block; `auth`: settings of sign-in that differ from the usual."""
    chosen = settings.model_copy(update={"auth": AuthSettings(**auth)})
    db, cache = Database(url, ApiSettings(pool_size=8)), Cache(redis_url)
    vault, limiter = Vault(secret_key(chosen)), RateLimiter(cache)
    signer = TokenSigner(db, vault, chosen.auth)
    service = AuthService(db, signer, hasher(), limiter, vault, chosen)
    try:
        await signer.start()
        yield Desk(url, chosen, db, cache, limiter, vault, signer, service)
    finally:
        await cache.close()
        await db.close()


async def at_once(*acts: Any) -> list[Any]:
    """What each of them came to, answers or errors."""
    return list(await asyncio.gather(*acts, return_exceptions=True))
