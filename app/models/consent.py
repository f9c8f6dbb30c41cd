"""consents: what a person allowed or withdrew, when, and how we know. Rows are only ever added."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, enum_check


class Purpose(StrEnum):
    """What a message is for; consent is given per purpose."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"


class ConsentAction(StrEnum):
    """What the person did."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class ConsentChannel(StrEnum):
    """The way it reached us."""

    SMS = "sms"
    WEB_FORM = "web_form"
    CALL = "call"
    PAPER = "paper"
    IMPORT = "import"
    API = "api"
    MANUAL = "manual"


class Consent(Base):
    """One act of consent or withdrawal. The newest act per contact and purpose is the state; no row means no consent.

    UPDATE is refused by a trigger. DELETE comes only with the contact itself (erasure, roll-back of a run); the
    application's database role has no right to it.
    """

    __tablename__ = "consents"
    __table_args__ = (
        enum_check("purpose", Purpose),
        enum_check("action", ConsentAction),
        enum_check("channel", ConsentChannel),
        # Answers 'what holds now' from the index alone, inside every claim of messages.
        Index(
            "ix_consents_current",
            "contact_id",
            "purpose",
            text("happened_at DESC"),
            text("id DESC"),
            postgresql_include=["action"],
        ),
        {"comment": "Append-only acts of consent and withdrawal, with their evidence."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the act.")
    contact_id: Mapped[int] = mapped_column(
        ForeignKey("contacts.id", ondelete="CASCADE"), comment="Person who consented or withdrew."
    )
    purpose: Mapped[Purpose] = mapped_column(EnumText(Purpose), comment="marketing or transactional.")
    action: Mapped[ConsentAction] = mapped_column(EnumText(ConsentAction), comment="granted or withdrawn.")
    channel: Mapped[ConsentChannel] = mapped_column(EnumText(ConsentChannel), comment="The way it reached us.")
    happened_at: Mapped[datetime] = mapped_column(comment="When the person did it; the newest one holds.")
    source: Mapped[str] = mapped_column(comment="Form, shop, list or inbound message that it came from.")
    evidence: Mapped[str | None] = mapped_column(comment="Reference to the proof: document, recording, message id.")
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was written here.")
    recorded_by: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="Account that recorded it; null when the platform did."
    )
    approved_by: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="Second account that approved a bulk recording."
    )
