"""What secrets stand on: the platform's key, sealing with it, random tokens and their digests, password hashes, ids."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pwdlib.hashers.argon2 import Argon2Hasher

from app.core import clock
from app.core.config import AuthSettings, Settings
from app.core.errors import Broken, InvalidInput, Unavailable

KEY_BYTES = 32
NONCE_BYTES = 12
SHORTEST_SECRET = 32
LONGEST_PASSWORD = 128
"""Characters. argon2 takes any length, but a body of a megabyte must not be normalised and hashed for a stranger."""
HASHES_AT_ONCE = max(1, min(4, os.cpu_count() or 1))
"""Password hashes of a process at the same time: each holds AuthSettings.argon2_memory_kib and a processor."""
HASHES_WAITING = 100
"""More are refused: whoever stands behind them would wait for seconds."""

P = ParamSpec("P")
T = TypeVar("T")


def secret_key(settings: Settings) -> bytes:
    """The platform's key of 32 bytes, the same in all processes: from SMS_SECRET_KEY, else from a file of SMS_DATA_DIR.

    Raises: InvalidInput when there is none in production, or one too short to be a secret.
    """
    if settings.secret_key is not None:
        text = settings.secret_key.get_secret_value()
        if len(text) < SHORTEST_SECRET:
            raise InvalidInput(
                f"SMS_SECRET_KEY has fewer than {SHORTEST_SECRET} characters: take `openssl rand -hex 32`.",
                code="secret_key",
            )
    elif settings.environment == "production":
        raise InvalidInput(
            "SMS_SECRET_KEY is needed in production: take `openssl rand -hex 32` and keep it with the backups.",
            code="secret_key",
        )
    else:
        text = _kept_secret(settings.data_dir.expanduser().resolve() / "secrets" / "secret_key")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"sms-platform 1").derive(text.encode())


def _kept_secret(path: Path) -> str:
    """The text of `path`. Who finds none makes one and links it into place: of several at once one is kept."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(secrets.token_hex(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    text = path.read_text(encoding="ascii").strip()
    if len(text) < SHORTEST_SECRET:
        raise InvalidInput(f"{path} holds no secret key: remove it, or put the right one back.", code="secret_key")
    return text


class Vault:
    """Seals small secrets with AES-256-GCM. What was sealed for one purpose does not open for another."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """Nonce, ciphertext and tag of `plain`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """What was sealed.

        Raises: Broken when it was changed, sealed with another key, or for another purpose.
        """
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise Broken(
                "A sealed secret does not open: SMS_SECRET_KEY is another than when it was sealed, or it was changed.",
                code="sealed_secret",
            ) from error


def new_token() -> str:
    """256 random bits, fit for a URL."""
    return secrets.token_urlsafe(KEY_BYTES)


def digest(token: str) -> bytes:
    """SHA-256 of `token`, as it is kept. Random tokens need no slow hash: there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): in the order of creation, so that an index grows at its end."""
    milliseconds = int(clock.utc_now().timestamp() * 1000)
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & ((1 << 48) - 1)) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class PasswordHasher:
    """argon2id with the parameters of the settings. The same password typed in another Unicode form is the same.

    Each hash costs tens of milliseconds and megabytes: the *_in_thread methods run few at once and refuse a long queue.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._argon2 = Argon2Hasher(settings.argon2_passes, settings.argon2_memory_kib, parallelism=1)
        self._nobody = self.hash(new_token())
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="argon2")
        self._under_way = 0

    def hash(self, password: str) -> str:
        """The hash of `password` in PHC notation, with a salt of its own."""
        return self._argon2.hash(_normal(password))

    def verify(self, password: str, hashed: str) -> tuple[bool, bool]:
        """Whether `password` is the one of `hashed`, and whether it should be hashed again (parameters have grown)."""
        if len(password) > LONGEST_PASSWORD:
            self.burn("")
            return False, False
        matches = self._argon2.verify(_normal(password), hashed)
        return matches, matches and self._argon2.check_needs_rehash(hashed)

    def burn(self, password: str) -> None:
        """Take as long as a verification: whether an account exists must not be heard from the time an answer takes."""
        self._argon2.verify(_normal(password[:LONGEST_PASSWORD]), self._nobody)

    async def hash_in_thread(self, password: str) -> str:
        """hash(), beside the event loop.

        Raises: Unavailable when too many wait.
        """
        return await self._in_thread(self.hash, password)

    async def verify_in_thread(self, password: str, hashed: str | None) -> tuple[bool, bool]:
        """verify(), beside the event loop; without a hash burn(), and no.

        Raises: Unavailable when too many wait.
        """
        if hashed is None:
            await self._in_thread(self.burn, password)
            return False, False
        return await self._in_thread(self.verify, password, hashed)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        if self._under_way >= HASHES_AT_ONCE + HASHES_WAITING:
            raise Unavailable("Too many sign-ins at the moment: try again.", code="sign_in_busy")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._under_way -= 1


def _normal(password: str) -> bytes:
    """NFKC in UTF-8 (NIST SP 800-63B); half a surrogate pair is kept, so that any text has a hash."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
