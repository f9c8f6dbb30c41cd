"""What all shapes of the API share: what comes in is checked whole, what goes out is read from dataclasses."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LARGEST_ID = 2**63 - 1
LARGEST_INT = 2**31 - 1
MOST_ITEMS, USUAL_ITEMS = 200, 50

T = TypeVar("T")

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
"""A name of something: one to 200 characters, spaces around it taken off."""
EmailText = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=6, max_length=254,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}$",
    ),
]  # fmt: skip
"""An address as accounts are made with: of a domain, in ASCII."""


class Incoming(BaseModel):
    """A body. Fields that are not named are refused: nobody sets what he was not asked for."""

    model_config = ConfigDict(extra="forbid")


class Outgoing(BaseModel):
    """An answer, read from the attributes of what a service returned."""

    model_config = ConfigDict(from_attributes=True)


class Page(Outgoing, Generic[T]):
    """A page of a listing. `next` is null on the last page; a page may hold fewer items than asked for, even none."""

    items: list[T]
    next: str | None = Field(None, description="Give it as `cursor` to get the next page.", examples=[None])


class FieldProblem(Outgoing):
    """A value that cannot be used."""

    field: str = Field(description="Where it stood.", examples=["body.email"])
    message: str = Field(description="Why it cannot be used.", examples=["Field required"])
    type: str = Field(description="Kind of the error, stable.", examples=["missing"])


class ProblemDocument(Outgoing):
    """A refusal or fault (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(description="Summary that all problems of a status share.", examples=["Not allowed"])
    status: int = Field(description="The HTTP status again.", ge=400, le=599, examples=[403])
    detail: str = Field(description="What to do about it.", examples=["This needs the permission users:manage."])
    code: str = Field(description="Stable name of the reason, for programs.", examples=["forbidden"])
    instance: str = Field(description="Path of the request.", examples=["/api/v1/users"])
    request_id: str = Field(description="Id under which it was logged.", examples=["0b6e2a4cf2f94e4d8e4f9d5b0f3c2a11"])
    errors: list[FieldProblem] | None = Field(None, description="Values that cannot be used, one by one.")
