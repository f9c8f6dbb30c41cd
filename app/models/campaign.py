"""Templates and campaigns: what is said, to whom, when, how fast, and who allowed it."""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, Json, State, enum_check, moves
from app.models.consent import Purpose


@moves(
    {
        "draft": ("in_review", "approved", "cancelled"),  # straight to approved only where review is switched off
        "in_review": ("draft", "approved", "cancelled"),
        "approved": ("draft", "scheduled", "expanding", "cancelled"),  # an edit takes the approval away
        "scheduled": ("draft", "approved", "expanding", "cancelled"),
        "expanding": ("running", "paused", "cancelled"),
        "running": ("paused", "completed", "cancelled"),
        "paused": ("expanding", "running", "cancelled"),
        "completed": (),
        "cancelled": (),
    }
)
class CampaignState(State):
    """The life of a campaign; `moves` above is the only transition table."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    EXPANDING = "expanding"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Which queue; the lower number is served first. A number, because the claim sorts by it."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Template(Base):
    """A named text; what it says is in its versions."""

    __tablename__ = "templates"
    __table_args__ = (
        Index("uq_templates_name", text("lower(name)"), unique=True, postgresql_where=text("archived_at IS NULL")),
        {"comment": "Named message texts; the text is in template_versions."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the template, inside only.")
    public_id: Mapped[UUID] = mapped_column(
        unique=True,
        server_default=func.gen_random_uuid(),
        comment="Its id outside; UUIDv7 when the application gives it.",
    )
    name: Mapped[str] = mapped_column(comment="What people call it; unique among those in use.")
    latest_version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Version that an edit builds on: optimistic locking."
    )
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that it belongs to.")
    archived_at: Mapped[datetime | None] = mapped_column(comment="Since when it is out of use.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was last edited.")


class TemplateVersion(Base):
    """What a template said at one time. UPDATE is refused by a trigger."""

    __tablename__ = "template_versions"
    __table_args__ = ({"comment": "Versions of templates; immutable, so that a launched campaign keeps its text."},)

    template_id: Mapped[int] = mapped_column(ForeignKey("templates.id"), primary_key=True, comment="Template.")
    version: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, comment="Number of the version, from 1."
    )
    body: Mapped[str] = mapped_column(comment="The text, with placeholders in braces.")
    defaults: Mapped[Json] = mapped_column(
        server_default=text("'{}'"), comment="Placeholder → what stands there when a contact has nothing."
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was written.")
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that wrote it.")


class Campaign(Base):
    """One sending of one text to one audience.

    Nothing here is written per message: counts are in campaign_progress, the expansion's watermark in
    campaign_expansions, so that this row is never contended for.
    """

    __tablename__ = "campaigns"
    __table_args__ = (
        enum_check("purpose", Purpose),
        enum_check("state", CampaignState),
        enum_check("priority", Priority),
        CheckConstraint(
            "throttle_per_s > 0 AND canary_share BETWEEN 0 AND 1 AND frequency_cap > 0 AND frequency_days > 0"
            " AND budget_micros >= 0 AND max_error_share BETWEEN 0 AND 1 AND max_opt_out_share BETWEEN 0 AND 1",
            name="limits",
        ),
        CheckConstraint("(frequency_cap IS NULL) = (frequency_days IS NULL)", name="frequency"),
        CheckConstraint("(segment_id IS NULL) = (segment_version IS NULL)", name="segment_frozen"),
        CheckConstraint("(template_id IS NULL) = (template_version IS NULL)", name="template_frozen"),
        CheckConstraint("deadline_at > scheduled_at", name="deadline"),
        CheckConstraint(
            "state IN ('draft', 'cancelled') OR (segment_id IS NOT NULL AND template_id IS NOT NULL)", name="complete"
        ),
        ForeignKeyConstraint(
            ["segment_id", "segment_version"], ["segment_versions.segment_id", "segment_versions.version"]
        ),
        ForeignKeyConstraint(
            ["template_id", "template_version"], ["template_versions.template_id", "template_versions.version"]
        ),
        # What beat looks for: campaigns that something is to be done with.
        Index(
            "ix_campaigns_open",
            "state",
            "scheduled_at",
            postgresql_where=text("state IN ('scheduled', 'expanding', 'running', 'paused')"),
        ),
        Index(None, "created_by"),
        {"comment": "Campaigns: one text to one audience, with its limits and who allowed it."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the campaign; on every message.")
    public_id: Mapped[UUID] = mapped_column(
        unique=True,
        server_default=func.gen_random_uuid(),
        comment="Its id outside; UUIDv7 when the application gives it.",
    )
    name: Mapped[str] = mapped_column(comment="What people call it.")
    purpose: Mapped[Purpose] = mapped_column(
        EnumText(Purpose), comment="marketing or transactional: which consent it needs."
    )
    state: Mapped[CampaignState] = mapped_column(
        EnumText(CampaignState), server_default=text("'draft'"), comment="Where it stands in its life."
    )
    segment_id: Mapped[int | None] = mapped_column(comment="Audience; null while a draft has none.")
    segment_version: Mapped[int | None] = mapped_column(Integer, comment="Version of the audience, frozen at launch.")
    template_id: Mapped[int | None] = mapped_column(comment="Text; null while a draft has none.")
    template_version: Mapped[int | None] = mapped_column(Integer, comment="Version of the text, frozen at launch.")
    sender: Mapped[str | None] = mapped_column(String(16), comment="Number or name that it is sent from.")
    provider: Mapped[str | None] = mapped_column(String(32), comment="Carrier to use; null: by weight and health.")
    priority: Mapped[Priority] = mapped_column(
        SmallInteger, server_default=text("1"), comment="0 high, 1 normal, 2 low; served in strict order."
    )
    throttle_per_s: Mapped[int | None] = mapped_column(
        Integer, comment="Segments a second at most; null: the carrier's."
    )
    canary_share: Mapped[Decimal | None] = mapped_column(
        Numeric(5, 4), comment="Share that is sent first and watched before the rest."
    )
    scheduled_at: Mapped[datetime | None] = mapped_column(comment="When it is to start; null: when launched.")
    deadline_at: Mapped[datetime | None] = mapped_column(comment="What is not submitted by then expires.")
    window_opens_at: Mapped[time] = mapped_column(
        server_default=text("'09:00'"), comment="Earliest hour on the recipient's own clock."
    )
    window_closes_at: Mapped[time] = mapped_column(
        server_default=text("'20:00'"), comment="Hour on the recipient's own clock from which nothing is sent."
    )
    frequency_cap: Mapped[int | None] = mapped_column(
        SmallInteger, comment="Messages that a person may get in frequency_days, this one included."
    )
    frequency_days: Mapped[int | None] = mapped_column(SmallInteger, comment="Days over which frequency_cap counts.")
    budget_micros: Mapped[int | None] = mapped_column(comment="Most that it may cost, in millionths of currency.")
    currency: Mapped[str] = mapped_column(CHAR(3), server_default=text("'MXN'"), comment="ISO 4217.")
    max_error_share: Mapped[Decimal | None] = mapped_column(Numeric(5, 4), comment="Share of errors that halts it.")
    max_opt_out_share: Mapped[Decimal | None] = mapped_column(Numeric(5, 4), comment="Share of opt-outs that halts it.")
    pause_reason: Mapped[str | None] = mapped_column(comment="Why it is paused: a person's words or the halt's code.")
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that drafted it.")
    approved_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that approved it.")
    approved_at: Mapped[datetime | None] = mapped_column(comment="When it was approved; null after an edit.")
    launched_at: Mapped[datetime | None] = mapped_column(comment="When segment and template were frozen.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it was completed or cancelled.")
    version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Grows with every edit and move: optimistic locking."
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was last edited.")


class CampaignMove(Base):
    """One change of a campaign's state: insert-only."""

    __tablename__ = "campaign_moves"
    __table_args__ = (
        enum_check("from_state", CampaignState),
        enum_check("to_state", CampaignState),
        Index(None, "campaign_id", "id"),
        {"comment": "History of campaigns' states; insert-only."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the move.")
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), comment="Campaign.")
    from_state: Mapped[CampaignState] = mapped_column(EnumText(CampaignState), comment="State before.")
    to_state: Mapped[CampaignState] = mapped_column(EnumText(CampaignState), comment="State after.")
    reason: Mapped[str | None] = mapped_column(comment="Why, where it was not plainly asked for.")
    moved_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When.")
    moved_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account; null when the platform did.")


class CampaignExpansion(Base):
    """How far a campaign's audience has been turned into messages; moved on in the transaction that inserts them."""

    __tablename__ = "campaign_expansions"
    __table_args__ = (
        CheckConstraint("next_contact_id <= end_contact_id", name="watermark"),
        {"comment": "Watermark of a campaign's expansion into messages.", "postgresql_with": {"fillfactor": "50"}},
    )

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True, comment="Campaign.")
    messages_created_at: Mapped[datetime] = mapped_column(
        comment="created_at of all its messages: with an id it names a message's partition."
    )
    next_contact_id: Mapped[int] = mapped_column(comment="Contacts below this one are done.")
    end_contact_id: Mapped[int] = mapped_column(comment="One more than the last contact id at launch.")
    first_message_id: Mapped[int | None] = mapped_column(comment="First of its messages' ids.")
    last_message_id: Mapped[int | None] = mapped_column(comment="Last of its messages' ids so far.")
    expanded: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages made so far.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When a window was last done.")


class CampaignProgress(Base):
    """Counts of one slice of a campaign. The sum over slices is what the live view shows.

    Slices keep workers off each other's rows; the fill factor leaves the page room for the next versions (HOT).
    """

    __tablename__ = "campaign_progress"
    __table_args__ = (
        {
            "comment": "Counts by state per campaign and slice, written once per batch of outcomes.",
            "postgresql_with": {"fillfactor": "20"},
        },
    )

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True, comment="Campaign.")
    slice: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="Worker's slice, so that workers do not meet."
    )
    queued: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages waiting; slices may go below zero.")
    claimed: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages claimed by a worker.")
    submitting: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages being handed over.")
    submitted: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages that the carrier took.")
    delivered: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages delivered.")
    undelivered: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages that did not arrive.")
    failed: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages that the carrier refused.")
    expired: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages past their deadline.")
    suppressed: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages that may not be sent.")
    deferred: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages put off to another hour.")
    cancelled: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages of a cancelled campaign.")
    unknown: Mapped[int] = mapped_column(server_default=text("0"), comment="Messages whose outcome is not known.")
    segments: Mapped[int] = mapped_column(server_default=text("0"), comment="SMS segments submitted.")
    cost_micros: Mapped[int] = mapped_column(server_default=text("0"), comment="Cost so far, millionths of currency.")
    opt_outs: Mapped[int] = mapped_column(server_default=text("0"), comment="Replies that opted out.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was last written.")
