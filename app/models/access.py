"""What sign-in stands on: sessions, refresh tokens, second factors, invitations, API keys, signing keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.dialects.postgresql import ARRAY, INET
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.models.base import Base, EnumText, enum_check


class RevokeReason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    LOGOUT_EVERYWHERE = "logout_everywhere"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason
    REUSE_DETECTED = "reuse_detected"
    USER_DISABLED = "user_disabled"
    SECOND_FACTOR_CHANGED = "second_factor_changed"


class AuthSession(Base):
    """One sign-in of a person on one device: the family of its refresh tokens."""

    __tablename__ = "auth_sessions"
    __table_args__ = (
        enum_check("revoke_reason", RevokeReason),
        CheckConstraint("(revoked_at IS NULL) = (revoke_reason IS NULL)", name="revoked"),
        Index("ix_auth_sessions_user_id", "user_id"),
        {"comment": "Sign-ins; the family that a refresh token belongs to."},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, comment="UUIDv7; `sid` of access tokens.")
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="Whose sign-in it is.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When the person signed in.")
    refreshed_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="Last refresh.")
    expires_at: Mapped[datetime] = mapped_column(comment="End of the session, however often it is refreshed.")
    revoked_at: Mapped[datetime | None] = mapped_column(comment="When it was ended early.")
    revoke_reason: Mapped[RevokeReason | None] = mapped_column(
        EnumText(RevokeReason), comment="Why it was ended early."
    )
    address: Mapped[str | None] = mapped_column(INET, comment="Where the sign-in came from.")
    user_agent: Mapped[str | None] = mapped_column(comment="Program that signed in, at most 300 characters.")


class RefreshToken(Base):
    """One refresh token. It is used once; a second use after the retry window revokes the session."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index("ix_refresh_tokens_session_id", "session_id"),
        {"comment": "Refresh tokens, as SHA-256: the token itself is nowhere."},
    )

    token_hash: Mapped[bytes] = mapped_column(primary_key=True, comment="SHA-256 of the token (256 random bits).")
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("auth_sessions.id", ondelete="CASCADE"), comment="Family of the token."
    )
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was handed out.")
    used_at: Mapped[datetime | None] = mapped_column(comment="When it was exchanged; null: not yet.")


class SecondFactor(Base):
    """A person's TOTP secret (RFC 6238), encrypted with the platform's secret key."""

    __tablename__ = "second_factors"
    __table_args__ = ({"comment": "TOTP secrets, encrypted; one an account."},)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, comment="Whose it is.")
    secret: Mapped[bytes] = mapped_column(comment="AES-256-GCM: nonce, ciphertext, tag.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was set up.")
    confirmed_at: Mapped[datetime | None] = mapped_column(
        comment="When the person first gave a right code; before that it is not asked for."
    )
    last_step: Mapped[int | None] = mapped_column(
        comment="Newest 30-second step whose code was used: none is used twice."
    )


class RecoveryCode(Base):
    """A single-use code in place of the second factor."""

    __tablename__ = "recovery_codes"
    __table_args__ = ({"comment": "Recovery codes, as SHA-256."},)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, comment="Whose it is.")
    code_hash: Mapped[bytes] = mapped_column(primary_key=True, comment="SHA-256 of the code (80 random bits).")
    used_at: Mapped[datetime | None] = mapped_column(comment="When it was used; null: not yet.")


class Invitation(Base):
    """A link by which a person sets the first password of an account, or a new one after a reset."""

    __tablename__ = "invitations"
    __table_args__ = (
        Index("ix_invitations_user_id", "user_id"),
        {"comment": "Single-use links to set a password, as SHA-256."},
    )

    token_hash: Mapped[bytes] = mapped_column(primary_key=True, comment="SHA-256 of the token (256 random bits).")
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="Account that it opens.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    created_by: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="Who invited; null: the command line."
    )
    expires_at: Mapped[datetime] = mapped_column(comment="Until when it can be used.")
    used_at: Mapped[datetime | None] = mapped_column(comment="When it was used; null: not yet.")


class ApiKey(Base):
    """A key for machines: shown once, kept as SHA-256, with scopes and an end."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("cardinality(scopes) > 0", name="scopes"),
        Index("ix_api_keys_owner_id", "owner_id"),
        {"comment": "API keys of accounts, as SHA-256; the key is shown once."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the key, inside only.")
    public_id: Mapped[UUID] = mapped_column(unique=True, comment="UUIDv7: its id outside.")
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="Account in whose name it acts.")
    name: Mapped[str] = mapped_column(comment="What it is for, in the owner's words.")
    prefix: Mapped[str] = mapped_column(
        unique=True, comment="First characters of the key, by which it is found and told."
    )
    key_hash: Mapped[bytes] = mapped_column(comment="SHA-256 of the whole key (256 random bits).")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="Permissions it has, if its owner has them too.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    created_by: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), comment="Who made it; null: the command line."
    )
    expires_at: Mapped[datetime] = mapped_column(comment="Until when it works.")
    revoked_at: Mapped[datetime | None] = mapped_column(comment="Since when it no longer works.")
    last_used_at: Mapped[datetime | None] = mapped_column(comment="Last use, exact to a minute.")
    last_used_from: Mapped[str | None] = mapped_column(INET, comment="Address of the last use.")


class SigningKey(Base):
    """An Ed25519 key that signs access tokens. The newest that is active signs; all that are not retired verify."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        Index("ix_signing_keys_created_at", text("created_at DESC")),
        {"comment": "Keys that sign access tokens; private halves are encrypted."},
    )

    kid: Mapped[str] = mapped_column(primary_key=True, comment="RFC 7638 thumbprint of the public key.")
    public_key: Mapped[bytes] = mapped_column(comment="Raw Ed25519 public key, 32 bytes.")
    private_key: Mapped[bytes] = mapped_column(comment="AES-256-GCM of the raw private key: nonce, ciphertext, tag.")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was made.")
    retired_at: Mapped[datetime | None] = mapped_column(comment="Since when it verifies nothing any more.")
