"""What a request may bring: a body of bounded size that arrives in bounded time, and no NUL characters."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, Refusal, respond

CLOSE = {"Connection": "close"}
"""What is left of the body is not read: the connection cannot be used again."""


class BodyGuard:
    """Refuses bodies over `most` bytes, declared or streamed (413), or not there whole after `patience_s` (408)."""

    def __init__(self, app: ASGIApp, most: int, patience_s: float) -> None:
        self._app = app
        self._most = most
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at what is declared, and watch what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif problem := self._refused(scope):
            await respond(scope, problem)(scope, receive, send)
        elif _has_body(scope):
            await self._app(scope, self._bounded(receive), send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> Problem | None:
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return Problem(422, "nul_character", "NUL characters cannot be stored: leave them out.", headers=CLOSE)
        declared = _header(scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared[:20]) > self._most:
            return Problem(413, "body_too_large", self._sentence(), headers=CLOSE)
        return None

    def _sentence(self) -> str:
        return f"A body may have at most {self._most} bytes."

    def _bounded(self, receive: Receive) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._patience_s
        size, whole = 0, False

        async def bounded() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise Refusal(408, "body_timeout", "The body did not arrive in time.", CLOSE) from error
            size += len(message.get("body", b""))
            if size > self._most:
                raise Refusal(413, "body_too_large", self._sentence(), CLOSE)
            whole = not message.get("more_body", False)
            return message

        return bounded


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _has_body(scope: Scope) -> bool:
    length = _header(scope, b"content-length")
    return _header(scope, b"transfer-encoding") is not None or (length is not None and length != b"0")
