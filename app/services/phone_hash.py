"""The keyed hash by which a number is known after its contact is gone: HMAC-SHA-256 of its E.164 form."""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from app.core.security import KEY_BYTES

KEY_ID = 1
"""suppressions.key_id of what this makes."""


class PhoneHasher:
    """Hashes numbers under a key derived from the platform's secret key: without it nobody can try out all numbers."""

    def __init__(self, platform_key: bytes) -> None:
        self._key = HKDFExpand(SHA256(), KEY_BYTES, b"suppressions 1").derive(platform_key)

    def of(self, phone_e164: str) -> bytes:
        """The 32 bytes that stand for `phone_e164`."""
        return hmac.digest(self._key, phone_e164.encode("ascii"), sha256)
