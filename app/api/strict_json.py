"""Bodies that mean one thing only: UTF-8, no key twice, no NaN, no text that the database cannot keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from app.api.problems import Refusal

JSON_TYPES = ("application/json",)


def parse(raw: bytes) -> Any:
    """The value of a JSON text.

    Raises: Refusal 400 (not JSON, not UTF-8, a key twice, NaN, too deep), 422 (text with NUL or half a surrogate pair).
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(400, "json_encoding", "The body is not UTF-8.") from error
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise Refusal(400, "json_depth", "The body is nested too deeply.") from error
    except ValueError as error:
        raise Refusal(400, "json_invalid", "The body is not valid JSON.") from error
    # Found by one look at the source: an escape is the only way in for either.
    if "\\u" in text:
        _refuse_unstorable(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Refusal(400, "json_duplicate_key", "An object of the body has a key twice.")
    return made


def _no_constant(name: str) -> Any:
    raise Refusal(400, "json_constant", f"{name} is not JSON.")


def _refuse_unstorable(value: Any) -> None:
    """Walks with a stack of its own: how deep a body is nested must not matter."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            if "\0" in item or (not item.isascii() and _has_surrogate(item)):
                raise Refusal(422, "text_not_storable", "A text has a NUL character or half of a surrogate pair.")
        elif isinstance(item, dict):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            left += item


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def media_type(request: Request) -> str:
    """The kind of body that was sent, in small letters and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class StrictRequest(Request):
    """A request whose JSON is parsed strictly."""

    async def json(self) -> Any:
        """The body's value. Raises: Refusal."""
        return parse(await self.body())


class StrictRoute(APIRoute):
    """A route whose body, if it takes one, is strict JSON and nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a strict request."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None

        async def strictly(request: Request) -> Response:
            if takes_body and media_type(request) not in JSON_TYPES and await request.body():
                raise Refusal(415, "media_type", "The body must be application/json.")
            return await handle(_strict(request) if takes_body else request)

        return strictly


def _strict(request: Request) -> StrictRequest:
    """The same request, with what was read of it already."""
    made = StrictRequest(request.scope, request.receive)
    if hasattr(request, "_body"):
        made._body = request._body
    return made
