"""What is known of a request while it is answered: the middleware makes it, dependencies add to it, the answer shows it."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

SCOPE_KEY = "sms"
"""Where the facts are in the ASGI scope."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class LimitState:
    """What is left of a limit, as the headers of the answer tell it. Units: requests, seconds."""

    limit: int
    remaining: int
    reset_s: int


@dataclass(slots=True)
class RequestFacts:
    """One request. `status` is 0 until the answer has begun; `limit` and `caller` once they are known."""

    request_id: str
    status: int = 0
    bytes_out: int = 0
    caller: UUID | None = None
    limit: LimitState | None = None


def request_id(given: str | None) -> str:
    """The id of a request: the caller's if it is at most 64 harmless characters, else a new one."""
    return given if given is not None and REQUEST_ID.fullmatch(given) else uuid4().hex


def facts_of(scope: MutableMapping[str, Any]) -> RequestFacts:
    """The facts of the request of an ASGI scope; made here when no middleware did."""
    found = scope.get(SCOPE_KEY)
    if not isinstance(found, RequestFacts):
        found = scope[SCOPE_KEY] = RequestFacts(request_id(None))
    return found
