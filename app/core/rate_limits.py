"""Limits as `count/period`, counted in Valkey for all processes, and in each process by itself where Valkey is gone.

Windows are as long as the period and stand on the clock, so that one command counts and the end of the window is known
without another: at its edge a caller may have twice the count in a short time, over any longer time he has not.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage

from app.core import clock
from app.core.cache import Cache

T = TypeVar("T")

PREFIX = "sms:limit"
LOCAL_KEYS = 50_000
"""Counters of a process at most: about 10 MB. Whoever comes when it is full shares one counter with the others."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it may be done, and what to tell the caller. `degraded`: only this process counted."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    degraded: bool


class RateLimiter:
    """Counts what callers do. It always answers, and never with yes because it does not know."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._local = _LocalCounters()
        self._storage: RedisStorage | None = None
        if cache.pool is not None:
            # The address is the pool's; the one given here only names the kind of server.
            self._storage = RedisStorage(
                "redis://",
                implementation="redispy",
                key_prefix=PREFIX,
                connection_pool=cache.pool,  # type: ignore[arg-type]  # the library's own way, which its types miss
            )

    async def hit(self, limit: str, *key: str, cost: int = 1) -> Decision:
        """Count `cost` for `key` and decide. A negative cost gives back what was counted before."""
        window = _window(limit, key)
        local = self._local.add(window, cost)
        count = await self._ask(lambda storage: storage.incr(window.name, window.length_s, cost))
        return _decide(window, local if count is None else count, degraded=count is None)

    async def test(self, limit: str, *key: str) -> Decision:
        """Whether one more would be allowed, without counting it; `remaining` is what is left now."""
        window = _window(limit, key)
        count = await self._ask(lambda storage: storage.get(window.name))
        degraded = count is None
        known = self._local.get(window.name) if count is None else count
        is_left = _decide(window, known + 1, degraded=degraded)
        return replace(is_left, remaining=_left(window, known))

    async def clear(self, limit: str, *key: str) -> None:
        """Forget what was counted for `key` in the present window."""
        window = _window(limit, key)
        self._local.remove(window.name)
        await self._ask(lambda storage: storage.clear(window.name))

    async def _ask(self, work: Callable[[RedisStorage], Awaitable[T]]) -> T | None:
        storage = self._storage
        if storage is None:
            return None
        nothing: T | None = None
        return await self._cache.attempt(lambda _: work(storage), nothing)


@dataclass(frozen=True, slots=True)
class _Window:
    name: str
    limit: int
    length_s: int
    ends_at: float


class _LocalCounters:
    """Counters in memory, a bounded number of them; those of past windows are swept when it is full."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}

    def add(self, window: _Window, cost: int) -> int:
        name = window.name
        if name not in self._counts and len(self._counts) >= LOCAL_KEYS:
            now = clock.utc_now().timestamp()
            self._counts = {kept: (count, end) for kept, (count, end) in self._counts.items() if end > now}
            if len(self._counts) >= LOCAL_KEYS:
                name = f"{window.limit}/{window.length_s}/{window.ends_at}"
        count = max(self._counts.get(name, (0, 0.0))[0] + cost, 0)
        self._counts[name] = (count, window.ends_at)
        return count

    def get(self, name: str) -> int:
        return self._counts.get(name, (0, 0.0))[0]

    def remove(self, name: str) -> None:
        self._counts.pop(name, None)


@lru_cache(maxsize=256)
def _parsed(limit: str) -> tuple[int, int]:
    item: RateLimitItem = parse(limit)
    return item.amount, item.get_expiry()


def _window(limit: str, key: tuple[str, ...]) -> _Window:
    amount, length_s = _parsed(limit)
    now = clock.utc_now().timestamp()
    number = int(now // length_s)
    name = "/".join((*key, str(length_s), str(number)))
    return _Window(name, amount, length_s, (number + 1) * length_s)


def _left(window: _Window, count: int) -> int:
    return max(window.limit - max(count, 0), 0)


def _decide(window: _Window, count: int, *, degraded: bool) -> Decision:
    reset_s = max(1, math.ceil(window.ends_at - clock.utc_now().timestamp()))
    return Decision(count <= window.limit, window.limit, _left(window, count), reset_s, degraded)
