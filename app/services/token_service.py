"""Access tokens: JWTs of minutes, signed with Ed25519 keys that all processes share through the database.

RFC 8725 and RFC 9068: one algorithm, a type of its own, and issuer, audience, times and key id checked. The signature is
not the last word: auth_service reads account and session for each request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.types import Options
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.async_database import Database
from app.core.config import AuthSettings
from app.core.errors import Conflict, NotFound, Unauthenticated
from app.core.security import Vault, digest
from app.models.access import SigningKey
from app.models.permission import Caller, Origin
from app.models.user import Role
from app.services import audit_service

ALGORITHM = "EdDSA"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type
SEALED_FOR = "signing key"
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "sid", "ver", "jti"]
CHECKS: Options = {
    "require": REQUIRED, "strict_aud": True, "verify_exp": False, "verify_iat": False, "verify_nbf": False,
}  # fmt: skip
"""Times are checked here, by the platform's clock."""
LEEWAY_S = 5
"""Clocks of our own machines differ by so much."""
LONGEST_TOKEN = 4096
REMEMBERED = 10_000
"""Tokens of which a process remembers that their signature is right: it is looked at once, not with each request."""
RELOAD_PAUSE_S = 5.0
"""An unknown key id makes us look into the database, at most once in so long: whoever sends nonsense costs nothing."""
KEY_LOCK = 7_302_022
"""Advisory lock of whoever makes a signing key."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: the account's public id, its session, the version of its tokens; `kid` signed it."""

    sub: UUID
    sid: UUID
    ver: int
    kid: str
    exp: int


@dataclass(frozen=True, slots=True)
class KeyView:
    """A signing key as people see it. `signs`: new tokens are signed with it, ten seconds after it was made."""

    kid: str
    created_at: datetime
    retired_at: datetime | None
    signs: bool


class TokenSigner:
    """Signs and verifies access tokens with the keys of the database."""

    def __init__(self, db: Database, vault: Vault, settings: AuthSettings) -> None:
        self._db = db
        self._vault = vault
        self._settings = settings
        self._public: dict[str, Ed25519PublicKey] = {}
        self._signing: tuple[str, Ed25519PrivateKey] | None = None
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._remembered: OrderedDict[bytes, Claims] = OrderedDict()

    async def start(self) -> None:
        """Load the keys, and make the first where there is none.

        Raises: Broken when they do not open with this secret key; Unavailable without a database.
        """
        async with self._db.transaction() as session:
            await _lock(session)
            if await session.scalar(select(SigningKey.kid).where(SigningKey.retired_at.is_(None)).limit(1)) is None:
                await _make(session, self._vault)
        await self.load()

    async def load(self) -> None:
        """Read the keys that are not retired. The newest signs, once every process has had the time to hear of it."""
        alive = select(SigningKey).where(SigningKey.retired_at.is_(None))
        async with self._db.transaction() as session:
            keys = (await session.scalars(alive.order_by(SigningKey.created_at.desc(), SigningKey.kid))).all()
        self._public = {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in keys}
        if keys:
            known = clock.utc_now() - timedelta(seconds=2 * RELOAD_PAUSE_S)
            signing = next((key for key in keys if key.created_at <= known), keys[-1])
            raw = self._vault.open(signing.private_key, SEALED_FOR)
            self._signing = signing.kid, Ed25519PrivateKey.from_private_bytes(raw)
        self._loaded_at = time.monotonic()

    def sign(self, user_id: UUID, session_id: UUID, token_version: int, role: Role) -> tuple[str, int]:
        """(token, seconds it lives). `role` is a hint for clients; what counts is in the database."""
        if self._signing is None:
            raise Conflict("There is no signing key: `smsctl keys rotate`.", code="signing_key_missing")
        kid, key = self._signing
        life = self._settings.access_minutes * 60
        now = int(clock.utc_now().timestamp())
        claims = {
            "iss": self._settings.issuer, "aud": self._settings.audience, "sub": str(user_id), "sid": str(session_id),
            "ver": token_version, "role": role.value, "iat": now, "exp": now + life, "jti": uuid4().hex,
        }  # fmt: skip
        return jwt.encode(claims, key, ALGORITHM, {"kid": kid, "typ": TOKEN_TYPE}), life

    async def verify(self, token: str) -> Claims:
        """What a token of ours says.

        Raises: Unauthenticated `token_expired`, or `token_invalid` for everything else.
        """
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise _invalid()
        name = digest(token)
        claims = self._remembered.get(name)
        if claims is None or claims.kid not in self._public:
            claims = await self._read(token)
            self._remembered[name] = claims
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        if (
            claims.exp + LEEWAY_S <= clock.utc_now().timestamp()
        ):  # by the platform's clock, which the library does not ask
            raise Unauthenticated("The access token has expired: refresh it.", code="token_expired")
        return claims

    async def keep_fresh(self) -> None:
        """Read the keys again unless that was seconds ago, before one signs or is shown: others may have rotated them."""
        if self._may_reload():
            async with self._loading:
                if self._may_reload():
                    await self.load()

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys (RFC 7517) for whoever checks our tokens."""
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "alg": ALGORITHM, "use": "sig", "kid": kid,
                 "x": base64_url(key.public_bytes_raw())}
                for kid, key in sorted(self._public.items())
            ]
        }  # fmt: skip

    async def _read(self, token: str) -> Claims:
        """What the token says after all checks but that of its end."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TOKEN_TYPE or header.get("alg") != ALGORITHM:
                raise _invalid()
            key = await self._key(header.get("kid"))
            claims = jwt.decode(
                token, key, [ALGORITHM], audience=self._settings.audience, issuer=self._settings.issuer, options=CHECKS
            )
            latest = clock.utc_now().timestamp() + LEEWAY_S
            if _integer(claims["iat"]) > latest or _integer(claims.get("nbf", 0)) > latest:
                raise _invalid()
            named = UUID(claims["sub"]), UUID(claims["sid"])
            return Claims(*named, _integer(claims["ver"]), str(header["kid"]), _integer(claims["exp"]))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise _invalid() from error

    async def _key(self, kid: object) -> Ed25519PublicKey:
        if not isinstance(kid, str):
            raise _invalid()
        if kid not in self._public:
            await self.keep_fresh()
        if kid not in self._public:
            raise _invalid()
        return self._public[kid]

    def _may_reload(self) -> bool:
        return time.monotonic() - self._loaded_at > RELOAD_PAUSE_S


async def rotate(session: AsyncSession, vault: Vault, caller: Caller, origin: Origin) -> str:
    """Make a new key, with which tokens are signed from now on; its key id. The old ones still verify."""
    await _lock(session)
    kid = await _make(session, vault)
    await audit_service.record(
        session, caller, "signing_key.rotate", origin=origin, object_type="signing_key", object_id=kid
    )
    return kid


async def retire(session: AsyncSession, kid: str, caller: Caller, origin: Origin) -> None:
    """Let a key verify nothing any more, from the next request on (identity_service asks).

    Raises: NotFound; Conflict for the one that signs.
    """
    await _lock(session)
    keys = {key.kid: key for key in await list_keys(session)}
    if kid not in keys:
        raise NotFound("There is no such key: see `smsctl keys list`.", code="signing_key_not_found")
    if keys[kid].signs:
        raise Conflict("This key signs: run `smsctl keys rotate` first.", code="signing_key_in_use")
    if keys[kid].retired_at is not None:
        return
    await session.execute(update(SigningKey).where(SigningKey.kid == kid).values(retired_at=clock.utc_now()))
    await audit_service.record(
        session, caller, "signing_key.retire", origin=origin, object_type="signing_key", object_id=kid
    )


async def list_keys(session: AsyncSession) -> tuple[KeyView, ...]:
    """Every key, newest first."""
    rows = (await session.scalars(select(SigningKey).order_by(SigningKey.created_at.desc(), SigningKey.kid))).all()
    signs = next((row.kid for row in rows if row.retired_at is None), None)
    return tuple(KeyView(row.kid, row.created_at, row.retired_at, row.kid == signs) for row in rows)


def base64_url(data: bytes) -> str:
    """Base64 for URLs, without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def thumbprint(public: bytes) -> str:
    """The key id of an Ed25519 key (RFC 7638, RFC 8037): these members, in this order, without spaces."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": base64_url(public)}
    return base64_url(sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


async def _lock(session: AsyncSession) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(KEY_LOCK)))


async def _make(session: AsyncSession, vault: Vault) -> str:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    kid = thumbprint(public)
    newest = await session.scalar(select(func.max(SigningKey.created_at)))
    now = clock.utc_now()
    created = max(now, newest + timedelta(microseconds=1)) if newest else now
    values = {
        "kid": kid, "public_key": public, "private_key": vault.seal(private.private_bytes_raw(), SEALED_FOR),
        "created_at": created,
    }  # fmt: skip
    await session.execute(insert(SigningKey).values(values))
    return kid


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value


def _invalid() -> Unauthenticated:
    return Unauthenticated("The token is none of ours.", code="token_invalid")
