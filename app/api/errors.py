"""The one place where errors become answers: AppError classes, refused values, refusals of HTTP, and what nobody expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from app.api.problems import FieldError, Problem, Refusal, code_of, field_name, respond, title_of
from app.core.errors import (
    AppError,
    Broken,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from app.core.logs import get_logger

STATUS: Mapping[type[AppError], int] = MappingProxyType(
    {
        InvalidInput: 422,
        NotFound: 404,
        Conflict: 409,
        Forbidden: 403,
        Unauthenticated: 401,
        TooMany: 429,
        Unavailable: 503,
        Broken: 500,
    }
)
RETRY_S = 5
"""When to come again after a 503: a restart of a server takes seconds."""
REALM = 'Bearer realm="sms-platform"'
INVALID = "Some values cannot be used; `errors` names them."
FAULT = "Something failed on our side. It was logged under this request_id."
AWAY = "Something that the service needs is not usable now: try again in a few seconds."

NUMBER, CREDENTIALS = re.compile(r"\d{6,}"), re.compile(r"//[^/@\s]+@")
"""What a sentence of somebody else's may have in it and a log must not."""

log = get_logger("api")


def install(app: FastAPI) -> None:
    """Give the application its handlers; they are coroutines, as others would each be run in a thread."""
    app.exception_handlers |= {
        AppError: _on_app_error,
        RequestValidationError: _on_validation_error,
        HTTPException: _on_http_exception,
        ClientDisconnect: _on_disconnect,
    }


def problem_of(error: AppError) -> Problem:
    """What the caller is told of an error. Sentences about our own trouble name machines and stay in the log."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if status == 500:
        return Problem(500, error.code, FAULT)
    if isinstance(error, Unavailable):
        return Problem(503, error.code, AWAY, headers={"Retry-After": str(RETRY_S)})
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = challenge(error.code)
    elif isinstance(error, TooMany):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return Problem(status, error.code, str(error), headers=headers)


def challenge(code: str) -> str:
    """The WWW-Authenticate of a 401 (RFC 6750): without a token only how to come, else what was wrong with it."""
    return REALM if code == "token_missing" else f'{REALM}, error="invalid_token", error_description="{code}"'


def field_errors(errors: Iterable[Mapping[str, Any]]) -> tuple[FieldError, ...]:
    """Pydantic's errors without the values that they were about."""
    return tuple(FieldError(field_name(it.get("loc", ())), str(it["msg"]), str(it["type"])) for it in errors)


def refused_values(error: ValidationError, where: str) -> RequestValidationError:
    """The error of a model that an endpoint checked by itself, as if FastAPI had."""
    return RequestValidationError([{**it, "loc": (where, *it["loc"])} for it in error.errors()])


def fault(error: Exception, route: str) -> Problem:
    """Log what nobody expected (its kind and its path through the code, no values) and say that it happened."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/site-packages/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    kinds = [type(it).__name__ for it in _chain(error)]
    log.error("fault", route=route, kind=" from ".join(kinds), reason=_first_line(error), frames=frames[-25:])
    return Problem(500, code_of(500), FAULT)


def _chain(error: BaseException) -> Iterable[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _first_line(error: Exception) -> str:
    """What the error says of itself: the first line, as a driver's further lines quote values and statements."""
    return NUMBER.sub("***", CREDENTIALS.sub("//***@", str(error).partition("\n")[0]))[:300]


async def _on_app_error(request: Request, error: AppError) -> Response:
    problem = problem_of(error)
    if problem.status >= 500:
        log.error("app_error", code=error.code, reason=str(error))
    return respond(request.scope, problem)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return respond(request.scope, Problem(422, code_of(422), INVALID, field_errors(error.errors())))


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request)) or headers.get("Allow", "")
    if isinstance(error, Refusal):
        return respond(request.scope, Problem(error.status_code, error.code, error.detail, headers=headers))
    status = error.status_code
    return respond(request.scope, Problem(status, code_of(status), f"{title_of(status)}.", headers=headers))


async def _on_disconnect(request: Request, _: ClientDisconnect) -> Response:
    """Nobody reads it; but it is no fault of ours."""
    return respond(request.scope, Problem(400, "client_gone", "The client went away before its body was there."))


def _allowed(request: Request) -> list[str]:
    """The methods that this path takes, over all of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches({**request.scope, "method": ""})
        if match is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


__all__ = ["FieldError", "challenge", "fault", "field_errors", "install", "problem_of", "refused_values"]
