"""The OpenAPI document: FastAPI's, with who may call what, how to sign in, and problems as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.core.deps import permission_of
from app.models.permission import Permission
from app.schemas.auth import LoginIn
from app.schemas.base import ProblemDocument

DESCRIPTION = """\
Contacts, accounts and operations of the SMS platform.

- **Sign in** at `POST /api/v1/auth/login`, or send an API key; both go into `Authorization: Bearer …`.
- **Each operation names its permission** in `x-permission`; without one it is public.
- **Errors** are problem documents (RFC 9457) with a stable `code`.
- **Lists** are pages: take `next` as `cursor` until it is null.
- **Limits** are told in `RateLimit-Limit`, `-Remaining` and `-Reset`; beyond them the answer is 429 with `Retry-After`.
"""
TAGS = (
    ("auth", "Sign in and out, one's own account, second factor, keys that sign tokens."),
    ("users", "Accounts of people and machines."),
    ("api-keys", "Keys for machines."),
    ("contacts", "Phone numbers and whom they reach."),
    ("migrations", "Runs of the migration and their reports."),
    ("audit", "Who did what."),
    ("operations", "Health and metrics."),
)
SCHEMES = {
    "password": {
        "type": "oauth2",
        "description": "Access tokens of a person. With a second factor, sign in at /api/v1/auth/login with `otp`.",
        "flows": {"password": {"tokenUrl": "/api/v1/auth/login", "refreshUrl": "/api/v1/auth/refresh", "scopes": {}}},
    },
    "api_key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "sms_…",
        "description": "API key of a machine.",
    },
}


def install(app: FastAPI, servers: Sequence[str]) -> None:
    """Let the application answer with the document below, made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, servers)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, servers: Sequence[str]) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS],
        servers=[{"url": url} for url in servers],
    )
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _mark(made["paths"][route.path_format][method.lower()], route)
    components = made.setdefault("components", {})
    components["securitySchemes"] = SCHEMES
    for model in (ProblemDocument, LoginIn):
        components.setdefault("schemas", {}).update(_schemas(model))
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return made


def _mark(operation: dict[str, Any], route: APIRoute) -> None:
    permission = permission_of(route)
    if permission is None:
        operation.setdefault("security", [])
    elif permission is Permission.SELF:  # no key has it
        operation["x-permission"] = str(permission)
        operation["security"] = [{"password": []}]
    else:
        operation["x-permission"] = str(permission)
        operation["security"] = [{"password": []}, {"api_key": []}]
    answers = operation["responses"]
    if "429" in answers:
        answers["429"]["headers"] = {
            "Retry-After": {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer"}}
        }


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model that FastAPI does not know of, and those that it refers to."""
    made = model.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = made.pop("$defs", {})
    return {**inner, model.__name__: made}
