"""What every request passes on its way in and out, outermost first. Pure ASGI: nothing here buffers an answer."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.api.middleware.edge import Edge
from app.api.middleware.guard import BodyGuard
from app.api.middleware.last_resort import LastResort
from app.api.middleware.proxies import TrustedProxies
from app.core.config import Settings

EXPOSED = ("X-Request-ID", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After")
METHODS = ("GET", "POST", "PATCH", "DELETE")
PREFLIGHT_S = 600


def install(app: FastAPI, settings: Settings) -> None:
    """Put the middleware around `app`; the last one added is the outermost."""
    app.add_middleware(LastResort)
    app.add_middleware(BodyGuard, most=settings.api.max_body_bytes, patience_s=settings.api.body_timeout_s)
    if settings.api.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.api.cors_origins,
            allow_methods=METHODS,
            allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
            expose_headers=EXPOSED,
            allow_credentials=False,
            max_age=PREFLIGHT_S,
        )
    app.add_middleware(Edge)
    app.add_middleware(TrustedProxies, trusted=settings.api.trusted_proxies)
