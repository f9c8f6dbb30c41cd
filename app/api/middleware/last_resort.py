"""An error that nobody expected becomes a 500 of the usual form; the server's own plain text is never seen."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import fault
from app.api.middleware.edge import route_of
from app.api.problems import respond
from app.core.metrics import FAULTS
from app.core.request_facts import facts_of


class LastResort:
    """Stands next to the application. An answer that had begun cannot be taken back: then the error goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; answer in its place when it fails."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            problem = fault(error, route_of(scope))
            FAULTS.labels(route_of(scope)).inc()
            if facts_of(scope).status:
                raise
            await respond(scope, problem)(scope, receive, send)
