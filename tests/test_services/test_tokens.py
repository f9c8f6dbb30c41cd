"""Access tokens: what is not ours is refused, whatever it looks like; keys are rotated and retired by all processes."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from app.core.async_database import Database
from app.core.config import ApiSettings, Settings
from app.core.errors import Broken, Conflict, InvalidInput, NotFound, Unauthenticated
from app.core.security import Vault, new_id, secret_key
from app.models.permission import SYSTEM, Origin
from app.models.user import Role
from app.services import token_service
from app.services.token_service import SEALED_FOR, TokenSigner
from tests.sign_in import Clock, Desk, open_desk

ORIGIN = Origin()


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def private_key(desk: Desk) -> tuple[str, Ed25519PrivateKey]:
    ((kid, sealed),) = desk.rows("SELECT kid, private_key FROM signing_keys")
    return kid, Ed25519PrivateKey.from_private_bytes(desk.vault.open(sealed, SEALED_FOR))


async def refusal(desk: Desk, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await desk.auth.authenticate(token, ORIGIN)
    return caught.value.code


async def test_token_holds_until_its_end_and_no_longer(desk: Desk, clock: Clock) -> None:
    signed_in, _ = await desk.enter(await desk.add())
    clock.forward(minutes=10)
    assert (await desk.auth.authenticate(signed_in.access_token, ORIGIN)).email
    clock.forward(seconds=6)
    assert await refusal(desk, signed_in.access_token) == "token_expired"
    clock.forward(hours=-2)
    signed_in, _ = await desk.enter(await desk.add())
    clock.forward(minutes=-1)
    async with open_desk(desk.settings, desk.url, None) as other:
        assert await refusal(other, signed_in.access_token) == "token_invalid"


async def test_tokens_of_another_make_are_refused(desk: Desk) -> None:
    signed_in, _ = await desk.enter(await desk.add())
    kid, key = await private_key(desk)
    good = jwt.decode(signed_in.access_token, options={"verify_signature": False})
    header, stranger = {"kid": kid, "typ": "at+jwt"}, Ed25519PrivateKey.generate()

    def signed(changes: dict[str, Any] | None = None, by: Ed25519PrivateKey = key, **of_header: Any) -> str:
        claims = {name: value for name, value in {**good, **(changes or {})}.items() if value is not None}
        return jwt.encode(claims, by, "EdDSA", {**header, **of_header})

    raw = key.public_key().public_bytes_raw()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    odd: list[object] = ["1", 1.5, True, [], {}]
    head, body, signature = signed_in.access_token.split(".")
    forged = [f"{part({'alg': alg, **header})}.{part(good)}." for alg in ("none", "None", "NONE")]
    for secret in (raw, pem, b"", kid.encode()):
        unsigned = f"{part({'alg': 'HS256', **header})}.{part(good)}"
        mac = base64.urlsafe_b64encode(hmac.digest(secret, unsigned.encode(), "sha256")).rstrip(b"=").decode()
        forged.append(f"{unsigned}.{mac}")
    forged += [signed(by=stranger), signed(by=stranger, jwk={"kty": "OKP"}, jku="https://evil.example/keys")]
    forged += [signed(kid=other) for other in ("x", "", "../../etc/passwd", "' OR 1=1 --")]
    forged += [signed(typ=other) for other in ("JWT", "jwt", "", "AT+JWT", "refresh+jwt")]
    forged += [signed({name: None}) for name in ("iss", "aud", "exp", "iat", "sub", "sid", "ver")]
    forged += [signed({"iss": "other"}), signed({"aud": "other"}), signed({"aud": ["sms-api", "other"]})]
    forged += [signed({name: value}) for name in ("exp", "iat", "ver") for value in odd]
    forged += [signed({"sub": "1"}), signed({"sid": "*"}), signed({"sub": str(uuid4())}), signed({"sid": str(uuid4())})]
    forged += [
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{part({**good, 'role': 'admin'})}.{signature}",
        "",
        ".",
        "..",
    ]
    forged += ["a.b.c", "\ud800", "é", "a" * 10_000, signed_in.refresh_token, signed_in.access_token + "A"]
    for token in forged:
        assert await refusal(desk, token) == "token_invalid", token
    assert await refusal(desk, signed({"ver": 2})) == "session_ended"
    assert (await desk.auth.authenticate(signed(), ORIGIN)).email


async def test_role_in_a_token_decides_nothing(desk: Desk) -> None:
    user = await desk.add(Role.ANALYST)
    _, caller = await desk.enter(user)
    assert caller.session_id is not None
    token, _ = desk.signer.sign(user.public_id, caller.session_id, 1, Role.ADMIN)
    assert (await desk.auth.authenticate(token, ORIGIN)).role is Role.ANALYST


async def test_processes_that_start_at_once_share_one_first_key(settings: Settings, database_url: str) -> None:
    vault = Vault(secret_key(settings))
    databases = [Database(database_url, ApiSettings(pool_size=1)) for _ in range(5)]
    signers = [TokenSigner(db, vault, settings.auth) for db in databases]
    await asyncio.gather(*(signer.start() for signer in signers))
    keys = {key["kid"] for signer in signers for key in signer.jwks()["keys"]}
    assert len(keys) == 1
    token, _ = signers[0].sign(uuid4(), new_id(), 1, Role.ADMIN)
    for signer in signers:
        assert (await signer.verify(token)).kid in keys
    for db in databases:
        await db.close()


async def test_old_tokens_hold_after_a_rotation_until_their_key_is_retired(desk: Desk, clock: Clock) -> None:
    user = await desk.add()
    before, _ = await desk.enter(user)
    old, _ = await private_key(desk)
    async with open_desk(desk.settings, desk.url, None) as other:
        async with other.db.transaction() as session:
            new = await token_service.rotate(session, other.vault, SYSTEM, ORIGIN)
        desk.signer._loaded_at = other.signer._loaded_at = float("-inf")  # as some seconds later
        assert kid_of((await other.login(user)).access_token) == old  # others may not have heard of the new one
        clock.forward(seconds=10)
        other.signer._loaded_at = float("-inf")
        after = await other.login(user)
        assert kid_of(after.access_token) == new
        for token in (before.access_token, after.access_token):
            assert (await desk.auth.authenticate(token, ORIGIN)).public_id == user.public_id
        async with other.db.transaction() as session:
            await token_service.retire(session, old, SYSTEM, ORIGIN)
            await token_service.retire(session, old, SYSTEM, ORIGIN)
        assert await refusal(desk, before.access_token) == "token_invalid"
        assert (await desk.auth.authenticate(after.access_token, ORIGIN)).public_id == user.public_id
        desk.signer._loaded_at = float("-inf")
        await desk.signer.keep_fresh()
        assert [key["kid"] for key in desk.signer.jwks()["keys"]] == [new]
        refreshed = await desk.auth.refresh(before.refresh_token, ORIGIN)
        assert kid_of(refreshed.access_token) == new
    assert ("signing_key.retire", "ok") in desk.events()
    assert desk.events().count(("signing_key.retire", "ok")) == 1


async def test_key_that_signs_cannot_be_retired_nor_one_that_is_not(desk: Desk) -> None:
    kid, _ = await private_key(desk)
    async with desk.db.transaction() as session:
        with pytest.raises(Conflict):
            await token_service.retire(session, kid, SYSTEM, ORIGIN)
        with pytest.raises(NotFound):
            await token_service.retire(session, "none", SYSTEM, ORIGIN)
        (key,) = await token_service.list_keys(session)
    assert (key.kid, key.signs, key.retired_at) == (kid, True, None)


async def test_unknown_key_ids_do_not_reach_the_database_each_time(desk: Desk) -> None:
    signed_in, _ = await desk.enter(await desk.add())
    good = jwt.decode(signed_in.access_token, options={"verify_signature": False})
    loads: list[int] = []
    load = desk.signer.load

    async def counted() -> None:
        loads.append(1)
        await load()

    desk.signer.load = counted  # type: ignore[method-assign]
    desk.signer._loaded_at = float("-inf")
    for n in range(20):
        token = jwt.encode(good, Ed25519PrivateKey.generate(), "EdDSA", {"kid": f"k{n}", "typ": "at+jwt"})
        assert await refusal(desk, token) == "token_invalid"
    assert len(loads) == 1


async def test_keys_do_not_open_with_another_secret(desk: Desk) -> None:
    other = TokenSigner(desk.db, Vault(bytes(32)), desk.settings.auth)
    with pytest.raises(Broken):
        await other.start()
    async with desk.db.transaction() as session:
        await token_service.rotate(session, Vault(bytes(32)), SYSTEM, ORIGIN)


def test_public_keys_are_named_by_their_thumbprint() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert token_service.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # RFC 8037, A.3


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_secret_key_is_one_for_all_and_only_its_owner_reads_it(tmp_path: Path, settings: Settings) -> None:
    fresh = settings.model_copy(update={"data_dir": tmp_path / "var"})
    keys = {secret_key(fresh) for _ in range(3)}
    path = tmp_path / "var" / "secrets" / "secret_key"
    assert len(keys) == 1
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert [it.name for it in path.parent.iterdir()] == ["secret_key"]
    given = fresh.model_copy(update={"secret_key": SecretStr("k" * 32)})
    assert secret_key(given) not in keys
    for bad in ({"secret_key": SecretStr("short")}, {"environment": "production"}):
        with pytest.raises(InvalidInput):
            secret_key(fresh.model_copy(update=bad))


def test_vault_opens_nothing_that_was_changed_or_meant_for_something_else() -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal(b"secret", "one purpose")
    assert vault.open(sealed, "one purpose") == b"secret"
    assert vault.seal(b"secret", "one purpose") != sealed
    for changed, purpose in ((sealed, "another"), (sealed[:-1], "one purpose"), (b"", "one purpose"),
                             (bytes([sealed[0] ^ 1]) + sealed[1:], "one purpose")):  # fmt: skip
        with pytest.raises(Broken):
            vault.open(changed, purpose)
    with pytest.raises(Broken):
        Vault(b"\1" * 32).open(sealed, "one purpose")


def test_ids_are_uuid7_in_the_order_of_their_making(clock: Clock) -> None:
    ids = [new_id() for _ in range(50)]
    assert ids == sorted(ids)
    assert {(it.version, it.variant) for it in ids} == {(7, "specified in RFC 4122")}
