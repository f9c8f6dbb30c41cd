"""How a route is declared: its permission first, so that none is forgotten; everything else has one form for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from app.api.problems import MEDIA_TYPE, title_of
from app.api.strict_json import StrictRoute
from app.core.deps import limit_address, require
from app.models.permission import Permission

PUBLIC: Mapping[str, str] = {
    "GET /health": "asked by whoever keeps the process alive",
    "GET /health/ready": "asked by load balancers and by whoever deploys",
    "GET /docs": "a page for people; what it shows is /openapi.json",
    "GET /docs/swagger-ui-bundle.js": "a file of that page",
    "GET /docs/swagger-ui.css": "a file of that page",
    "GET /openapi.json": "what there is; nothing of it is secret",
    "GET /metrics": "looks at its token by itself: the monitor's own, or an API key with metrics:read",
    "POST /api/v1/auth/login": "signs in",
    "POST /auth/login": "the same, as the plan names it",
    "POST /api/v1/auth/refresh": "the refresh token is what proves who asks",
    "POST /api/v1/auth/invitations/accept": "the invitation's token is what proves who asks",
    "GET /api/v1/auth/keys": "public keys, for whoever checks our tokens",
    "GET /.well-known/jwks.json": "the same, where others look for it",
}
"""Every route that asks for no permission, and why. A test holds this list equal to the routes."""
UNLIMITED = ("/health", "/health/ready", "/metrics")
"""Asked by machines on a beat; an address that asked too much elsewhere must not look dead."""

BODY_PROBLEMS = (400, 408, 413, 415, 422)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Routes:
    """The routes under one prefix and tag."""

    def __init__(self, prefix: str, tag: str) -> None:
        self._router = APIRouter(prefix=prefix, tags=[tag], route_class=StrictRoute)

    @property
    def all(self) -> list[APIRoute]:
        """What was declared, in order."""
        return [route for route in self._router.routes if isinstance(route, APIRoute)]

    def add(
        self,
        method: str,
        path: str,
        permission: Permission | None,
        summary: str,
        answer: Any,
        *,
        status: int = 200,
        problems: Iterable[int] = (),
        responses: Mapping[int | str, dict[str, Any]] | None = None,
        **more: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare the decorated function as the endpoint; its name is the operation's id, stable for clients.

        `permission` None: it must be on the list PUBLIC. `problems`: statuses of its own, beyond those that all have.
        """

        def declare(endpoint: Endpoint) -> Endpoint:
            name = str(getattr(endpoint, "__name__", ""))
            self._router.add_api_route(
                path, endpoint, methods=[method], summary=summary, response_model=answer, status_code=status,
                operation_id=name, name=name, dependencies=self._gate(path, permission),
                responses=documented({*problems, *common_problems(method, permission)}) | dict(responses or {}), **more,
            )  # fmt: skip
            return endpoint

        return declare

    def _gate(self, path: str, permission: Permission | None) -> list[Any]:
        if permission is not None:
            return [Depends(require(permission))]
        return [] if self._router.prefix + path in UNLIMITED else [Depends(limit_address)]


def common_problems(method: str, permission: Permission | None) -> set[int]:
    """Statuses that every route of the kind may answer."""
    found = {422, 429, 503}
    if permission is not None:
        found |= {401, 403}
    return found if method == "GET" else found | set(BODY_PROBLEMS)


def documented(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Problem answers for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": title_of(status), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted(statuses)
    }


def key_of(route: BaseRoute) -> str:
    """METHOD /path of a route, as PUBLIC has it."""
    methods = set(getattr(route, "methods", None) or ()) - {"HEAD"}
    return f"{'|'.join(sorted(methods))} {getattr(route, 'path', '')}"
