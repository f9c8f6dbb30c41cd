"""receipts_inbox: what carriers send us, kept as it came before anything is made of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Identity, Index, SmallInteger, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, Json, State, enum_check, moves


class InboxKind(StrEnum):
    """What a webhook brought, by the address it was sent to."""

    RECEIPT = "receipt"
    INBOUND = "inbound"


@moves(
    {
        "pending": ("applied", "duplicate", "held", "late", "unmatched", "unreadable"),
        "held": ("applied", "duplicate", "late", "unmatched"),  # came before its outcome was committed
        "applied": (),
        "duplicate": (),
        "late": (),
        "unmatched": (),
        "unreadable": (),
    }
)
class InboxState(State):
    """What became of it."""

    PENDING = "pending"
    HELD = "held"
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"
    UNMATCHED = "unmatched"
    UNREADABLE = "unreadable"


class ReceiptInbox(Base):
    """One webhook: written by one INSERT before it is answered, drained in sets afterwards."""

    __tablename__ = "receipts_inbox"
    __table_args__ = (
        enum_check("kind", InboxKind),
        enum_check("state", InboxState),
        Index("ix_receipts_inbox_open", "not_before", "id", postgresql_where=text("state IN ('pending', 'held')")),
        {
            "comment": "Webhooks of carriers as they came: delivery receipts and inbound messages.",
            "postgresql_with": {"fillfactor": "80", "autovacuum_vacuum_scale_factor": "0.02"},
        },
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Order of arrival.")
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), comment="When it came.")
    not_before: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When to look at it next: later for one that is held."
    )
    processed_at: Mapped[datetime | None] = mapped_column(comment="When it reached its final state.")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"), comment="How often it was looked at.")
    kind: Mapped[InboxKind] = mapped_column(EnumText(InboxKind, 16), comment="receipt or inbound.")
    state: Mapped[InboxState] = mapped_column(
        EnumText(InboxState, 16), server_default=text("'pending'"), comment="What became of it; see InboxState."
    )
    provider: Mapped[str] = mapped_column(String(32), comment="Carrier that sent it, by its verified signature.")
    provider_message_id: Mapped[str | None] = mapped_column(
        String(100), comment="Carrier's id of the message, where it could be read at once."
    )
    content_type: Mapped[str | None] = mapped_column(String(100), comment="Content-Type of the request.")
    headers: Mapped[Json | None] = mapped_column(comment="Headers that the signature covers.")
    body: Mapped[bytes] = mapped_column(comment="The request's body, byte for byte.")
