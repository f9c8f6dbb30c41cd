"""Limits: counted for all processes in Valkey, and in each by itself when Valkey is gone; never not at all."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from app.core import cache as cache_module
from app.core import rate_limits
from app.core.cache import Cache
from app.core.config import EmbeddedSettings, Settings
from app.core.errors import TooMany, Unauthenticated
from app.core.rate_limits import RateLimiter
from app.embedded.servers import stop_all
from app.embedded.valkey import ensure_valkey
from tests.sign_in import PASSWORD, Clock, open_desk

LIMIT = "3/minute"


@pytest.fixture
def own_valkey() -> Iterator[Settings]:
    """Settings of a Valkey that a test may kill."""
    directory = Path(tempfile.mkdtemp(prefix="limits-"))
    directory.chmod(0o755)
    made = Settings(_env_file=None, data_dir=directory / "var", embedded=EmbeddedSettings(), environment="test")
    yield made
    stop_all(made, purge=True)
    shutil.rmtree(directory)


@pytest.fixture
async def limiter(valkey_url: str, clock: Clock) -> AsyncIterator[RateLimiter]:
    cache = Cache(valkey_url)
    yield RateLimiter(cache)
    await cache.close()


async def test_so_many_and_no_more_until_the_window_ends(limiter: RateLimiter, clock: Clock) -> None:
    key = uuid4().hex
    clock.now = clock.now.replace(second=50, microsecond=0)
    decisions = [await limiter.hit(LIMIT, "test", key) for _ in range(4)]
    assert [it.allowed for it in decisions] == [True, True, True, False]
    assert [it.remaining for it in decisions] == [2, 1, 0, 0]
    assert {(it.limit, it.reset_s, it.degraded) for it in decisions} == {(3, 10, False)}
    assert not (await limiter.test(LIMIT, "test", key)).allowed
    assert (await limiter.hit(LIMIT, "test", uuid4().hex)).allowed
    clock.forward(seconds=10)
    assert (await limiter.hit(LIMIT, "test", key)).remaining == 2


async def test_look_counts_nothing_and_what_is_given_back_is_there_again(limiter: RateLimiter) -> None:
    key = uuid4().hex
    assert [(await limiter.test(LIMIT, key)).remaining for _ in range(3)] == [3, 3, 3]
    assert not (await limiter.hit(LIMIT, key, cost=4)).allowed
    assert (await limiter.hit(LIMIT, key, cost=-2)).remaining == 1
    await limiter.clear(LIMIT, key)
    assert (await limiter.test(LIMIT, key)).remaining == 3


async def test_all_processes_count_together(valkey_url: str, clock: Clock) -> None:
    caches = [Cache(valkey_url) for _ in range(3)]
    limiters, key = [RateLimiter(it) for it in caches], uuid4().hex
    decisions = await asyncio.gather(*(it.hit(LIMIT, key) for it in limiters * 4))
    assert sum(it.allowed for it in decisions) == 3
    for cache in caches:
        await cache.close()


async def test_counters_go_away_by_themselves(limiter: RateLimiter, valkey_url: str) -> None:
    key = uuid4().hex
    await limiter.hit(LIMIT, key)
    with redis.Redis.from_url(valkey_url) as client:
        (name,) = client.keys(f"*{key}*")
        assert 0 < client.ttl(name) <= 60


async def test_without_valkey_each_process_counts_by_itself(clock: Clock) -> None:
    for cache in (Cache(None), Cache("redis://127.0.0.1:1/0")):
        limiter, key = RateLimiter(cache), uuid4().hex
        decisions = [await limiter.hit(LIMIT, key) for _ in range(4)]
        assert [it.allowed for it in decisions] == [True, True, True, False]
        assert all(it.degraded for it in decisions)
        assert (await limiter.test(LIMIT, key)).degraded
        await limiter.clear(LIMIT, key)
        assert (await limiter.test(LIMIT, key)).remaining == 3
        assert not await cache.ping()
        await cache.close()


async def test_dead_valkey_is_asked_once_a_second_and_not_by_all(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A port that takes connections and never answers: the first waits for it, those behind do not."""
    monkeypatch.setattr(cache_module, "QUIET_S", 3600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = Cache(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        limiter = RateLimiter(cache)
        assert (await limiter.hit(LIMIT, "a")).degraded
        assert not cache.is_usable
        monkeypatch.setattr(cache, "client", None)  # whoever asked it now would get another answer
        assert (await limiter.hit(LIMIT, "a")).degraded
        await cache.close()


async def test_limits_hold_while_valkey_dies_and_comes_back(
    own_valkey: Settings, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(cache_module, "QUIET_S", 0.0)
    cache = Cache(ensure_valkey(own_valkey))
    limiter, key = RateLimiter(cache), uuid4().hex
    assert [(await limiter.hit(LIMIT, key)).degraded for _ in range(2)] == [False, False]
    stop_all(own_valkey)
    third, fourth = await limiter.hit(LIMIT, key), await limiter.hit(LIMIT, key)
    assert [(it.allowed, it.degraded) for it in (third, fourth)] == [(True, True), (False, True)]
    assert ensure_valkey(own_valkey)
    again = await limiter.hit(LIMIT, key)
    assert (again.allowed, again.degraded) == (True, False)  # Valkey kept the two that it saw
    assert not (await limiter.hit(LIMIT, key)).allowed
    await cache.close()


async def test_sign_in_works_and_is_throttled_without_valkey(
    settings: Settings, database_url: str, clock: Clock
) -> None:
    async with open_desk(settings, database_url, None, logins_per_account="3/15minutes") as desk:
        user = await desk.add()
        assert (await desk.login(user)).access_token
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await desk.login(user, password="wrong-wrong-wrong")
        with pytest.raises(TooMany):
            await desk.login(user, password=PASSWORD)


async def test_memory_of_a_process_is_bounded_and_who_finds_it_full_shares(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(rate_limits, "LOCAL_KEYS", 10)
    limiter = RateLimiter(Cache(None))
    first = [await limiter.hit(LIMIT, "first") for _ in range(3)]
    others = [await limiter.hit(LIMIT, f"k{n}") for n in range(30)]
    assert sum(it.allowed for it in others) == 9 + 3
    assert len(limiter._local._counts) == 11
    assert first[-1].allowed
    assert not (await limiter.hit(LIMIT, "first")).allowed
    clock.forward(minutes=1)
    assert (await limiter.hit(LIMIT, "k29")).remaining == 2


async def test_throttle_keys_do_not_tell_who_signed_in(settings: Settings, database_url: str, valkey_url: str) -> None:
    async with open_desk(settings, database_url, valkey_url) as desk:
        user = await desk.add()
        with pytest.raises(Unauthenticated):
            await desk.login(user, password="wrong-wrong-wrong")
        with redis.Redis.from_url(valkey_url) as client:
            names = b" ".join(client.keys("*login-*")).decode()
        assert "login-account" in names
        assert user.email not in names
        assert str(desk.origin.address) not in names
