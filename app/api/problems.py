"""Problem documents (RFC 9457): how every refusal and fault of the API looks on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import HTTPException
from starlette.responses import Response

from app.core.logs import mask_phone
from app.core.request_facts import facts_of

MEDIA_TYPE = "application/problem+json"
LONGEST_FIELD = 100

TITLES: Mapping[int, str] = MappingProxyType(
    {
        400: "The request cannot be read",
        401: "Sign in first",
        403: "Not allowed",
        404: "There is nothing here",
        405: "Not with this method",
        408: "The request took too long",
        409: "Not in the present state",
        413: "The body is too large",
        415: "Not this kind of body",
        422: "The request has values that cannot be used",
        429: "Too many requests",
        500: "The service failed",
        503: "The service cannot answer now",
    }
)
CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "bad_request",
        401: "token_missing",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        408: "body_timeout",
        413: "body_too_large",
        415: "media_type",
        422: "invalid_input",
        429: "too_many_requests",
        500: "internal_error",
        503: "unavailable",
    }
)
"""Codes of refusals that no AppError stands behind."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One value that cannot be used: where it stood and why. Never the value."""

    field: str
    message: str
    type: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, before it is an answer to a request."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(HTTPException):
    """A refusal of the HTTP layer itself, with a code of its own: unreadable, too large, too slow, the wrong kind."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code = code


def title_of(status: int) -> str:
    """The short summary that all problems of a status share."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def code_of(status: int) -> str:
    """The code of a problem that has none of its own."""
    return CODES.get(status) or HTTPStatus(status).name.lower()


def respond(scope: MutableMapping[str, Any], problem: Problem) -> Response:
    """The answer to the request of `scope`. Anything like a phone number in it is masked."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title_of(problem.status),
        "status": problem.status,
        "detail": mask_phone(problem.detail),
        "code": problem.code,
        "instance": mask_phone(_printable(scope.get("path", "/"))),
        "request_id": facts_of(scope).request_id,
    }
    if problem.errors:
        document["errors"] = [
            {"field": it.field, "message": mask_phone(it.message), "type": it.type} for it in problem.errors
        ]
    body = json.dumps(document, ensure_ascii=True)
    return Response(body, problem.status, dict(problem.headers), media_type=MEDIA_TYPE)


def field_name(location: Sequence[int | str]) -> str:
    """Where a value stood, as `body.items.0.name`; keys of the client's own are masked and cut."""
    return mask_phone(_printable(".".join(str(part) for part in location))[:LONGEST_FIELD])


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
