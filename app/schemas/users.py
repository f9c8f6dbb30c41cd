"""Accounts and API keys as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints, WithJsonSchema

from app.models.permission import Permission
from app.models.user import Role
from app.schemas.auth import Password
from app.schemas.base import LARGEST_INT, EmailText, Incoming, Line, Outgoing

MOST_DAYS = 365
SCOPES = tuple(permission for permission in Permission if permission is not Permission.SELF)
"""What a key may be given: its own account is a person's business."""
Scope = Annotated[Permission, WithJsonSchema({"type": "string", "enum": [str(scope) for scope in SCOPES]})]
KeyName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class UserOut(Outgoing):
    """An account."""

    id: UUID = Field(validation_alias="public_id", examples=["01890a5d-ac96-774b-bcce-b302099a8057"])
    email: str = Field(examples=["ana@example.com"])
    full_name: str | None = Field(examples=["Ana Ruiz"])
    role: Role = Field(examples=["manager"])
    disabled_at: datetime | None = Field(description="Since when it may not sign in.", examples=[None])
    created_at: datetime = Field(examples=["2026-01-15T18:30:00Z"])
    last_login_at: datetime | None = Field(examples=["2026-01-15T19:30:00Z"])
    has_password: bool = Field(description="False until an invitation was accepted.", examples=[True])
    has_second_factor: bool = Field(examples=[True])
    version: int = Field(description="Send it back with a change.", examples=[3])


class UserCreateIn(Incoming):
    """A new account. Without a password it cannot sign in until an invitation is accepted."""

    email: EmailText = Field(examples=["ana@example.com"])
    role: Role = Field(examples=["manager"])
    full_name: Line | None = Field(None, examples=["Ana Ruiz"])
    password: Password | None = Field(None, examples=["sunlit-otter-carries-9-lanterns"])


class InvitationIn(Incoming):
    """Whom to invite, as what."""

    email: EmailText = Field(examples=["ana@example.com"])
    role: Role = Field(examples=["manager"])
    full_name: Line | None = Field(None, examples=["Ana Ruiz"])


class InvitationOut(Outgoing):
    """The account, and the token to hand over; shown once."""

    user: UserOut
    token: str = Field(examples=["m1kq8Qd8vE2n6cJ2pB0Yc2sTg6s1rXo9a7u3w5y8z0A"])
    url: str = Field(
        description="Where it is accepted.", examples=["https://sms.example.com/invitation#m1kq8Qd8vE2n6cJ2pB0Yc2sTg6"]
    )
    expires_at: datetime = Field(examples=["2026-01-18T18:30:00Z"])


class UserRoleIn(Incoming):
    """Another role; `version` as it was read, so that two edits at once do not undo each other."""

    role: Role = Field(examples=["analyst"])
    version: int = Field(ge=1, le=LARGEST_INT, examples=[3])


class UserVersionIn(Incoming):
    """`version` as it was read, so that two edits at once do not undo each other."""

    version: int = Field(ge=1, le=LARGEST_INT, examples=[3])


class ApiKeyOut(Outgoing):
    """An API key; the key itself is shown once, when it is made."""

    id: UUID = Field(validation_alias="public_id", examples=["01890a5d-ac96-774b-bcce-b302099a8057"])
    owner_id: UUID = Field(examples=["01890a5d-ac96-774b-bcce-b302099a8058"])
    owner_email: str = Field(examples=["ana@example.com"])
    name: str = Field(examples=["nightly export"])
    prefix: str = Field(description="Beginning of the key, to tell it from others.", examples=["sms_4f9a1cQ0k3wZ"])
    scopes: list[Permission] = Field(examples=[["contacts:read"]])
    created_at: datetime = Field(examples=["2026-01-15T18:30:00Z"])
    expires_at: datetime = Field(examples=["2026-04-15T18:30:00Z"])
    revoked_at: datetime | None = Field(examples=[None])
    last_used_at: datetime | None = Field(description="Exact to a minute.", examples=[None])
    last_used_from: str | None = Field(description="Address of that use.", examples=[None])


class ApiKeyCreateIn(Incoming):
    """A new key. It may at most what its owner may."""

    name: KeyName = Field(examples=["nightly export"])
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES), examples=[["contacts:read"]])
    days: int = Field(ge=1, le=MOST_DAYS, description="Days until it ends.", examples=[90])
    owner_id: UUID | None = Field(
        None, description="Account in whose name it acts; another's needs `api_keys:manage`.", examples=[None]
    )


class ApiKeyCreatedOut(Outgoing):
    """A new key, and the only sight of it."""

    key: str = Field(description="Keep it: it is not shown again.", examples=["sms_4f9a1cQ0k3wZ…"])
    api_key: ApiKeyOut
