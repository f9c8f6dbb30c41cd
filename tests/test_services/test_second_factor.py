"""The second factor: codes of the clock and recovery codes, each used once, whoever asks at the same time."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from app.core.errors import Conflict, Forbidden, NotFound, TooMany, Unauthenticated
from app.models.permission import SYSTEM, Caller
from app.services import second_factor_service, user_service
from app.services.auth_service import SignIn
from app.services.second_factor_service import code_at
from app.services.user_service import UserView
from tests.sign_in import PASSWORD, Clock, Desk, at_once

OTHER = "quiet-harbour-keeps-3-umbrellas"


def code(secret: str, clock: Clock, steps: int = 0) -> str:
    return code_at(base64.b32decode(secret), int(clock.now.timestamp()) // 30 + steps)


async def switched_on(desk: Desk, clock: Clock) -> tuple[UserView, Caller, str, tuple[str, ...]]:
    """An account with a second factor: who it is, its secret, its recovery codes."""
    user = await desk.add()
    _, caller = await desk.enter(user)
    setup = await desk.auth.set_up_second_factor(caller, desk.origin)
    codes = await desk.auth.confirm_second_factor(caller, code(setup.secret, clock), desk.origin)
    clock.forward(minutes=2)
    return user, caller, setup.secret, codes


async def refusal(desk: Desk, user: UserView, otp: str | None, password: str = PASSWORD) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await desk.login(user, otp, password=password)
    return caught.value.code


@pytest.mark.parametrize(
    ("seconds", "digits"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_rfc_6238(seconds: int, digits: str) -> None:
    assert code_at(b"12345678901234567890", seconds // 30) == digits


async def test_setup_is_what_an_authenticator_reads(desk: Desk, clock: Clock) -> None:
    user = await desk.add()
    _, caller = await desk.enter(user)
    setup = await desk.auth.set_up_second_factor(caller, desk.origin)
    uri = urlsplit(setup.uri)
    assert (uri.scheme, uri.netloc, uri.path.endswith(f":{user.email.replace('@', '%40')}")) == (
        "otpauth",
        "totp",
        True,
    )
    assert parse_qs(uri.query) == {
        "secret": [setup.secret], "issuer": ["SMS Platform"], "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"],
    }  # fmt: skip
    assert len(base64.b32decode(setup.secret)) == 20
    kept = str(desk.rows("SELECT secret FROM second_factors"))
    assert str(base64.b32decode(setup.secret)) not in kept


async def test_factor_counts_once_it_was_confirmed_and_other_sessions_end(desk: Desk, clock: Clock) -> None:
    user = await desk.add()
    elsewhere, _ = await desk.enter(user)
    _, caller = await desk.enter(user)
    with pytest.raises(NotFound):
        await desk.auth.confirm_second_factor(caller, "123456", desk.origin)
    first = await desk.auth.set_up_second_factor(caller, desk.origin)
    setup = await desk.auth.set_up_second_factor(caller, desk.origin)
    assert (await desk.login(user)).access_token
    for wrong in (code(first.secret, clock), "", "12345", "abcdef", "１２３４５６"):
        with pytest.raises(Unauthenticated):
            await desk.auth.confirm_second_factor(caller, wrong, desk.origin)
    typed = code(setup.secret, clock)
    codes = await desk.auth.confirm_second_factor(caller, f"{typed[:3]} {typed[3:]}", desk.origin)
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([a-z2-7]{4}-){3}[a-z2-7]{4}", it) for it in codes)
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(elsewhere.access_token, desk.origin)
    for again in (
        desk.auth.confirm_second_factor(caller, typed, desk.origin),
        desk.auth.set_up_second_factor(caller, desk.origin),
    ):
        with pytest.raises(Conflict):
            await again
    assert await refusal(desk, user, None) == "otp_required"
    async with desk.db.transaction() as session:
        assert (await user_service.get(session, user.public_id)).has_second_factor


async def test_code_counts_a_step_around_the_present_one_and_once(desk: Desk, clock: Clock) -> None:
    user, _, secret, _ = await switched_on(desk, clock)
    for off in (-2, 2):
        assert await refusal(desk, user, code(secret, clock, off)) == "otp_invalid"
    assert (await desk.login(user, code(secret, clock, -1))).access_token
    now = code(secret, clock)
    assert (await desk.login(user, now)).access_token
    assert await refusal(desk, user, now) == "otp_invalid"
    assert await refusal(desk, user, code(secret, clock, -1)) == "otp_invalid"  # a step before one that was used
    assert (await desk.login(user, code(secret, clock, 1))).access_token
    assert await refusal(desk, user, code(secret, clock, 1)) == "otp_invalid"


async def test_of_sign_ins_at_once_with_one_code_one_comes_through(desk: Desk, clock: Clock) -> None:
    user, _, secret, codes = await switched_on(desk, clock)
    for otp in (code(secret, clock), codes[0]):
        ended = await at_once(*(desk.login(user, otp) for _ in range(4)))
        assert sum(isinstance(it, SignIn) for it in ended) == 1
        assert {it.code for it in ended if isinstance(it, Unauthenticated)} == {"otp_invalid"}


async def test_recovery_code_counts_once_however_it_is_typed(desk: Desk, clock: Clock) -> None:
    user, _, _, codes = await switched_on(desk, clock)
    assert (await desk.login(user, codes[0].upper().replace("-", " "))).access_token
    assert await refusal(desk, user, codes[0]) == "otp_invalid"
    assert (await desk.login(user, codes[1])).access_token
    kept = str(desk.rows("SELECT code_hash FROM recovery_codes")) + str(desk.rows("SELECT detail FROM audit_events"))
    assert not any(it in kept or it.replace("-", "") in kept for it in codes)


async def test_codes_cannot_be_guessed_by_who_has_the_password(desk: Desk, clock: Clock) -> None:
    user, caller, _, codes = await switched_on(desk, clock)
    assert await refusal(desk, user, None, OTHER) == "credentials_invalid"  # nothing is said of the factor
    for n in range(9):
        assert await refusal(desk, user, None) == "otp_required"  # asking does not clear what was counted
        acts = desk.auth.disable_second_factor(caller, PASSWORD, "000000", desk.origin)
        with pytest.raises(Unauthenticated):
            await (acts if n % 2 else desk.login(user, "000000"))
        if not n % 2:
            acts.close()
    for last in (desk.login(user, codes[0]), desk.auth.disable_second_factor(caller, PASSWORD, codes[0], desk.origin)):
        with pytest.raises(TooMany):
            await last
    clock.forward(minutes=15)
    assert (await desk.login(user, codes[0])).access_token


async def test_switching_off_needs_password_and_code(desk: Desk, clock: Clock) -> None:
    user, caller, secret, codes = await switched_on(desk, clock)
    elsewhere = await desk.login(user, code(secret, clock, -1))
    wrong = ((OTHER, code(secret, clock)), (PASSWORD, "000000"), (PASSWORD, ""))
    for password, otp in wrong:
        with pytest.raises(Unauthenticated):
            await desk.auth.disable_second_factor(caller, password, otp, desk.origin)
    await desk.auth.disable_second_factor(caller, PASSWORD, code(secret, clock), desk.origin)
    with pytest.raises(NotFound):
        await desk.auth.disable_second_factor(caller, PASSWORD, codes[0], desk.origin)
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(elsewhere.access_token, desk.origin)
    assert (await desk.login(user)).access_token
    assert desk.rows("SELECT count(*) FROM recovery_codes") == [(0,)]
    assert [it for it in desk.events() if it[0].startswith("second_factor")] == [
        ("second_factor.set_up", "ok"), ("second_factor.on", "ok"),
        *[("second_factor.off", "refused")] * 3, ("second_factor.off", "ok"),
    ]  # fmt: skip


async def test_reset_by_an_administrator_ends_the_sessions(desk: Desk, clock: Clock) -> None:
    user, _, secret, _ = await switched_on(desk, clock)
    signed_in = await desk.login(user, code(secret, clock))
    async with desk.db.transaction() as session:
        view = await user_service.reset_second_factor(session, SYSTEM, user.public_id, desk.origin)
        assert not view.has_second_factor
        with pytest.raises(Conflict):
            await user_service.reset_second_factor(session, SYSTEM, user.public_id, desk.origin)
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(signed_in.access_token, desk.origin)
    assert (await desk.login(user)).access_token
    with pytest.raises(Forbidden):
        await desk.auth.set_up_second_factor(SYSTEM, desk.origin)


async def test_secret_of_one_account_does_not_open_for_another(desk: Desk, clock: Clock) -> None:
    user, _, _, _ = await switched_on(desk, clock)
    async with desk.db.transaction() as session:
        ((number,),) = desk.rows("SELECT id FROM users WHERE public_id = %s", user.public_id)
        assert await second_factor_service.is_on(session, number)
        assert not await second_factor_service.use(session, desk.vault, number + 1, "123456")
