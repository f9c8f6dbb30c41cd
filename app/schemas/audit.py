"""The audit log as the API shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from app.models.audit import AuditResult
from app.models.permission import CallerKind
from app.schemas.base import Outgoing


class AuditEventOut(Outgoing):
    """Who did what to which object, from where, with which result."""

    id: int = Field(examples=[4711])
    occurred_at: datetime = Field(examples=["2026-01-15T18:30:00Z"])
    actor_kind: CallerKind = Field(examples=["user"])
    actor: str = Field(description="Its email then; `system` for the platform.", examples=["ana@example.com"])
    actor_id: UUID | None = Field(examples=["01890a5d-ac96-774b-bcce-b302099a8057"])
    api_key_id: UUID | None = Field(examples=[None])
    action: str = Field(description="noun.verb", examples=["user.disable"])
    object_type: str | None = Field(examples=["user"])
    object_id: str | None = Field(examples=["01890a5d-ac96-774b-bcce-b302099a8058"])
    result: AuditResult = Field(examples=["ok"])
    address: str | None = Field(examples=["203.0.113.7"])
    user_agent: str | None = Field(examples=["Mozilla/5.0"])
    request_id: str | None = Field(examples=["0b6e2a4cf2f94e4d8e4f9d5b0f3c2a11"])
    detail: dict[str, Any] = Field(examples=[{"role": "analyst"}])
    hash: str = Field(description="SHA-256 of the event and of the chain before it.", examples=["9f86d081884c7d65…"])
