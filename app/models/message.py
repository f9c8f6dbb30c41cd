"""messages and what the sending engine works with: chunks, attempts, submissions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    String,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, State, enum_check, moves
from app.models.campaign import Priority
from app.models.consent import Purpose

MESSAGE_FILLFACTOR = 45
"""Measured: at 45 every first update of a message is HOT, at 70 four in ten, and the disk after sending is the same."""


@moves(
    {
        # The engine writes a message once, when its outcome is known: 'claimed' and 'submitting' are then told by its
        # chunk alone, and queued goes straight to the outcome. They are stored where one message is sent by itself.
        "queued": (
            *("claimed", "submitting", "submitted", "failed", "unknown"),
            *("deferred", "suppressed", "expired", "cancelled"),
        ),
        "deferred": ("queued", "claimed", "suppressed", "expired", "cancelled"),
        # Claimed is not yet promised to anyone: it may be put back.
        "claimed": ("submitting", "queued", "deferred", "suppressed", "expired", "cancelled", "unknown"),
        # From here on only an outcome ends it; what is not known stays unknown and is never sent again by itself.
        "submitting": ("submitted", "failed", "unknown", "queued"),
        "unknown": ("submitted", "delivered", "undelivered", "failed", "expired", "queued"),
        "submitted": ("delivered", "undelivered", "failed", "expired"),
        "delivered": (),
        "undelivered": (),
        "failed": (),
        "expired": (),
        "suppressed": (),
        "cancelled": (),
    }
)
class MessageState(State):
    """Where one message stands. Back to queued from submitting or unknown: the carrier says that it never took it."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    CLAIMED = "claimed"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    SUBMITTED = "submitted"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class Encoding(StrEnum):
    """Alphabet of a message."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


@moves(
    {
        "queued": ("claimed", "closed"),
        "claimed": ("queued", "closed", "lost"),
        "lost": ("queued", "closed"),
        "closed": (),
    }
)
class ChunkState(State):
    """Where one chunk stands. Lost: its lease ran out and the reaper is settling what it left open."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    LOST = "lost"
    CLOSED = "closed"


MESSAGE_IDS = Sequence("messages_id_seq", data_type=BigInteger, metadata=Base.metadata)


class Message(Base):
    """One text to one contact.

    Partitioned by month of created_at, so that old months are dropped and not deleted. Made for hundreds of millions:
    - nothing that changes is indexed and pages are 45 % full, so every update is HOT;
    - no foreign keys to contacts and campaigns: each doubles the time of an insert (1M rows: 2.3 s without, 5.4 s with
      one), and a contact can be erased without touching messages (its number is read at the claim and not kept here);
    - ids come from a sequence, because identity columns of partitioned tables need PostgreSQL 17, and an expansion
      reserves a contiguous block of them for a campaign;
    - found by (provider, provider_message_id) through submissions, which carries id and created_at.
    """

    __tablename__ = "messages"
    __table_args__ = (
        enum_check("purpose", Purpose),
        enum_check("state", MessageState),
        enum_check("encoding", Encoding),
        CheckConstraint("segments BETWEEN 0 AND 255 AND attempt >= 0 AND cost_micros >= 0", name="counts"),
        # A person's history and erasure find messages by it; it never changes, so updates stay HOT (insert +15 %).
        Index("ix_messages_contact_id", "contact_id"),
        {
            "comment": "Messages, one per recipient; partitioned by month of created_at, fillfactor 45 on partitions.",
            "postgresql_partition_by": "RANGE (created_at)",
        },
    )

    id: Mapped[int] = mapped_column(
        primary_key=True,
        autoincrement=False,
        server_default=text("nextval('messages_id_seq')"),
        comment="Number of the message; contiguous within a window of a campaign's expansion.",
    )
    created_at: Mapped[datetime] = mapped_column(
        primary_key=True, server_default=func.now(), comment="When it was made; names its partition, never changes."
    )
    campaign_id: Mapped[int | None] = mapped_column(
        comment="Campaign; null for a single message. No foreign key: see the model."
    )
    contact_id: Mapped[int] = mapped_column(comment="Recipient. No foreign key: see the model.")
    state_changed_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When state was last set.")
    not_before: Mapped[datetime | None] = mapped_column(comment="Deferred until then.")
    submitted_at: Mapped[datetime | None] = mapped_column(comment="When the carrier took it.")
    settled_at: Mapped[datetime | None] = mapped_column(
        comment="When its final state was reached, by the carrier's clock."
    )
    cost_micros: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="Cost in millionths of the campaign's currency."
    )
    segments: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), comment="SMS segments that are billed; 0 until rendered."
    )
    attempt: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), comment="How often it has been claimed for sending."
    )
    purpose: Mapped[Purpose] = mapped_column(EnumText(Purpose, 16), comment="marketing or transactional.")
    state: Mapped[MessageState] = mapped_column(
        EnumText(MessageState, 16), server_default=text("'queued'"), comment="Where it stands; see MessageState."
    )
    encoding: Mapped[Encoding | None] = mapped_column(
        EnumText(Encoding, 4), comment="gsm7 or ucs2; null until rendered."
    )
    sender: Mapped[str | None] = mapped_column(
        String(16), comment="Number or name it is sent from; null: the campaign's."
    )
    provider: Mapped[str | None] = mapped_column(String(32), comment="Carrier it was last given to.")
    reason: Mapped[str | None] = mapped_column(
        String(64), comment="Why it was suppressed, deferred, failed or undelivered, as a code."
    )
    body: Mapped[str | None] = mapped_column(
        comment="Rendered text; null: the template's version as it stands. Emptied by erasure."
    )


class MessageChunk(Base):
    """A range of messages of one campaign: what a worker claims, FOR UPDATE SKIP LOCKED. The queue of record.

    The exclusion constraint is the backstop of 'no message has two submissions': no message is in two open chunks.
    """

    __tablename__ = "message_chunks"
    __table_args__ = (
        enum_check("priority", Priority),
        enum_check("state", ChunkState),
        CheckConstraint("lo <= hi", name="range"),
        CheckConstraint(
            "(state = 'claimed') = (lease_until IS NOT NULL) AND (state = 'claimed') <= (worker IS NOT NULL)",
            name="lease",
        ),
        ExcludeConstraint(
            (literal_column("int8range(lo, hi, '[]'::text)"), "&&"),
            name="ex_message_chunks_open",
            using="gist",
            where=text("state <> 'closed'"),
        ),
        # The claim: highest priority first, oldest first within it. Closed chunks are in neither index.
        Index("ix_message_chunks_claim", "priority", "not_before", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_message_chunks_lease", "lease_until", postgresql_where=text("state = 'claimed'")),
        Index("ix_message_chunks_campaign_id", "campaign_id", postgresql_where=text("state <> 'closed'")),
        {
            "comment": "Ranges of messages waiting for, or held by, a worker: the queue of record.",
            "postgresql_with": {
                "fillfactor": "50",
                # A queue dies of dead rows: vacuum by number of changes and not by share of the table.
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "500",
                "autovacuum_vacuum_cost_delay": "0",
            },
        },
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the chunk.")
    campaign_id: Mapped[int | None] = mapped_column(
        ForeignKey("campaigns.id"), comment="Campaign; null for a single message."
    )
    lo: Mapped[int] = mapped_column(comment="First message id.")
    hi: Mapped[int] = mapped_column(comment="Last message id, inclusive.")
    message_created_at: Mapped[datetime] = mapped_column(comment="created_at of its messages: which partition.")
    not_before: Mapped[datetime] = mapped_column(server_default=func.now(), comment="Not to be claimed before then.")
    lease_until: Mapped[datetime | None] = mapped_column(
        comment="The worker's until then, unless renewed; it stops by its own clock before."
    )
    priority: Mapped[Priority] = mapped_column(
        SmallInteger, server_default=text("1"), comment="0 high, 1 normal, 2 low."
    )
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"), comment="How often it was claimed.")
    state: Mapped[ChunkState] = mapped_column(
        EnumText(ChunkState, 16), server_default=text("'queued'"), comment="queued, claimed, lost or closed."
    )
    worker: Mapped[str | None] = mapped_column(comment="Who holds it, or held it last.")


class ChunkAttempt(Base):
    """A claim of a chunk, committed with it and before any call to a carrier: the intent. Insert-only."""

    __tablename__ = "chunk_attempts"
    __table_args__ = ({"comment": "Claims of chunks, recorded before the first message is sent; insert-only."},)

    chunk_id: Mapped[int] = mapped_column(ForeignKey("message_chunks.id"), primary_key=True, comment="Chunk.")
    attempt: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="message_chunks.attempt of the claim."
    )
    worker: Mapped[str] = mapped_column(comment="Who claimed it.")
    provider: Mapped[str | None] = mapped_column(String(32), comment="Carrier that it was meant for.")
    claimed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp(), comment="When."
    )
    lease_until: Mapped[datetime] = mapped_column(comment="The first lease.")


class Submission(Base):
    """A message that a carrier took, by the carrier's own id. Insert-only, by binary COPY of whole batches.

    Its key is what receipts look for and the last guard against counting one hand-over twice. Not partitioned: the key
    must be unique over all time. No foreign key to messages: it would cost a look-up per row and pin old partitions.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        Index("ix_submissions_message_id", "message_id"),
        {"comment": "Messages that a carrier took: the carrier's id → ours; insert-only."},
    )

    provider: Mapped[str] = mapped_column(String(32), primary_key=True, comment="Carrier.")
    provider_message_id: Mapped[str] = mapped_column(String(100), primary_key=True, comment="Its id of the message.")
    message_id: Mapped[int] = mapped_column(comment="messages.id.")
    message_created_at: Mapped[datetime] = mapped_column(comment="messages.created_at: which partition.")
    submitted_at: Mapped[datetime] = mapped_column(
        server_default=func.clock_timestamp(), comment="When the carrier's answer came."
    )
    chunk_id: Mapped[int | None] = mapped_column(comment="Chunk that it was sent with.")
    attempt: Mapped[int] = mapped_column(SmallInteger, comment="messages.attempt that it belongs to.")
    segments: Mapped[int] = mapped_column(SmallInteger, comment="Segments that the carrier counted, or we did.")
    cost_micros: Mapped[int] = mapped_column(Integer, server_default=text("0"), comment="Cost, millionths of currency.")
