"""Alive, ready, metrics."""

from __future__ import annotations

import hmac

from fastapi import Request, Response

from app import __version__
from app.api.routes import Routes
from app.core.config import Settings
from app.core.deps import bearer, require
from app.core.metrics import CONTENT_TYPE, exposition
from app.models.permission import Permission
from app.schemas.operations import AliveOut, ReadinessOut
from app.services import health_service
from app.services.health_service import Health, Readiness

routes = Routes("", "operations")


@routes.add("GET", "/health", None, "Is it alive?", AliveOut)
async def health_get() -> AliveOut:
    """The process answers. It says nothing of what it stands on: restarting it would not mend that."""
    return AliveOut(status="ok", version=__version__)


@routes.add(
    "GET", "/health/ready", None, "Can it work?", ReadinessOut,
    responses={503: {"model": ReadinessOut, "description": "It cannot work; `checks` says why."}},
)  # fmt: skip
async def health_ready(request: Request, response: Response) -> Readiness:
    """Database, schema, cache and broker. 503 only when there is no work without what is missing."""
    state = request.app.state
    found = await health_service.readiness(state.db, state.cache, state.revisions)
    if found.status is Health.UNAVAILABLE:
        response.status_code = 503
    return found


@routes.add(
    "GET", "/metrics", None, "Metrics", None, response_class=Response, problems=[401, 403],
    openapi_extra={"security": [{"api_key": []}], "x-permission": str(Permission.METRICS_READ)},
    responses={200: {"description": "Text format of Prometheus.", "content": {"text/plain": {
        "schema": {"type": "string", "title": "Metrics"}, "example": "sms_db_pool_size 10.0"}}}},
)  # fmt: skip
async def metrics_get(request: Request) -> Response:
    """For Prometheus. With the token of SMS_API__METRICS_TOKEN, or an API key that has `metrics:read`."""
    settings: Settings = request.app.state.settings
    token = settings.api.metrics_token
    expected = token.get_secret_value().encode() if token else b""
    if not expected or not hmac.compare_digest(bearer(request).encode(), expected):
        await require(Permission.METRICS_READ)(request)
    return Response(exposition(), media_type=CONTENT_TYPE)
