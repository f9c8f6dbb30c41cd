"""The outermost layer: request id, security headers, what is left of a limit, access log and metrics, in one pass."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.api.docs_page import DOCS_PATHS, OPENAPI_PATH
from app.api.middleware.security_headers import headers_for
from app.core.logs import get_logger
from app.core.metrics import IN_FLIGHT, REQUESTS, SECONDS
from app.core.request_facts import SCOPE_KEY, RequestFacts, request_id

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
PLAIN = DOCS_PATHS | {OPENAPI_PATH}
"""Answered by routes that leave no note of themselves."""
QUIET = ("/health", "/health/ready", "/metrics")
"""Asked every few seconds by machines: logged only at level DEBUG."""
NO_ANSWER = 499
"""Logged as the status of a request whose client went away before it was answered."""

log = get_logger("access")


def route_of(scope: Scope) -> str:
    """The template of the path that was taken, as /api/v1/contacts/{contact_id}: no value of the client's."""
    found = getattr(scope.get("route"), "path", None)
    return str(found) if found else scope["path"] if scope["path"] in PLAIN else UNMATCHED


class Edge:
    """Wraps everything that is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer through the application, and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts = scope[SCOPE_KEY] = RequestFacts(request_id(_given_id(scope)))
        tokens = bind_contextvars(request_id=facts.request_id)
        started = perf_counter()
        IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, _noting(scope, facts, send))
        finally:
            IN_FLIGHT.dec()
            _note(scope, facts, perf_counter() - started)
            reset_contextvars(**tokens)


def _given_id(scope: Scope) -> str | None:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    return given.decode("latin-1") if given is not None else None


def _noting(scope: Scope, facts: RequestFacts, send: Send) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            facts.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *_added(scope, facts, message)]
        elif message["type"] == "http.response.body":
            facts.bytes_out += len(message.get("body", b""))
        await send(message)

    return noting


def _added(scope: Scope, facts: RequestFacts, message: Message) -> list[tuple[bytes, bytes]]:
    added = [(b"x-request-id", facts.request_id.encode("ascii")), *headers_for(scope, message)]
    if facts.limit is not None:
        added += [
            (b"ratelimit-limit", b"%d" % facts.limit.limit),
            (b"ratelimit-remaining", b"%d" % facts.limit.remaining),
            (b"ratelimit-reset", b"%d" % facts.limit.reset_s),
        ]
    return added


def _note(scope: Scope, facts: RequestFacts, seconds: float) -> None:
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    route, status = route_of(scope), facts.status or NO_ANSWER
    REQUESTS.labels(method, route, str(status)).inc()
    SECONDS.labels(method, route).observe(seconds)
    client = scope.get("client")
    write = log.debug if route in QUIET else log.warning if status >= 500 else log.info
    write(
        "request", method=method, route=route, status=status, ms=round(seconds * 1000, 2), bytes=facts.bytes_out,
        client=client[0] if client else None, user=str(facts.caller) if facts.caller else None,
    )  # fmt: skip
