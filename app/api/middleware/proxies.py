"""Who is calling: X-Forwarded-For and -Proto are believed of the listed addresses and networks only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class TrustedProxies:
    """uvicorn's middleware, but for a forwarded address that is none: then the proxy's own stays."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        checked: Any = _Checked(app)
        self._believing: Any = ProxyHeadersMiddleware(checked, trusted_hosts=list(trusted)) if trusted else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the address it came from."""
        if self._believing is None or scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["sms.peer"] = scope.get("client")
        await self._believing(scope, receive, send)


class _Checked:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer, client = scope.pop("sms.peer", None), scope.get("client")
        if client is not None and client != peer and not _is_address(str(client[0])):
            scope["client"] = peer
        await self._app(scope, receive, send)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
