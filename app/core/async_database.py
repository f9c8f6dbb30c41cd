"""The service's connections: one pool a process, opened by the application and handed to whoever needs a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.core.config import ApiSettings
from app.core.database import CONNECT_TIMEOUT_S, sqlalchemy_url
from app.core.errors import Unavailable

STATEMENT_TIMEOUT = "15s"
"""A statement of a request that takes longer is cut off: it holds a connection that others wait for."""


class Database:
    """A pool of connections. A function that takes `db` owns short transactions; one that takes `session` is in one."""

    def __init__(self, url: str, settings: ApiSettings, *, application_name: str = "sms-api") -> None:
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.pool_timeout_s,
            pool_pre_ping=False,
            connect_args={
                "application_name": application_name,
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT} -c timezone=UTC",
            },
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction of its own: committed at the end of the block, rolled back when it raises.

        Raises: Unavailable when no connection can be had, or it is lost meanwhile.
        """
        try:
            async with self._sessions() as session, session.begin():
                yield session
        except PoolTimeoutError as error:
            raise Unavailable("All database connections are in use: try again.", code="database_busy") from error
        except (OperationalError, InterfaceError) as error:
            raise Unavailable("The database cannot be reached: try again.", code="database_unreachable") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("The database connection was lost: try again.", code="database_lost") from error
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
