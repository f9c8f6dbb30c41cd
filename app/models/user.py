"""users: the people (and machines) that may sign in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, enum_check


class Role(StrEnum):
    """What a user is to the platform; permissions hang on it."""

    ADMIN = "admin"
    MANAGER = "manager"
    MARKETER = "marketer"
    ANALYST = "analyst"
    COMPLIANCE = "compliance"
    SERVICE = "service"


class User(Base):
    """An account. It is disabled, never deleted: what it did must keep a name."""

    __tablename__ = "users"
    __table_args__ = (
        enum_check("role", Role),
        CheckConstraint("email = lower(email)", name="email_lower"),
        {"comment": "Accounts of people and machines."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the account, inside only.")
    public_id: Mapped[UUID] = mapped_column(
        unique=True,
        server_default=func.gen_random_uuid(),
        comment="Its id outside; UUIDv7 when the application gives it.",
    )
    email: Mapped[str] = mapped_column(unique=True, comment="Address to sign in with, lower case.")
    full_name: Mapped[str | None] = mapped_column(comment="Name of the person.")
    role: Mapped[Role] = mapped_column(
        EnumText(Role), comment="admin, manager, marketer, analyst, compliance or service."
    )
    password_hash: Mapped[str | None] = mapped_column(
        comment="argon2id in PHC notation; null until an invitation is accepted."
    )
    password_changed_at: Mapped[datetime | None] = mapped_column(comment="When the password was last set.")
    token_version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Carried in every token; raising it ends all sessions at once."
    )
    disabled_at: Mapped[datetime | None] = mapped_column(comment="Since when the account may not sign in.")
    last_login_at: Mapped[datetime | None] = mapped_column(comment="Last successful sign-in.")
    version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Grows with every edit: optimistic locking."
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was last edited.")
