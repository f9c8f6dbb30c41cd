"""Valkey, as something that may be gone at any moment: short timeouts, no waiting on a dead server, no error upwards."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.core.logs import get_logger

CONNECT_TIMEOUT_S = 0.1
COMMAND_TIMEOUT_S = 0.2
QUIET_S = 1.0
"""After a failure nobody tries for so long: one request in a second may wait for a dead server, not all of them."""
CONNECTIONS = 64

log = get_logger("cache")
T = TypeVar("T")


class Cache:
    """A client of Valkey. `url` None: there is none, which is the same as one that is down."""

    def __init__(self, url: str | None) -> None:
        self.pool: BlockingConnectionPool | None = None
        self.client: Redis | None = None
        self._quiet_until = 0.0
        self._failing = False
        if url is not None:
            # One more try where a kept connection turns out to be closed (Valkey was restarted); none after a timeout.
            self.pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=COMMAND_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=COMMAND_TIMEOUT_S,
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            )
            self.client = Redis(connection_pool=self.pool)

    @property
    def is_usable(self) -> bool:
        """Whether it is worth asking now: there is a server, and it did not fail within the last second."""
        return self.client is not None and time.monotonic() >= self._quiet_until

    async def attempt(self, work: Callable[[Redis], Awaitable[T]], otherwise: T) -> T:
        """What `work` gives, or `otherwise` when Valkey is not there or fails."""
        if self.client is None or not self.is_usable:
            return otherwise
        try:
            result = await work(self.client)
        except (RedisError, OSError, TimeoutError) as error:
            await self._fail(error)
            return otherwise
        if self._failing:
            self._failing = False
            log.info("valkey_back")
        return result

    async def ping(self) -> bool:
        """Whether Valkey answers."""
        return await self.attempt(_ping, otherwise=False)

    async def close(self) -> None:
        """Close every connection."""
        if self.client is not None and self.pool is not None:
            await self.client.aclose()
            await self.pool.disconnect()

    async def _fail(self, error: Exception) -> None:
        self._quiet_until = time.monotonic() + QUIET_S
        if not self._failing:
            self._failing = True
            log.warning("valkey_unreachable", error=type(error).__name__)
        if self.pool is not None:
            # Kept connections lead to a server that may not come back as it was.
            await self.pool.disconnect(inuse_connections=False)


async def _ping(client: Redis) -> bool:
    return bool(await client.ping())
