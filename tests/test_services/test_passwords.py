"""Passwords: which are taken, and that hashing them neither tells who exists nor takes the whole machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.core import security
from app.core.config import AuthSettings
from app.core.errors import InvalidInput, Unavailable
from app.core.security import PasswordHasher
from app.services.password_service import require_acceptable
from tests.sign_in import PASSWORD, hash_of, hasher

EMAIL = "ana.ruiz@example.com"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("Short-one-1", "fewer than 12"),
        ("x1-" * 43, "more than 128"),
        ("lantern\0otter-9", "cannot be typed"),
        ("lantern\ud800otter-9", "cannot be typed"),
        ("aaaaaaaaaaaaaa", "repeats"),
        ("ababababababab", "repeats"),
        ("abcdeabcdeabcde", "sequence or a repetition"),
        ("lantern9lantern9", "sequence or a repetition"),
        ("123456789012", "sequence or a repetition"),
        ("qwertyuiopasdf", "sequence or a repetition"),
        ("lkjhgfdsapoiuytrewq", "sequence or a repetition"),
        ("Password2026!", "tried first"),
        ("P@ssw0rd12345", "tried first"),
        ("contraseña2026", "tried first"),
        ("Bienvenidos-123", "tried first"),
        ("Guadalupe2026!!", "tried first"),
        ("teamomuchomiamor", "tried first"),
        ("Te Amo Mucho Mi Amor", "tried first"),
        ("1qaz2wsx3edc", "tried first"),
        ("ＰＡＳＳＷＯＲＤ１２３４", "tried first"),
        ("anaruiz-lamp-9", "little more than the account"),
        ("lamp-ANA.RUIZ-9", "little more than the account"),
        ("my-sms-platform-1", "little more than the account"),
    ],
)
def test_weak_password_is_refused_with_its_reason(password: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        require_acceptable(password, EMAIL, 12)
    assert caught.value.code == "password_weak"
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    [PASSWORD, "tres lobos cantan al mar", "Xk9#mQ2$vL7w", "ñandú-volador-azul-47",
     "鯨は夜に静かに歌う、三度だけ", "dragon8472910384756",
     "Str0ng-Passw0rd-2026!", "anaruiz-lantern-otter-9", "y" * 5 + "lantern-otter" * 9],
)  # fmt: skip
def test_password_that_is_nobody_elses_is_taken(password: str) -> None:
    require_acceptable(password, EMAIL, 12)


def test_short_name_before_the_at_may_stand_in_a_password() -> None:
    require_acceptable("sunlit-banana-keeps-9-mangos", "ana@example.com", 12)


def test_hash_is_argon2id_with_the_parameters_of_the_settings() -> None:
    assert hash_of(PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    stronger = PasswordHasher(AuthSettings(argon2_passes=3))
    assert stronger.verify(PASSWORD, hash_of(PASSWORD)) == (True, True)
    assert hasher().verify(PASSWORD, hash_of(PASSWORD)) == (True, False)
    assert hasher().verify("another-lantern-9", hash_of(PASSWORD)) == (False, False)
    assert hasher().verify("x" * 129, hash_of(PASSWORD)) == (False, False)
    assert hasher().verify(PASSWORD, "not a hash") == (False, False)


async def test_unknown_account_costs_one_hash_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the clock: by what is computed."""
    ours, computed = hasher(), []
    verify: Callable[[Any, str], bool] = ours._argon2.verify

    def counted(password: Any, hashed: str) -> bool:
        computed.append(hashed.rpartition("$")[0].rpartition("$")[0])
        return verify(password, hashed)

    monkeypatch.setattr(ours._argon2, "verify", counted)
    for given in (hash_of(PASSWORD), None):
        for password in ("wrong-lantern-otter", "x" * 5000):
            assert await ours.verify_in_thread(password, given) == (False, False)
    assert computed == ["$argon2id$v=19$m=19456,t=2,p=1"] * 4


async def test_few_hashes_run_at_once_and_a_long_queue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "HASHES_WAITING", 3)
    running, most = 0, 0
    ours = PasswordHasher(AuthSettings())

    def slow(_: str, __: str) -> tuple[bool, bool]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _turn in range(5):
            time.sleep(0.01)
        running -= 1
        return True, False

    monkeypatch.setattr(ours, "verify", slow)
    ended = await asyncio.gather(*(ours.verify_in_thread("x", "y") for _ in range(20)), return_exceptions=True)
    assert sum(it == (True, False) for it in ended) == security.HASHES_AT_ONCE + 3
    assert {it.code for it in ended if isinstance(it, Unavailable)} == {"sign_in_busy"}
    assert most <= security.HASHES_AT_ONCE
    assert await ours.verify_in_thread("x", "y") == (True, False)
