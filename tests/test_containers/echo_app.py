"""An application that answers what reached it: the plainest thing that can stand behind nginx."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
SECURITY_HEADERS = (
    (b"strict-transport-security", b"max-age=1"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
    (b"cache-control", b"no-store"),
)


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer 200 with the method, the path, the headers (each with all its values), the peer, and the body's length."""
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), bool(message.get("more_body"))
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode(), []).append(value.decode())
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "headers": headers,
        "peer": scope["client"],
        "length": length,
    }
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": 200, "headers": [kind, *SECURITY_HEADERS]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
