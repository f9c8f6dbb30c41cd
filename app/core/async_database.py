"""The service's connections: one pool a process, opened by the application and handed to whoever needs a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.core.config import ApiSettings
from app.core.database import CONNECT_TIMEOUT_S, sqlalchemy_url
from app.core.errors import Unavailable

STATEMENT_TIMEOUT = "15s"
"""A statement of a request that takes longer is cut off: it holds a connection that others wait for."""


class Database:
    """Two pools of connections, for transactions and for single SELECTs.

    A function that takes `db` owns short transactions; one that takes `session` is in one.
    """

    def __init__(self, url: str, settings: ApiSettings, *, application_name: str = "sms-api") -> None:
        readers = max(1, settings.pool_size // 2)
        self.engine = _engine(url, settings, application_name, max(1, settings.pool_size - readers))
        # Connections of their own: to set AUTOCOMMIT and take it back at each use costs half as much as the SELECT.
        self.reader = _engine(
            url, settings, application_name, readers, isolation_level="AUTOCOMMIT", pool_reset_on_return=None
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction of its own: committed at the end of the block, rolled back when it raises.

        Raises: Unavailable when no connection can be had, or it is lost meanwhile.
        """
        with _told():
            async with self._sessions() as session, session.begin():
                yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one SELECT, without BEGIN and ROLLBACK around it: two trips to the server fewer.

        Raises: Unavailable as transaction().
        """
        with _told():
            async with self.reader.connect() as connection:
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self.reader.dispose()


def _engine(url: str, settings: ApiSettings, application_name: str, size: int, **more: Any) -> AsyncEngine:
    return create_async_engine(
        sqlalchemy_url(url),
        pool_size=size,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_s,
        pool_pre_ping=False,
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT} -c timezone=UTC",
        },
        **more,
    )


@contextmanager
def _told() -> Iterator[None]:
    """What the driver says, as errors that a client understands; mistakes of ours go through as they are."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("All database connections are in use: try again.", code="database_busy") from error
    except DBAPIError as error:
        passing = _passing(error)
        if passing is None:
            raise
        raise passing from error


def _passing(error: DBAPIError) -> Unavailable | None:
    """What a client is told of an error that passes by itself; None: it is a mistake of ours."""
    cause = error.orig
    if isinstance(cause, psycopg.errors.LockNotAvailable):
        message = cause.diag.message_primary or "The rows are in use: try again."
        return Unavailable(message[0].upper() + message[1:], code="locked")
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return Unavailable("The answer took too long and was given up.", code="statement_timeout")
    if isinstance(cause, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
        return Unavailable("Others changed the same rows: try again.", code="try_again")
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return Unavailable("The database cannot be reached: try again.", code="database_unreachable")
    return None
