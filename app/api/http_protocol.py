"""uvicorn's fast HTTP/1.1 with bounds that it lacks: size and number of headers, and how long a head may take.

Given to uvicorn by name (`--http`). What it cannot read is answered as a problem document, as everything else.
"""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import MEDIA_TYPE, title_of

MOST_HEADERS = 100
MOST_HEAD_BYTES = 32_768
HEAD_PATIENCE_S = 10.0


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose head is too large, or is not there whole in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head from now on."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._is_refused = False
        self._patience: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; a head that has begun must end in time."""
        if self._is_refused:
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._patience is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._measure(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there whole."""
        self._stop_expecting()
        if not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; of a refused request it is nobody's."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there whole."""
        if not self._is_refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that the request cannot be read, and close."""
        self._refuse(400, "bad_request", msg)

    def _measure(self, size: int) -> None:
        self._head_bytes += size
        if not self._is_refused and (self._head_bytes > MOST_HEAD_BYTES or len(self.headers) >= MOST_HEADERS):
            self._refuse(431, "head_too_large", "The request has too many or too large headers.")

    def _expect_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_PATIENCE_S, self._give_up)

    def _stop_expecting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._is_refused = True
        problem = {"type": "about:blank", "title": title_of(status), "status": status, "detail": detail, "code": code}
        body = json.dumps(problem).encode()
        lines = [
            f"HTTP/1.1 {status} {title_of(status)}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
        ]
        if not self.transport.is_closing():
            self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
            self.transport.close()
