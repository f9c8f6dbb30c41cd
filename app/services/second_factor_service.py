"""The second factor: one-time codes by the clock (TOTP, RFC 6238), and recovery codes for the day the phone is lost."""

from __future__ import annotations

import base64
import hmac
import os
import struct
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.errors import Conflict, NotFound, Unauthenticated
from app.core.security import Vault, digest
from app.models.access import RecoveryCode, SecondFactor
from app.models.permission import Caller, Origin
from app.services import audit_service

STEP_S, DIGITS, SECRET_BYTES = 30, 6, 20
WINDOW = 1
"""Steps before and after the present one whose codes are taken: clocks of phones are not exact."""
CODES, CODE_BYTES = 10, 10
SEALED_FOR = "second factor"
ISSUER = "SMS Platform"


@dataclass(frozen=True, slots=True)
class SecondFactorSetup:
    """What a person puts into an authenticator, shown once: the secret in base32, and as a URI for a QR code."""

    secret: str
    uri: str


def code_at(secret: bytes, step: int) -> str:
    """The six digits of a step (RFC 4226, section 5.3, with SHA-1 as every authenticator has it)."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    offset = mac[-1] & 0x0F
    value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{value % 10**DIGITS:0{DIGITS}d}"


async def set_up(session: AsyncSession, vault: Vault, caller: Caller, origin: Origin) -> SecondFactorSetup:
    """Give an account a secret. It counts from the first right code on (`confirm`); before that it may be made anew.

    Raises: Conflict when a second factor is on.
    """
    user_id = _user(caller)
    secret = os.urandom(SECRET_BYTES)
    fresh = {"secret": vault.seal(secret, _purpose(user_id)), "created_at": clock.utc_now(), "last_step": None}
    made = insert(SecondFactor).values(user_id=user_id, **fresh)
    replaced = made.on_conflict_do_update(
        index_elements=[SecondFactor.user_id], set_=fresh, where=SecondFactor.confirmed_at.is_(None)
    )
    if await session.scalar(replaced.returning(SecondFactor.user_id)) is None:
        raise Conflict("A second factor is on: switch it off first.", code="second_factor_on")
    await audit_service.record(
        session, caller, "second_factor.set_up", origin=origin, object_type="user", object_id=str(caller.public_id)
    )
    text = base64.b32encode(secret).decode("ascii")
    query = urlencode(
        {"secret": text, "issuer": ISSUER, "algorithm": "SHA1", "digits": DIGITS, "period": STEP_S}, quote_via=quote
    )
    return SecondFactorSetup(text, f"otpauth://totp/{quote(ISSUER)}:{quote(caller.email)}?{query}")


async def confirm(session: AsyncSession, vault: Vault, caller: Caller, code: str, origin: Origin) -> tuple[str, ...]:
    """Switch the second factor on with a first right code; the recovery codes, shown once.

    Raises: NotFound when none was set up, Conflict when it is on, Unauthenticated for a wrong code.
    """
    user_id = _user(caller)
    row = await session.scalar(
        select(SecondFactor).where(SecondFactor.user_id == user_id).with_for_update(key_share=True)
    )
    if row is None:
        raise NotFound("Set a second factor up first.", code="second_factor_missing")
    if row.confirmed_at is not None:
        raise Conflict("The second factor is on already.", code="second_factor_on")
    if not await _use_totp(session, vault, user_id, _cleaned(code)):
        raise Unauthenticated("The code is wrong.", code="otp_invalid")
    await session.execute(
        update(SecondFactor).where(SecondFactor.user_id == user_id).values(confirmed_at=clock.utc_now())
    )
    codes = tuple(_readable(os.urandom(CODE_BYTES)) for _ in range(CODES))
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    await session.execute(insert(RecoveryCode), [{"user_id": user_id, "code_hash": _digest(it)} for it in codes])
    await audit_service.record(
        session, caller, "second_factor.on", origin=origin, object_type="user", object_id=str(caller.public_id)
    )
    return codes


async def remove(session: AsyncSession, user_id: int) -> bool:
    """Take the second factor and its recovery codes off an account; whether there was one. The caller audits it."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    gone = await session.scalar(
        delete(SecondFactor).where(SecondFactor.user_id == user_id).returning(SecondFactor.user_id)
    )
    return gone is not None


async def is_on(session: AsyncSession, user_id: int) -> bool:
    """Whether sign-in asks for a code."""
    found = select(SecondFactor.user_id).where(SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None))
    return await session.scalar(found) is not None


async def use(session: AsyncSession, vault: Vault, user_id: int, code: str) -> bool:
    """Whether `code` is right: a code of the clock, or a recovery code. Each is used once, whoever asks at the same time."""
    cleaned = _cleaned(code)
    if cleaned.isascii() and cleaned.isdigit() and len(cleaned) == DIGITS:
        return await _use_totp(session, vault, user_id, cleaned)
    used = (
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id, RecoveryCode.code_hash == _digest(cleaned), RecoveryCode.used_at.is_(None)
        )
        .values(used_at=clock.utc_now())
    )
    return await session.scalar(used.returning(RecoveryCode.user_id)) is not None


async def _use_totp(session: AsyncSession, vault: Vault, user_id: int, code: str) -> bool:
    sealed = await session.scalar(select(SecondFactor.secret).where(SecondFactor.user_id == user_id))
    if sealed is None:
        return False
    secret = vault.open(sealed, _purpose(user_id))
    now = int(clock.utc_now().timestamp()) // STEP_S
    steps = [
        step
        for step in range(now - WINDOW, now + WINDOW + 1)
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode("utf-8", "replace"))
    ]
    for step in steps:
        taken = (
            update(SecondFactor)
            .where(
                SecondFactor.user_id == user_id, or_(SecondFactor.last_step.is_(None), SecondFactor.last_step < step)
            )
            .values(last_step=step)
        )
        if await session.scalar(taken.returning(SecondFactor.user_id)) is not None:
            return True
    return False


def _user(caller: Caller) -> int:
    if caller.user_id is None or caller.session_id is None:
        raise Conflict("Only a signed-in person has a second factor.", code="second_factor_of_person")
    return caller.user_id


def _purpose(user_id: int) -> str:
    return f"{SEALED_FOR} {user_id}"


def _readable(data: bytes) -> str:
    """80 bits in base32, in groups of four: abcd-efgh-ijkl-mnop."""
    text = base64.b32encode(data).decode("ascii").lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _cleaned(code: str) -> str:
    """As people type it: with spaces, hyphens, capitals."""
    return "".join(code.split()).replace("-", "").lower()


def _digest(code: str) -> bytes:
    return digest(_cleaned(code))
