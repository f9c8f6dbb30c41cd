"""suppressions: numbers that are not to be texted, known by a keyed hash that outlives the contact."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, enum_check


class SuppressionPurpose(StrEnum):
    """What is suppressed."""

    ALL = "all"
    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"


class SuppressionReason(StrEnum):
    """Why."""

    OPT_OUT = "opt_out"
    DO_NOT_CALL = "do_not_call"
    COMPLAINT = "complaint"
    WRONG_NUMBER = "wrong_number"
    MANUAL = "manual"
    ERASURE = "erasure"


class Suppression(Base):
    """A number that must not be texted, for one purpose or all.

    The number itself is not here, only HMAC-SHA-256 of its E.164 form under a key of the platform: after erasure
    the row still keeps a re-imported person out, and tells nobody who it was.
    """

    __tablename__ = "suppressions"
    __table_args__ = (
        enum_check("purpose", SuppressionPurpose),
        enum_check("reason", SuppressionReason),
        CheckConstraint("octet_length(phone_hash) = 32", name="phone_hash_length"),
        Index(
            "uq_suppressions_in_force",
            "phone_hash",
            "purpose",
            "reason",
            unique=True,
            postgresql_where=text("lifted_at IS NULL"),
        ),
        Index("ix_suppressions_contact_id", "contact_id", postgresql_where=text("contact_id IS NOT NULL")),
        {"comment": "Numbers that must not be texted, by keyed hash; rows are lifted, never deleted."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the suppression.")
    phone_hash: Mapped[bytes] = mapped_column(comment="HMAC-SHA-256 of the E.164 number; survives erasure.")
    key_id: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("1"), comment="Which key made the hash, so that keys can be changed."
    )
    contact_id: Mapped[int | None] = mapped_column(
        ForeignKey("contacts.id", ondelete="SET NULL"), comment="Contact with the number, while there is one."
    )
    purpose: Mapped[SuppressionPurpose] = mapped_column(
        EnumText(SuppressionPurpose), comment="all, marketing or transactional."
    )
    reason: Mapped[SuppressionReason] = mapped_column(
        EnumText(SuppressionReason),
        comment="opt_out, do_not_call, complaint, wrong_number, manual or erasure.",
    )
    source: Mapped[str] = mapped_column(comment="Where it came from: inbound message, REPEP file, person.")
    evidence: Mapped[str | None] = mapped_column(comment="Reference to the proof, without personal data.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="Since when it holds.")
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that made it, if one did.")
    lifted_at: Mapped[datetime | None] = mapped_column(comment="Since when it no longer holds.")
    lifted_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that lifted it, if one did.")
    lifted_reason: Mapped[str | None] = mapped_column(comment="Why it was lifted.")
