"""segments: audiences as documents. A version, once written, never changes; a campaign freezes one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Json


class Segment(Base):
    """A named audience; what it says is in its versions."""

    __tablename__ = "segments"
    __table_args__ = (
        Index("uq_segments_name", text("lower(name)"), unique=True, postgresql_where=text("archived_at IS NULL")),
        {"comment": "Named audiences; the predicate is in segment_versions."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the segment, inside only.")
    public_id: Mapped[UUID] = mapped_column(
        unique=True,
        server_default=func.gen_random_uuid(),
        comment="Its id outside; UUIDv7 when the application gives it.",
    )
    name: Mapped[str] = mapped_column(comment="What people call it; unique among those in use.")
    description: Mapped[str | None] = mapped_column(comment="What it is for.")
    latest_version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Version that an edit builds on: optimistic locking."
    )
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that it belongs to.")
    archived_at: Mapped[datetime | None] = mapped_column(comment="Since when it is out of use.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was last edited.")


class SegmentVersion(Base):
    """What a segment said at one time. UPDATE is refused by a trigger."""

    __tablename__ = "segment_versions"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(document) = 'object'", name="document_object"),
        {"comment": "Versions of segments; immutable, so that a launched campaign keeps its audience."},
    )

    segment_id: Mapped[int] = mapped_column(ForeignKey("segments.id"), primary_key=True, comment="Segment.")
    version: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, comment="Number of the version, from 1."
    )
    document: Mapped[Json] = mapped_column(comment="The predicate: and / or / not over conditions on contacts.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was written.")
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="Account that wrote it.")
