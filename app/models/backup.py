"""backups: copies of the database and of sources, and whether each was proven restorable."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Identity, Index, Integer, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, State, enum_check, moves


class BackupKind(StrEnum):
    """What was copied."""

    FULL = "full"
    INCREMENTAL = "incremental"
    SOURCE = "source"


@moves({"running": ("verified", "failed"), "verified": ("failed",), "failed": ()})
class BackupState(State):
    """How far a backup is to be trusted. A verified one that is later found damaged has failed."""

    RUNNING = "running"
    VERIFIED = "verified"
    FAILED = "failed"


class Backup(Base):
    """One backup."""

    __tablename__ = "backups"
    __table_args__ = (
        enum_check("kind", BackupKind),
        enum_check("state", BackupState),
        Index(None, "parent_id"),
        Index(None, "run_id"),
        {"comment": "Backups of the database and of source files, with the outcome of their verification."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the backup.")
    kind: Mapped[BackupKind] = mapped_column(EnumText(BackupKind), comment="full, incremental or source.")
    label: Mapped[str] = mapped_column(comment="What a person calls it.")
    path: Mapped[str] = mapped_column(comment="Where it is.")
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("backups.id"), comment="Backup that an incremental one builds on."
    )
    run_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey("migration_runs.id"), comment="Migration run that asked for it."
    )
    bytes: Mapped[int | None] = mapped_column(comment="Size on disk.")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was begun.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When the copy was complete.")
    verified_at: Mapped[datetime | None] = mapped_column(comment="When it was last proven whole.")
    state: Mapped[BackupState] = mapped_column(EnumText(BackupState), comment="running, verified or failed.")
    error: Mapped[str | None] = mapped_column(comment="Why it failed.")
