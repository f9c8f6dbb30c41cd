"""Sign-in and one's own account as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, SecretStr, StringConstraints

from app.models.permission import CallerKind, Permission
from app.models.user import Role
from app.schemas.base import Incoming, Outgoing

TOKEN_CHARACTERS = 4096

Password = Annotated[SecretStr, Field(min_length=1, max_length=1024, examples=["sunlit-otter-carries-9-lanterns"])]
Code = Annotated[str, StringConstraints(strip_whitespace=True, min_length=6, max_length=64)]


class LoginIn(Incoming):
    """Who signs in. `otp` is needed once a second factor is on: a code of the app, or a recovery code."""

    email: str = Field(min_length=1, max_length=320, examples=["ana@example.com"])
    password: Password
    otp: Code | None = Field(None, examples=["492039"])


class TokensOut(Outgoing):
    """Tokens of a session. The refresh token is used once: each answer brings the next."""

    access_token: str = Field(examples=["eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ij…"])
    refresh_token: str = Field(examples=["Zk1f0m3nqv2QeQn2cE5oQ7m7h5eQmVb1s2zq1k9X3aQ"])
    token_type: str = Field("bearer", examples=["bearer"])
    expires_in: int = Field(description="Seconds until the access token ends.", examples=[600])


class RefreshIn(Incoming):
    """The refresh token of the last answer."""

    refresh_token: str = Field(
        min_length=1, max_length=TOKEN_CHARACTERS, examples=["Zk1f0m3nqv2QeQn2cE5oQ7m7h5eQmVb1s2zq1k9X3aQ"]
    )


class PasswordChangeIn(Incoming):
    """A new password; the old one proves who asks."""

    old_password: Password
    new_password: Password


class SecondFactorDisableIn(Incoming):
    """Password and code again, for what must not be done from a screen that was left open."""

    password: Password
    code: Code = Field(examples=["492039"])


class InvitationAcceptIn(Incoming):
    """The token of an invitation, and the password to begin with."""

    token: str = Field(
        min_length=1, max_length=TOKEN_CHARACTERS, examples=["m1kq8Qd8vE2n6cJ2pB0Yc2sTg6s1rXo9a7u3w5y8z0A"]
    )
    password: Password


class MeOut(Outgoing):
    """Who asks, and what he may."""

    kind: CallerKind = Field(examples=["user"])
    id: UUID | None = Field(examples=["01890a5d-ac96-774b-bcce-b302099a8057"])
    email: str = Field(examples=["ana@example.com"])
    role: Role = Field(examples=["manager"])
    permissions: list[Permission] = Field(examples=[["contacts:read", "contacts:reveal", "self"]])


class SessionOut(Outgoing):
    """A sign-in of one's own that has not ended."""

    id: UUID = Field(examples=["01890a5d-ac96-774b-bcce-b302099a8057"])
    created_at: datetime = Field(examples=["2026-01-15T18:30:00Z"])
    refreshed_at: datetime = Field(examples=["2026-01-15T19:30:00Z"])
    expires_at: datetime = Field(examples=["2026-01-29T18:30:00Z"])
    address: str | None = Field(examples=["203.0.113.7"])
    user_agent: str | None = Field(examples=["Mozilla/5.0"])
    is_current: bool = Field(description="The one that asks.", examples=[True])


class SecondFactorSetupOut(Outgoing):
    """What an authenticator app needs; shown once."""

    secret: str = Field(description="Base32.", examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    uri: str = Field(
        description="For a QR code.", examples=["otpauth://totp/SMS:ana@example.com?secret=JBSWY3DPEHPK3PXP&issuer=SMS"]
    )


class SecondFactorConfirmIn(Incoming):
    """A code of the app, which proves that it is set up."""

    code: Code = Field(examples=["492039"])


class RecoveryCodesOut(Outgoing):
    """Codes that stand in for the app, each once; shown once."""

    recovery_codes: list[str] = Field(examples=[["mfrg-gzdf-mztw-q2lk"]])


class JwksOut(Outgoing):
    """Public keys of access tokens (RFC 7517)."""

    keys: list[dict[str, str]] = Field(
        examples=[
            [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": "11qYAYKxCrfVS_7T"}]
        ]
    )
