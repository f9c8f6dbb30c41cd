"""The application: `uvicorn app.main:create_app --factory`. Nothing is connected before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.exc import ProgrammingError

from app import __version__
from app.api import docs_page, errors, middleware, openapi
from app.api.docs_page import OPENAPI_PATH, TITLE
from app.api.report_desk import ReportDesk
from app.api.v1.api import ROUTES
from app.core.async_database import Database
from app.core.cache import Cache
from app.core.config import Settings, get_settings
from app.core.cursors import Cursors
from app.core.errors import InvalidInput, Unavailable
from app.core.logs import configure_logs, get_logger
from app.core.metrics import POOL_IN_USE, POOL_SIZE, forget_dead_processes
from app.core.multiprocess import end_with_parent
from app.core.rate_limits import RateLimiter
from app.core.security import PasswordHasher, Vault, secret_key
from app.services import health_service
from app.services.auth_service import AuthService
from app.services.token_service import TokenSigner

GUESSABLE = ("change", "default", "example", "insecure", "password", "secret")
FEWEST_CHARACTERS = 10
"""Different ones in a secret: a key of hexadecimal digits has 16, `aaaa…` has one."""
KNOWN_PASSWORDS = frozenset({"", "admin", "password", "postgres", "root", "sms", "sms_api", "sms_owner"})

RETRY_S = 1.0
"""Between two attempts to load the keys of tokens."""

log = get_logger("api")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application with these settings, else those of the environment.

    Raises: InvalidInput without a database, or in production with a secret that anybody knows.
    """
    if settings is None:
        settings = get_settings()
        configure_logs(settings.log.level, settings.log.format)
    require_settings(settings)
    app = FastAPI(
        title=TITLE, version=__version__, lifespan=_lifespan, openapi_url=OPENAPI_PATH, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.settings = settings
    app.router.routes.extend(ROUTES)
    docs_page.install(app)
    openapi.install(app, [settings.api.public_url or "/"])
    errors.install(app)
    middleware.install(app, settings)
    return app


def require_settings(settings: Settings) -> None:
    """Return when the application can be started with these settings.

    Raises: InvalidInput.
    """
    url = database_url(settings)
    if settings.environment != "production":
        return
    secret_key(settings)
    for name, secret in (
        ("SMS_SECRET_KEY", settings.secret_key),
        ("SMS_API__METRICS_TOKEN", settings.api.metrics_token),
    ):
        text = secret.get_secret_value() if secret else None
        if text is not None and (len(set(text)) < FEWEST_CHARACTERS or any(it in text.lower() for it in GUESSABLE)):
            raise InvalidInput(f"{name} can be guessed: take `openssl rand -hex 32`.", code="guessable_secret")
    if (urlsplit(url).password or "") in KNOWN_PASSWORDS:
        raise InvalidInput("The password in DATABASE_URL is missing or well known.", code="guessable_secret")


def database_url(settings: Settings) -> str:
    """The database that the application works with: there is no embedded one here.

    Raises: InvalidInput when none is named.
    """
    if settings.database_url is None:
        raise InvalidInput(
            "DATABASE_URL is not set: `smsctl up` runs the service with a database of its own.", code="database_url"
        )
    return settings.database_url.get_secret_value()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what requests share, and close it in the reverse order when the last of them is answered."""
    settings: Settings = app.state.settings
    url = database_url(settings)
    end_with_parent()
    forget_dead_processes()
    state = app.state
    async with AsyncExitStack() as stack:
        state.db = Database(url, settings.api)
        stack.push_async_callback(state.db.close)
        _watch_pool(state.db, settings.api.pool_size)
        state.cache = Cache(settings.redis_url.get_secret_value() if settings.redis_url else None)
        stack.push_async_callback(state.cache.close)
        state.limiter = RateLimiter(state.cache)
        key = secret_key(settings)
        vault = Vault(key)
        state.cursors = Cursors(key)
        state.signer = TokenSigner(state.db, vault, settings.auth)
        await stack.enter_async_context(_signing(state.signer))
        hasher = PasswordHasher(settings.auth)
        state.auth = AuthService(state.db, state.signer, hasher, state.limiter, vault, settings)
        state.reports = ReportDesk(url)
        state.revisions = health_service.revisions()
        log.info("started", version=__version__, environment=settings.environment)
        yield
        log.info("stopping")


@asynccontextmanager
async def _signing(signer: TokenSigner) -> AsyncIterator[None]:
    """Load the keys of tokens, or go on trying beside: without a database the service starts, and says what it lacks."""
    trying = None
    if not await _has_started(signer):
        trying = asyncio.create_task(_try_on(signer))
    try:
        yield
    finally:
        if trying is not None:
            trying.cancel()


async def _try_on(signer: TokenSigner) -> None:
    while not await _has_started(signer):
        await asyncio.sleep(RETRY_S)
    log.info("signing_keys_loaded")


async def _has_started(signer: TokenSigner) -> bool:
    try:
        await signer.start()
    except (Unavailable, ProgrammingError) as error:  # no database, or no schema in it yet
        log.warning("signing_keys_missing", reason=type(error).__name__)
        return False
    return True


def _watch_pool(db: Database, size: int) -> None:
    POOL_SIZE.set(size)
    for engine in (db.engine, db.reader):
        event.listen(engine.sync_engine, "checkout", lambda *_: POOL_IN_USE.inc())
        event.listen(engine.sync_engine, "checkin", lambda *_: POOL_IN_USE.dec())
