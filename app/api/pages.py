"""What all listings share: parameters, and how a page is cut off and given its cursor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BeforeValidator

from app.core.cursors import LONGEST, Cursors
from app.core.errors import InvalidInput
from app.schemas.base import MOST_ITEMS

T = TypeVar("T")
ISO = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")
FIRST_YEAR, LAST_YEAR = 1900, 9000
"""No instant of ours is beyond; at the ends of the calendar itself some have no UTC."""


def _iso(value: object) -> object:
    if isinstance(value, str) and not ISO.match(value):
        raise ValueError("must be a date and a time as in RFC 3339, as 2026-01-15T18:30:00Z")
    return value


Instant = Annotated[datetime, BeforeValidator(_iso)]
"""What pydantic takes besides (seconds since 1970, bare dates) means different things to different people."""
LimitQuery = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Items on the page.", examples=[50])]
CursorQuery = Annotated[
    str | None, Query(max_length=LONGEST, description="`next` of the page before; without it the first page.")
]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A page as schemas.base.Page reads it."""

    items: Sequence[T]
    next: str | None


def cut(cursors: Cursors, name: str, found: Sequence[T], limit: int, position: Callable[[T], object]) -> Listing[T]:
    """A page of `limit` out of one item more than that: if it is there, there is a next page."""
    if len(found) <= limit:
        return Listing(found, None)
    return Listing(found[:limit], cursors.make(name, position(found[limit - 1])))


def as_utc(instant: datetime | None) -> datetime | None:
    """The instant in UTC; one without an offset is meant so.

    Raises: InvalidInput before 1900 and after 9000.
    """
    if instant is None:
        return None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise InvalidInput("The instant is beyond the calendar.", code="instant_range")
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
