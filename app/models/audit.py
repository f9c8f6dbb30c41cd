"""audit_events: who did what to which object, from where, with which result. Rows are only ever added, in one chain."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, Json, enum_check
from app.models.permission import CallerKind


class AuditResult(StrEnum):
    """How it ended."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


class AuditEvent(Base):
    """One act. `hash` covers every other column and the hash before it; id has no gaps.

    A trigger gives id, prev_hash and hash, holding the chain's head until the transaction ends: acts are written late
    in theirs. UPDATE, DELETE and TRUNCATE are refused by a trigger, and the application's role has no right to them.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        enum_check("actor_kind", CallerKind),
        enum_check("result", AuditResult),
        CheckConstraint("octet_length(hash) = 32 AND octet_length(prev_hash) = 32", name="hashes"),
        Index("ix_audit_events_occurred_at", "occurred_at"),
        Index("ix_audit_events_actor_id", "actor_id", "id"),
        Index("ix_audit_events_object", "object_type", "object_id", "id"),
        {"comment": "Append-only, hash-chained log of what was done by whom."},
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="1, 2, 3 … without a gap.")
    occurred_at: Mapped[datetime] = mapped_column(comment="When, by the server's clock.")
    actor_kind: Mapped[CallerKind] = mapped_column(EnumText(CallerKind), comment="user, api_key or system.")
    actor_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="Account that acted; null: system, unknown."
    )
    actor: Mapped[str] = mapped_column(comment="Its email then, or the one that was tried; `system` for the platform.")
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"), comment="Key that acted.")
    action: Mapped[str] = mapped_column(comment="noun.verb, as `user.disable`.")
    object_type: Mapped[str | None] = mapped_column(comment="Kind of the object.")
    object_id: Mapped[str | None] = mapped_column(comment="Its id as the outside knows it.")
    result: Mapped[AuditResult] = mapped_column(EnumText(AuditResult), comment="ok, refused or failed.")
    address: Mapped[str | None] = mapped_column(INET, comment="Client address.")
    user_agent: Mapped[str | None] = mapped_column(comment="Client program, at most 300 characters.")
    request_id: Mapped[str | None] = mapped_column(comment="Request that did it.")
    detail: Mapped[Json] = mapped_column(
        server_default=text("'{}'"), comment="What changed, counts, filters; never a secret."
    )
    prev_hash: Mapped[bytes] = mapped_column(comment="Hash of the row before; 32 zero bytes for the first.")
    hash: Mapped[bytes] = mapped_column(comment="SHA-256 of prev_hash and all columns above, length-prefixed.")


class AuditHead(Base):
    """The end of the chain, so that rows cut off its end are missed. One row, moved only by the trigger."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("one = 1", name="one"), {"comment": "End of the audit chain; one row."})

    one: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, comment="Always 1.")
    last_id: Mapped[int] = mapped_column(comment="Id of the newest audit event; 0: none.")
    last_hash: Mapped[bytes] = mapped_column(comment="Its hash.")
