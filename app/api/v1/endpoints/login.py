"""Reading a sign-in: JSON, or the form of OAuth2 that Swagger UI sends."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.errors import refused_values
from app.api.problems import Refusal
from app.api.strict_json import media_type, parse
from app.schemas.auth import LoginIn

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MOST_FIELDS = 20
OF_OAUTH2 = frozenset({"grant_type", "scope", "client_id", "client_secret"})
"""Fields of the form that mean nothing here."""

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/LoginIn"}},
            FORM: {
                "schema": {
                    "title": "LoginForm",
                    "type": "object",
                    "required": ["username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "const": "password"},
                        "username": {
                            "type": "string",
                            "description": "The email address.",
                            "examples": ["ana@example.com"],
                        },
                        "password": {"type": "string", "format": "password", "examples": ["a few words of your own"]},
                        "otp": {
                            "type": "string",
                            "description": "Code of the second factor, once it is on.",
                            "examples": ["492039"],
                        },
                        "scope": {"type": "string", "examples": [""]},
                        "client_id": {"type": "string", "examples": [""]},
                        "client_secret": {"type": "string", "examples": [""]},
                    },
                }
            },
        },
    }
}
"""The two bodies for the OpenAPI document."""


async def read_login(request: Request) -> LoginIn:
    """Who signs in.

    Raises: Refusal 400, 415 or 422 for what cannot be read; RequestValidationError for values that cannot be used.
    """
    kind, raw = media_type(request), await request.body()
    if kind == JSON:
        values = parse(raw)
    elif kind == FORM:
        values = _form(raw)
    else:
        raise Refusal(415, "media_type", f"The body must be {JSON} or {FORM}.")
    try:
        return LoginIn.model_validate(values)
    except ValidationError as error:
        raise refused_values(error, "body") from None


def _form(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), encoding="utf-8", errors="strict",
            max_num_fields=MOST_FIELDS,
        )  # fmt: skip
    except ValueError as error:  # not ASCII, not UTF-8 behind the escapes, no form, too many fields
        raise Refusal(400, "form_invalid", "The body is not a valid form.") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Refusal(400, "form_duplicate_field", "The form has a field twice.")
    if any("\0" in value for value in values.values()):
        raise Refusal(422, "text_not_storable", "A text has a NUL character.")
    if values.get("grant_type", "password") != "password":
        raise RequestValidationError(
            [{"loc": ("body", "grant_type"), "msg": "Input should be 'password'", "type": "literal_error"}]
        )
    kept = {name: value for name, value in values.items() if name not in OF_OAUTH2}
    if "username" in kept:
        kept["email"] = kept.pop("username")
    return {name: value for name, value in kept.items() if value or name != "otp"}
