"""A small HTTP/1.1 client for measurements: kept-alive connections, whole answers, nothing parsed that is not needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.core.errors import Broken

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """One request: what it is called in the table, its path, and whether it is sent with a token."""

    name: str
    path: str
    is_signed: bool = True


@dataclass(slots=True)
class Latencies:
    """Seconds from the moment a request was due to the last byte of its answer, by name."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Note one."""
        self.of.setdefault(name, []).append(seconds)


class Connection:
    """One kept-alive connection; one request at a time."""

    def __init__(self, base_url: str, token: str | None) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._token = token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, target: Target) -> None:
        """Fetch it. Raises: Broken when the answer is not 200."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head = f"GET {target.path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        if target.is_signed and self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        self._writer.write((head + "\r\n").encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status, length = int(answer[9:12]), 0
        for line in answer.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = await self._reader.readexactly(length)
        if status != 200:
            raise Broken(f"GET {target.path} answered {status}: {body[:200]!r}", code="bench_answer")

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()


async def closed_loop(base_url: str, token: str | None, target: Target, *, seconds: float, connections: int) -> float:
    """Requests a second when each of `connections` sends the next as soon as it has the answer."""
    done = 0
    began = time.perf_counter()
    until = began + seconds

    async def one() -> None:
        nonlocal done
        connection = Connection(base_url, token)
        while time.perf_counter() < until:
            await connection.get(target)
            done += 1
        await connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return done / (time.perf_counter() - began)


async def open_loop(
    base_url: str, token: str | None, targets: Iterator[Target], *, rate: float, seconds: float
) -> Latencies:
    """Send at `rate` a second whatever the answers take; a late answer delays no other, and its wait is counted."""
    found = Latencies()
    due: asyncio.Queue[tuple[float, Target] | None] = asyncio.Queue()

    async def one() -> None:
        connection = Connection(base_url, token)
        while (item := await due.get()) is not None:
            await connection.get(item[1])
            found.add(item[1].name, time.perf_counter() - item[0])
        await connection.close()

    workers = [asyncio.create_task(one()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        at = began + number / rate
        await asyncio.sleep(max(at - time.perf_counter(), 0))
        due.put_nowait((at, next(targets)))
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)
    return found
